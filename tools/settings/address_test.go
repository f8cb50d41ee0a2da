package settings

import "testing"

func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"ssh://core:se%40cret@host:22/run/podman.sock": "ssh://core:xxxxx@host:22/run/podman.sock",
		"ssh://core@host:22/run/podman.sock":           "ssh://core@host:22/run/podman.sock",
		"ssh://core:se%cret@host/p.sock":               "ssh://xxxxx@host/p.sock", // no URL
		"unix:///run/podman/podman.sock":               "unix:///run/podman/podman.sock",
		"C:\\pipe %zz":                                 "C:\\pipe %zz",
	} {
		if got := Shown(in); got != want {
			t.Errorf("Shown(%q) = %q, want %q", in, got, want)
		}
	}
}
