package cluster

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
)

const (
	foreignConfig = "apiVersion: v1\nkind: Config\nclusters:\n- {name: prod, cluster: {server: https://prod}}\n"
	kindConfig    = "apiVersion: v1\nkind: Config\nclusters:\n- {name: kind-a, cluster: {server: https://127.0.0.1:1}}\n"
)

func holds(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if want == "" && !errors.Is(err, os.ErrNotExist) || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

// TestOnlyOurKubeconfigIsOverwritten: what somebody else wrote is moved aside;
// ours is replaced, corrupt or not.
func TestOnlyOurKubeconfigIsOverwritten(t *testing.T) {
	tests := []struct {
		name, there string
		remembered  bool // a record names the path
		complete    bool
		spared      bool
	}{
		{name: "nothing"},
		{name: "somebody else's", there: foreignConfig, spared: true},
		{name: "somebody else's since a run of ours", there: foreignConfig, remembered: true, complete: true, spared: true},
		{name: "no kubeconfig at all", there: "{ notes", spared: true},
		{name: "ours, corrupted", there: "{ torn", remembered: true, complete: true},
		{name: "ours, emptied, of a run cut off", there: "", remembered: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, k := faked(t)
			k.config = kindConfig
			var said bytes.Buffer
			c.Log = slog.New(slog.NewTextHandler(&said, nil))
			if tt.name != "nothing" {
				if err := os.WriteFile(c.Kubeconfig, []byte(tt.there), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tt.remembered {
				if err := c.writeRecord(tt.complete, nil); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second time it is ours
				if err := c.exportKubeconfig(t.Context()); err != nil || !IsOurs(c.Kubeconfig) {
					t.Fatalf("ours is not there: %v", err)
				}
			}
			aside := c.Kubeconfig + ".moved-aside"
			if tt.spared {
				holds(t, aside, tt.there)
			} else {
				holds(t, aside, "")
			}
			if told := strings.Contains(said.String(), "file="+c.Kubeconfig) && strings.Contains(said.String(), aside); told != tt.spared {
				t.Errorf("logged %q", said.String())
			}
		})
	}
}

func TestAnOlderKubeconfigThatWasMovedAsideStays(t *testing.T) {
	c, k := faked(t)
	k.config = kindConfig
	for _, content := range []string{"first", "second", "third"} {
		if err := os.WriteFile(c.Kubeconfig, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.withDefaults().exportKubeconfig(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, c.Kubeconfig+".moved-aside", "first")
	holds(t, c.Kubeconfig+".moved-aside-2", "second")
	holds(t, c.Kubeconfig+".moved-aside-3", "third")
}

// TestAFailedCreateKeepsWhatWasThere: the record that is made first must not
// turn somebody else's file into one of ours.
func TestAFailedCreateKeepsWhatWasThere(t *testing.T) {
	c, k := faked(t)
	if err := os.WriteFile(c.Kubeconfig, []byte("{ notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Up(t.Context(), Spec{}); !errors.Is(err, k.err) {
		t.Fatal(err)
	}
	holds(t, c.Kubeconfig+".moved-aside", "{ notes")
}

func TestDownDeletesOnlyOurKubeconfig(t *testing.T) {
	for name, tt := range map[string]struct {
		there      string
		remembered bool
		kept       bool
	}{
		"somebody else's":           {there: foreignConfig, remembered: true, kept: true},
		"unreadable, none of ours":  {there: "{ notes", kept: true},
		"unreadable, and on record": {there: "{ torn", remembered: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := faked(t)
			if err := os.WriteFile(c.Kubeconfig, []byte(tt.there), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.remembered {
				if err := c.writeRecord(true, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Down(t.Context()); err != nil || len(Records(c.StateDir)) != 0 {
				t.Fatalf("%v, records %v", err, Records(c.StateDir))
			}
			if tt.kept {
				holds(t, c.Kubeconfig, tt.there)
			} else {
				holds(t, c.Kubeconfig, "")
			}
		})
	}
}
