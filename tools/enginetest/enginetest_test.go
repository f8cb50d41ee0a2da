package enginetest

import "testing"

func TestConnectPodman(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine")
	}
	c := Connect(t, "podman")
	if c.Provider != "podman" || c.URL == "" || len(c.Env) == 0 {
		t.Fatalf("incomplete connection: %+v", c)
	}
	t.Log(c.URL, c.Env, c.Started)
}
