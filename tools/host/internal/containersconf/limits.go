package containersconf

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
)

// The most that is asked for. usualNoFile is what Podman asks for itself
// (pkg/specgen/generate, RLimitDefaultValue). usualNProc is the limit that
// Podman's service runs under itself (measured with 4.3.1 as root): without
// CAP_SYS_RESOURCE the containers of its builds can have no more.
const (
	usualNoFile = 1048576
	usualNProc  = 32768
)

// boundLimits returns limits with nofile and nproc present and no value above
// the host's hard limit, and whether that differs from what was given.
func boundLimits(limits []string, f facts.Facts) ([]string, bool) {
	changed := false
	for _, l := range []struct {
		name       string
		hard, most uint64
	}{{"nofile", f.NoFile, usualNoFile}, {"nproc", f.NProc, usualNProc}} {
		most := min(l.hard, l.most)
		found := false
		for i, have := range limits {
			name, value, _ := strings.Cut(have, "=")
			if !strings.EqualFold(name, l.name) {
				continue
			}
			found = true
			if soft, hard, ok := parse(value); !ok || hard > l.hard || soft > l.hard {
				limits[i] = fmt.Sprintf("%s=%d:%d", l.name, min(soft, most), most)
				changed = true
			}
		}
		if !found {
			limits = append(limits, fmt.Sprintf("%s=%d:%d", l.name, most, most))
			changed = true
		}
	}
	return limits, changed
}

// parse reads "soft:hard" or "both"; a value below zero means unlimited.
func parse(value string) (soft, hard uint64, ok bool) {
	s, h, two := strings.Cut(value, ":")
	if !two {
		h = s
	}
	soft, errS := limit(s)
	hard, errH := limit(h)
	return soft, hard, errS == nil && errH == nil
}

func limit(s string) (uint64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return facts.Unlimited, err
	}
	if n < 0 {
		return facts.Unlimited, nil
	}
	return uint64(n), nil
}
