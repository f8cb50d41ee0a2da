package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Kind is what sort of thing a change made.
type Kind string

// The kinds of change.
const (
	KindService   Kind = "service"   // a daemon of ours; stopped by Undo
	KindConfig    Kind = "config"    // a file in the runtime folder; removed by Undo
	KindDirectory Kind = "directory" // a folder; removed by Undo if it is empty
	KindPackage   Kind = "package"   // installed software; kept, and said so
	KindData      Kind = "data"      // a folder with all that is in it; removed by Undo
	KindSpool     Kind = "spool"     // a folder for an engine's temporary files; removed by Undo
	KindBridge    Kind = "bridge"    // a network bridge that our dockerd made; removed by Undo
	KindMachine   Kind = "machine"   // a Podman machine; kept, and said so
	KindSysctl    Kind = "sysctl"    // a kernel setting, NAME=VALUE; set back by Undo
)

// Change is one thing this project did to the host.
type Change struct {
	Kind Kind      `json:"kind"`
	What string    `json:"what"`          // a path, or a name
	Was  string    `json:"was,omitempty"` // the value before, of a setting
	Why  string    `json:"why"`
	Time time.Time `json:"time"`
}

// String is the change as it is announced.
func (c Change) String() string { return fmt.Sprintf("%s %s (%s)", c.Kind, c.What, c.Why) }

func (h *host) recordFile() string { return filepath.Join(h.StateDir, "changes.json") }

// announce says what is about to be done and puts it on record first, so that
// a run killed in between leaves nothing that Undo does not know of.
func (h *host) announce(c Change) error {
	h.Log.Info("changing this host", "what", string(c.Kind)+" "+c.What, "why", c.Why)
	return h.record(c)
}

// record is announce without the saying so.
func (h *host) record(c Change) error {
	c.Time = time.Now().UTC().Truncate(time.Second)
	h.made = append(h.made, c)
	all, err := h.readRecord()
	if err != nil {
		return err
	}
	for _, old := range all {
		if old.Kind == c.Kind && old.What == c.What {
			return nil
		}
	}
	return h.writeRecord(append(all, c))
}

// readRecord returns what is on record. A file that cannot be read as one is
// moved aside: what it held is lost, but nothing else is.
func (h *host) readRecord() ([]Change, error) {
	data, err := os.ReadFile(h.recordFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record of changes: %w", err)
	}
	var all []Change
	if err := json.Unmarshal(data, &all); err != nil {
		aside := h.recordFile() + ".corrupt"
		h.Log.Warn("record of changes is corrupt; moved aside", "file", aside, "error", err)
		return nil, os.Rename(h.recordFile(), aside)
	}
	return all, nil
}

func (h *host) writeRecord(all []Change) error {
	if len(all) == 0 {
		if err := os.Remove(h.recordFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove record of changes: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(h.StateDir, 0o700); err != nil {
		return fmt.Errorf("create state folder: %w", err)
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	tmp := h.recordFile() + ".new"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write record of changes: %w", err)
	}
	return os.Rename(tmp, h.recordFile())
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
