package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/lock"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Holder is who holds a lock.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d (%s), since %s", h.PID, h.Command, h.Since.Local().Format(time.TimeOnly))
}

// Lock keeps other processes of this user from working on the same cluster.
type Lock struct {
	file *flock.Flock
	side string
}

// Acquire takes the lock of the cluster called name, kept in dir. While
// another process holds it, Acquire waits, tells report whom it waits for, and
// when ctx ends fails with that name in the error.
func Acquire(ctx context.Context, dir, name string, report progress.Func) (*Lock, error) {
	path := filepath.Join(dir, name+".lock")
	side := path + ".json"
	file, err := lock.Take(ctx, path, func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the folder of locks: %w", err)
		}
		return nil
	}, func() {
		report.Or()(progress.Update{What: "cluster " + name, Line: "waiting for " + readHolder(side).String()})
	})
	if ctx.Err() != nil && err != nil {
		h := readHolder(side)
		remedy := "wait for it to end, or set E2E_CLUSTER=<another name>"
		if h.PID != 0 {
			remedy = fmt.Sprintf("wait for it to end, or end it: kill %d", h.PID)
		}
		return nil, failure.New(failure.StaleState, fmt.Sprintf("cluster %q is in use by %s", name, h), remedy, err)
	}
	if err != nil {
		return nil, err
	}
	l := &Lock{file, side}
	return l, l.sign()
}

// sign writes who holds the lock where waiting processes can read it.
func (l *Lock) sign() error {
	raw, err := json.Marshal(Holder{PID: os.Getpid(), Command: commandLine(), Since: time.Now()})
	if err == nil {
		err = writeFile(l.side, raw)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("sign lock %q: %w", l.side, err), l.Release())
	}
	return nil
}

// Discard gives the lock up and removes its file.
func (l *Lock) Discard() error {
	return errors.Join(remove(l.file.Path()), l.Release())
}

// Release gives the lock up; its file stays for the next holder.
func (l *Lock) Release() error {
	return errors.Join(remove(l.side), l.file.Unlock())
}

func readHolder(path string) Holder {
	var h Holder
	if raw, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(raw, &h) // unreadable: an unknown holder
	}
	return h
}

// commandLine is this process's program and arguments, short enough for one
// line. Mage's targets carry no secret in theirs.
func commandLine() string {
	line := strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " ")
	if len(line) > 80 {
		line = line[:80] + "…"
	}
	return line
}

// hold takes the lock unless the caller has it.
func (c Cluster) hold(ctx context.Context) (func(), error) {
	if c.Lock != nil {
		return func() {}, nil
	}
	l, err := Acquire(ctx, c.StateDir, c.Name, c.Progress)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := l.Release(); err != nil {
			c.Log.Warn("release the cluster's lock", "cluster", c.Name, "error", err)
		}
	}, nil
}

// Record is what is remembered of a cluster outside the cluster, so that one
// whose making was cut off is recognised, and teardown finds its kubeconfig.
type Record struct {
	Name       string   `json:"name"`
	Provider   string   `json:"provider"`
	Kubeconfig string   `json:"kubeconfig"`
	Complete   bool     `json:"complete"` // it was ready once
	Nodes      []string `json:"nodes"`    // container IDs of a complete one
}

func recordPath(dir, name, provider string) string {
	return filepath.Join(dir, name+"."+provider+".cluster.json")
}

func (c Cluster) readRecord() (Record, bool) {
	raw, err := os.ReadFile(recordPath(c.StateDir, c.Name, c.Provider))
	var r Record
	if err != nil || json.Unmarshal(raw, &r) != nil || r.Name != c.Name || r.Provider != c.Provider {
		return Record{}, false
	}
	return r, true
}

func (c Cluster) writeRecord(complete bool, nodes []engine.Container) error {
	rec := Record{Name: c.Name, Provider: c.Provider, Kubeconfig: c.Kubeconfig, Complete: complete}
	for _, n := range nodes {
		rec.Nodes = append(rec.Nodes, n.ID)
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return err
	}
	return writeFile(recordPath(c.StateDir, c.Name, c.Provider), raw)
}

// Records lists the clusters remembered in dir. A folder that is not there
// holds none, and a file that cannot be read is passed over.
func Records(dir string) []Record {
	files, _ := filepath.Glob(filepath.Join(dir, "*.cluster.json"))
	var all []Record
	for _, f := range files {
		var r Record
		raw, err := os.ReadFile(f)
		if err == nil && json.Unmarshal(raw, &r) == nil && recordPath(dir, r.Name, r.Provider) == f {
			all = append(all, r)
		}
	}
	return all
}
