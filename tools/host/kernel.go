package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A kernelLimit is a setting of the whole machine below which a run is known to
// suffer; Kind's known issues name the instances ("pod errors due to too many
// open files").
type kernelLimit struct {
	name   string // as sysctl(8) knows it
	wanted int64
}

var kernelLimits = []kernelLimit{{"fs.inotify.max_user_instances", 512}, {"fs.inotify.max_user_watches", 65536}}

func (h *host) sysctlFile(name string) string {
	return filepath.Join(h.root, "proc/sys", strings.ReplaceAll(name, ".", "/"))
}

func (h *host) sysctl(name string) (int64, error) {
	data, err := os.ReadFile(h.sysctlFile(name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

func (h *host) setSysctl(ctx context.Context, name, value string) error {
	err := os.WriteFile(h.sysctlFile(name), []byte(value), 0o644)
	if errors.Is(err, os.ErrPermission) {
		_, err = h.asRoot(ctx, "sysctl", "-w", name+"="+value)
	}
	return err
}

// raiseLimits raises the limits that are too low, for an engine of this host.
// One that cannot be raised is no failure: a small cluster works without.
func (h *host) raiseLimits(ctx context.Context, e endpoint) error {
	if h.facts.OS != "linux" || !strings.HasPrefix(e.url, "unix://") {
		return nil
	}
	for _, l := range kernelLimits {
		have, err := h.sysctl(l.name)
		if err != nil || have >= l.wanted {
			continue
		}
		change := Change{Kind: KindSysctl, What: fmt.Sprintf("%s=%d", l.name, l.wanted), Was: strconv.FormatInt(have, 10), Why: "nodes run out of it"}
		if err := h.announce(change); err != nil {
			return err
		}
		if err := h.setSysctl(ctx, l.name, strconv.FormatInt(l.wanted, 10)); err != nil {
			h.Log.Warn("a kernel limit stays as it is", "limit", l.name, "value", have, "error", err)
		}
	}
	return nil
}

// undoSysctl puts the former value back, unless somebody has changed it since.
func (h *host) undoSysctl(ctx context.Context, c Change) (string, error) {
	name, set, _ := strings.Cut(c.What, "=")
	have, err := h.sysctl(name)
	if err != nil || strconv.FormatInt(have, 10) != set || c.Was == "" {
		return "", nil //nolint:nilerr // a setting that cannot be read is not ours to restore
	}
	if err := h.setSysctl(ctx, name, c.Was); err != nil {
		return "", fmt.Errorf("set %s back to %s: %w", name, c.Was, err)
	}
	return fmt.Sprintf("set %s back to %s", name, c.Was), nil
}
