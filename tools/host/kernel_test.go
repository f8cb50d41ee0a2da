package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLimitsAreRaisedAndSetBack(t *testing.T) {
	for _, c := range []struct {
		name             string
		have, after      string // max_user_instances before and after raising
		meanwhile, final string
		said             int // announcements
	}{
		{"too low", "128", "512", "", "128", 1},
		{"enough", "8192", "8192", "", "8192", 0},
		{"changed by somebody since", "128", "512", "1024", "1024", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := newFake(t, Options{}, easyHost())
			h.root = t.TempDir()
			dir := filepath.Join(h.root, "proc/sys/fs/inotify")
			write := func(name, value string) {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			read := func() string {
				raw, err := os.ReadFile(filepath.Join(dir, "max_user_instances"))
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(raw))
			}
			write("max_user_instances", c.have+"\n")
			write("max_user_watches", "524288\n")
			for range 2 { // the second time finds nothing to do
				if err := h.raiseLimits(t.Context(), endpoint{provider: Podman, url: "unix:///x"}); err != nil {
					t.Fatal(err)
				}
			}
			if got := read(); got != c.after || len(h.made) != c.said {
				t.Errorf("raised to %s with %v, want %s", got, h.made, c.after)
			}
			if c.meanwhile != "" {
				write("max_user_instances", c.meanwhile)
			}
			for _, change := range h.made {
				if _, _, err := h.undo(t.Context(), change); err != nil {
					t.Fatal(err)
				}
			}
			if got := read(); got != c.final {
				t.Errorf("after undoing it is %s, want %s", got, c.final)
			}
		})
	}
}

func TestLimitsOfAnEngineElsewhereAreNotOurs(t *testing.T) {
	h, _ := newFake(t, Options{}, easyHost())
	if err := h.raiseLimits(t.Context(), endpoint{provider: Podman, url: "ssh://u@h/x"}); err != nil || len(h.made) > 0 {
		t.Errorf("%v, %v", h.made, err)
	}
}
