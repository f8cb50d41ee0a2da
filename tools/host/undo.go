package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Undo takes back what this project did to the host, as far as it can be: our
// services end, our configuration goes, folders we made go if they are empty. It
// returns a line for each thing removed and for each one kept (packages). With
// nothing to do it succeeds.
func Undo(ctx context.Context, o Options) ([]string, error) {
	h := newHost(o)
	var done []string
	var errs []error
	if fileExists(h.RuntimeDir) {
		unlock, err := h.lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	for _, d := range []daemon{h.podmanService(), h.dockerService()} {
		_, runs := d.Find()
		if !runs && !d.Stale() {
			continue
		}
		if err := d.Stop(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, "stopped "+d.Name+" service "+d.url())
	}
	all, err := h.readRecord()
	if err != nil {
		errs = append(errs, err)
	}
	var kept []Change
	for _, c := range all {
		line, keep, err := h.undo(ctx, c)
		if line != "" {
			done = append(done, line)
		}
		if keep {
			kept = append(kept, c)
		}
		errs = append(errs, err)
	}
	errs = append(errs, h.writeRecord(kept))
	if len(errs) == 0 || errors.Join(errs...) == nil {
		lines, err := h.clearRuntimeDir()
		done, errs = append(done, lines...), append(errs, err)
	}
	return done, errors.Join(errs...)
}

func (h *host) undo(ctx context.Context, c Change) (line string, keep bool, err error) {
	switch c.Kind {
	case KindPackage, KindMachine:
		return fmt.Sprintf("kept %s %s: others may use it by now", c.Kind, c.What), true, nil
	case KindDirectory:
		if entries, err := os.ReadDir(c.What); err != nil || len(entries) > 0 {
			return "", false, nil // gone, or in use by now and no longer ours
		}
		if h.facts.UID == 0 {
			err = os.Remove(c.What)
		} else if prefix, privErr := h.privilege(ctx); privErr == nil {
			_, err = h.output(ctx, prefix[0], append(prefix[1:], "rmdir", c.What)...)
		}
		if err != nil {
			return "", true, fmt.Errorf("remove %s: %w", c.What, err)
		}
		return "removed " + c.What, false, nil
	case KindBridge:
		if !fileExists(filepath.Join(h.root, "sys/class/net", c.What)) {
			return "", false, nil
		}
		if _, err := h.output(ctx, "ip", "link", "delete", c.What); err != nil {
			return "", true, fmt.Errorf("remove bridge %s: %w", c.What, err)
		}
		return "removed bridge " + c.What, false, nil
	default: // services are stopped and configurations removed with the runtime folder
		return "", false, nil
	}
}

// clearRuntimeDir removes the files that this package put there and then the
// folder, unless somebody else keeps something in it.
func (h *host) clearRuntimeDir() ([]string, error) {
	var done []string
	var errs []error
	if _, err := os.Stat(h.RuntimeDir); err != nil {
		return nil, nil
	}
	d := []daemon{h.podmanService(), h.dockerService()}
	for _, f := range []string{h.confFile(), d[0].LogFile(), d[1].LogFile(), filepath.Join(h.RuntimeDir, "lock")} {
		if !fileExists(f) {
			continue
		}
		if err := removeIfThere(f); err != nil {
			errs = append(errs, err)
			continue
		}
		if f == h.confFile() {
			done = append(done, "removed "+f)
		}
	}
	lines, err := h.clearDocker()
	done, errs = append(done, lines...), append(errs, err)
	_ = os.Remove(h.RuntimeDir) // fails, rightly, when it is not empty
	return done, errors.Join(errs...)
}
