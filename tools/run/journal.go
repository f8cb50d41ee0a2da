package run

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Event is one line of journal.jsonl.
type Event struct {
	Time       time.Time `json:"time"`
	Step       string    `json:"step"`
	Kind       string    `json:"event"` // start, skip, attempt, heal, done, fail
	Attempt    int       `json:"attempt,omitempty"`
	DurationMS int64     `json:"duration_ms,omitempty"`
	Strategy   string    `json:"strategy,omitempty"`
	Node       string    `json:"node,omitempty"`
	Bytes      int64     `json:"bytes,omitempty"`
	Class      string    `json:"class,omitempty"`
	Signature  string    `json:"signature,omitempty"`
	Error      string    `json:"error,omitempty"`
	Detail     string    `json:"detail,omitempty"` // what was skipped, healed or proven
}

// The kinds of events.
const (
	Start   = "start"
	Skip    = "skip"
	Try     = "attempt"
	Healed  = "heal"
	Done    = "done"
	Failed  = "fail"
	journal = "journal.jsonl"
)

// Journal appends events to journal.jsonl, each synced before Add returns, so
// that a run killed at any moment leaves what it knew. Safe for concurrent use.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	events []Event
	sink   func(Event)
	err    error
}

// OpenJournal creates the journal of a run. sink, if not nil, also gets every
// event, in order.
func OpenJournal(f Folder, sink func(Event)) (*Journal, error) {
	file, err := os.OpenFile(f.File(journal), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{file: file, sink: sink}, nil
}

// Add writes one event. A journal that cannot be written (a full disk) must
// not end the run: the first error is kept for Close.
func (j *Journal) Add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil && j.err == nil {
		j.err = fmt.Errorf("write journal: %w", err)
	}
	if j.sink != nil {
		j.sink(e)
	}
}

// Events returns a copy of what was added so far.
func (j *Journal) Events() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Event(nil), j.events...)
}

// Close closes the file and returns the first error of any Add.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.file.Close(); err != nil && j.err == nil {
		j.err = err
	}
	return j.err
}
