package chaos

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// TestMatrixOfPorts keeps a port that the cluster publishes: nobody here can
// free it, and the report says who holds it.
func TestMatrixOfPorts(t *testing.T) {
	w := newWorld(t)
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:28084")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o := w.start(t, quick).wait()
	o.is(t, 75, "infrastructure")
	o.tells(t, "port 28084", "infrastructure, not code", "unit tests pass")
	observed(t, "port taken", "cluster", "refused, with the holder's name; the unit tests were run and pass", o)
}

// TestMatrixOfLeftovers begins where other runs were cut off.
func TestMatrixOfLeftovers(t *testing.T) {
	w := newWorld(t)
	t.Run("a half-made cluster holds the ports", func(t *testing.T) {
		if err := w.remove(); err != nil {
			t.Fatal(err)
		}
		const other = "chaos-other"
		t.Cleanup(func() { w.podman(t, "rm", "-f", "-v", "--ignore", other+"-control-plane") })
		r := w.start(t, quick, "E2E_CLUSTER="+other)
		r.until("cluster", run.Start)
		for r.runs() && w.command("container", "inspect", other+"-control-plane").Run() != nil {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		r.signal(syscall.SIGKILL)
		<-r.ended
		o := w.start(t, quick).wait()
		o.is(t, 0, "passed")
		o.tells(t, "passed after healing", "half-made clusters removed: ", other) // and those of others that are not at work on them
		if w.command("container", "inspect", other+"-control-plane").Run() == nil {
			t.Error("the half-made cluster is left")
		}
		observed(t, "stale half-made cluster holds the ports", "cluster", "it was removed, the cluster made; passed", o)
	})
	lock := filepath.Join(w.state, clusterName+".lock")
	t.Run("a lock whose holder is dead", func(t *testing.T) {
		w.ready(t)
		if err := os.WriteFile(lock, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(lock+".json", []byte(`{"pid":999999,"command":"targets e2e:aianalysis","since":"2025-12-13T10:00:00Z"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		o := w.start(t, quick).wait()
		o.is(t, 0, "passed")
		observed(t, "stale lock", "set-up", "passed; cluster kept", o)
	})
	t.Run("a lock that somebody holds for a while", func(t *testing.T) {
		w.ready(t)
		w.holdLock(t)
		o := w.start(t, quick).wait()
		o.is(t, 0, "passed")
		if took := o.step("lock").DurationMS; took < 5000 {
			t.Errorf("the lock was had after %d ms", took)
		}
		observed(t, "lock held by another run for 15 s", "set-up", "waited for it; passed, cluster kept", o)
	})
}

// holdLock keeps the lock of the cells' cluster for 15 s.
func (w *world) holdLock(t *testing.T) {
	t.Helper()
	held := flock.New(filepath.Join(w.state, clusterName+".lock"))
	if ok, err := held.TryLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	free := time.AfterFunc(15*time.Second, func() { _ = held.Unlock() })
	t.Cleanup(func() { free.Stop() })
}
