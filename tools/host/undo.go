package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Undo takes back what this project did to the host, as far as it can be: our
// services end, our configuration goes, folders we made go if they are empty. A
// dockerd of ours in which somebody keeps containers stays. It returns a line
// for each thing removed and for each one kept. With nothing to do it succeeds.
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
	docker := h.dockerService()
	others := h.containersLeft(ctx, docker)
	inUse := len(others) > 0
	if inUse {
		done = append(done, fmt.Sprintf("kept our dockerd, other containers are in it: DOCKER_HOST=%s docker rm -f %s", docker.url(), strings.Join(others, " ")))
	}
	for _, d := range []daemon{h.podmanService(), docker} {
		// A dockerd takes its containers along; Podman's go on without its service.
		if d.Name == Docker && inUse {
			continue
		}
		if _, runs := d.Find(); !runs && !d.Stale() {
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
	var keptNames []string
	for _, c := range all {
		if c.Kind == KindPackage || c.Kind == KindMachine {
			kept, keptNames = append(kept, c), append(keptNames, c.What)
			continue
		}
		if inUse && slices.Contains([]Kind{KindService, KindConfig, KindData, KindBridge}, c.Kind) {
			kept = append(kept, c)
			continue
		}
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
	if errors.Join(errs...) == nil && !inUse {
		lines, err := h.clearFolders(ctx)
		done, errs = append(done, lines...), append(errs, err)
	}
	if len(keptNames) > 0 {
		done = append(done, "kept packages, others may use them by now: "+strings.Join(keptNames, ", "))
	}
	return done, errors.Join(errs...)
}

// containersLeft names the containers in our dockerd. Ours are gone when a
// teardown comes to the host; what is left was left on purpose, also what
// somebody made from an image of ours, whose label it inherits. One that does
// not run, or does not answer, has a folder for each of them all the same
// (moby: daemonRepo in daemon.NewDaemon).
func (h *host) containersLeft(ctx context.Context, d daemon) []string {
	var names []string
	if _, runs := d.Find(); runs {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		all, err := h.containers(ctx, Docker, h.environ("DOCKER_HOST="+d.url()))
		for _, c := range all {
			names = append(names, c.Name)
		}
		if err == nil {
			return names
		}
		h.Log.Debug("our dockerd does not list its containers", "error", err)
	}
	folders, _ := os.ReadDir(filepath.Join(h.dockerRoot(), "containers"))
	for _, f := range folders {
		names = append(names, f.Name()[:min(len(f.Name()), 12)])
	}
	return names
}

func (h *host) undo(ctx context.Context, c Change) (line string, keep bool, err error) {
	switch c.Kind {
	case KindDirectory:
		if entries, err := os.ReadDir(c.What); err != nil || len(entries) > 0 {
			return "", false, nil // gone, or in use by now and no longer ours
		}
		if h.facts.UID == 0 {
			err = os.Remove(c.What)
		} else {
			_, err = h.asRoot(ctx, "rmdir", c.What)
		}
		if err != nil {
			return "", true, fmt.Errorf("remove %s: %w", c.What, err)
		}
		return "removed " + c.What, false, nil
	case KindSpool:
		if !fileExists(c.What) {
			return "", false, nil
		}
		if err := os.RemoveAll(c.What); err != nil {
			return "", true, fmt.Errorf("remove the engine's temporary files: %w", err)
		}
		return "removed " + c.What, false, nil
	case KindBridge:
		if !fileExists(filepath.Join(h.root, "sys/class/net", c.What)) {
			return "", false, nil
		}
		ports, _ := os.ReadDir(filepath.Join(h.root, "sys/class/net", c.What, "brif"))
		if len(ports) > 0 || fileExists(filepath.Join(h.root, "var/run/docker.sock")) {
			return "", false, nil // another dockerd uses it by now
		}
		if _, err := h.output(ctx, "ip", "link", "delete", c.What); err != nil {
			return "", true, fmt.Errorf("remove bridge %s: %w", c.What, err)
		}
		return "removed bridge " + c.What, false, nil
	case KindSysctl:
		line, err := h.undoSysctl(ctx, c)
		return line, err != nil, err
	default: // services are stopped and configurations removed with the runtime folder
		return "", false, nil
	}
}

// clearFolders removes the files that this package put into its folders, and
// the folders unless somebody else keeps something in them.
func (h *host) clearFolders(ctx context.Context) ([]string, error) {
	done, err := h.clearDocker(ctx)
	errs := []error{err}
	for _, f := range []string{h.confFile(), h.podmanService().LogFile(), h.dockerService().LogFile(), filepath.Join(h.RuntimeDir, "lock")} {
		if !fileExists(f) {
			continue
		}
		errs = append(errs, removeIfThere(f))
		if f == h.confFile() {
			done = append(done, "removed "+f)
		}
	}
	// These fail, rightly, on a folder that is not empty.
	_ = os.Remove(h.RuntimeDir)
	_ = os.Remove(h.StateDir)
	return done, errors.Join(errs...)
}
