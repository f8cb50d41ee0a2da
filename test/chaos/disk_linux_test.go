package chaos

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// storeGB is the size of the disk that the engine and its nodes have in
// TestMatrixOfDisks: a file system of that size in a sparse file.
const storeGB = 8

// TestMatrixOfDisks fills disks that are not this machine's own: that of an
// engine and its nodes, and that of the state folder.
func TestMatrixOfDisks(t *testing.T) {
	w, _ := newMachineWorld(t)
	store := filepath.Join(filepath.Dir(w.svc.Socket), "root")
	w.svc.Kill()
	limit(t, store)
	w.svc.Start()
	ballast := filepath.Join(store, "ballast")
	free := func() {
		if err := os.Remove(ballast); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	t.Run("the node's disk is full, and old images hold a part of it", func(t *testing.T) {
		defer free()
		for mb := range 3 { // images of earlier runs
			w.start(t, payload(151+mb), quick).wait().is(t, 0, "passed")
		}
		before := w.node()
		r := w.start(t, payload(160), quick)
		r.until("build-hapi", run.Done)
		fill(t, ballast, 120<<20)
		o := r.wait()
		o.is(t, 0, "passed")
		w.kept(t, o, before)
		o.tells(t, "free this project's own caches")
		w.forget(t, o)
		observed(t, "node disk full, old images of this project on it", "load", "passed; cluster kept, build not repeated", o)
	})
	for _, c := range []struct {
		fault, step string
		mb          int
		leave       uint64
		after, kind string // the event after which the disk is filled; empty: before the run
		fresh       bool   // there is no cluster when the run begins
	}{
		{"engine's disk full of other things", "build", 162, 60 << 20, "", "", false},
		{"engine's disk full of other things", "cluster", base, 10 << 20, "cluster", run.Start, true},
		{"node disk full of other things", "load", 161, 80 << 20, "build-hapi", run.Done, false},
		{"node disk full of other things", "deploy", 163, 0, "deploy", run.Start, false},
		{"node disk full of other things", "suite", base, 0, "suite", run.Start, false},
	} {
		t.Run(c.fault+"/"+c.step, func(t *testing.T) {
			defer free()
			if c.fresh {
				if err := w.remove(); err != nil {
					t.Fatal(err)
				}
			} else {
				w.ready(t)
			}
			if c.after == "" {
				fill(t, ballast, c.leave)
			}
			r := w.start(t, payload(c.mb), quick)
			if c.after != "" {
				r.until(c.after, c.kind)
				fill(t, ballast, c.leave)
			}
			o := r.wait()
			became := "passed: it needed no more room"
			if o.code != 0 {
				became = "refused, as a full disk; passed once there was room"
				o.is(t, 75, "infrastructure")
				o.isAbout(t, "resources")
				o.tells(t, "infrastructure, not code", "unit tests pass")
			}
			free()
			again := w.start(t, payload(c.mb), quick).wait()
			again.is(t, 0, "passed")
			w.forget(t, again)
			w.forget(t, o)
			observed(t, c.fault, c.step, became, o)
		})
	}
	t.Run("the host's disk is full of old runs", func(t *testing.T) {
		state := smallDisk(t)
		for i := range 6 {
			dir := filepath.Join(state, "aianalysis", fmt.Sprintf("20240101-00000%d.000", i))
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "journal.jsonl"), nil, 0o644),
				os.WriteFile(filepath.Join(dir, "evidence"), make([]byte, 80<<20), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, filepath.Join(state, "ballast"), 20<<20)
		o := w.startAt(t, state, quick).wait()
		o.is(t, 0, "passed")
		o.tells(t, "free this project's own caches")
		observed(t, "host disk full, old runs of this project on it", "build", "passed; cluster kept", o)
	})
	t.Run("the host's disk is full of other things", func(t *testing.T) {
		state := smallDisk(t)
		fill(t, filepath.Join(state, "ballast"), 20<<20)
		o := w.startAt(t, state, quick).wait()
		o.is(t, 75, "infrastructure")
		o.isAbout(t, "resources")
		o.tells(t, "infrastructure, not code")
		observed(t, "host disk full of other things", "build", "refused, as a full disk", o)
	})
	for _, step := range []string{"set-up", "load", "deploy", "suite", "teardown"} {
		t.Run("the host's disk has no byte left/"+step, func(t *testing.T) {
			state := smallDisk(t)
			if step == "set-up" {
				fill(t, filepath.Join(state, "ballast"), 0)
			}
			r := w.startAt(t, state, quick, "KEEP_CLUSTER="+fmt.Sprint(step != "teardown"))
			if event := map[string]string{"load": "load", "deploy": "deploy", "suite": "suite", "teardown": "cluster-down"}[step]; event != "" {
				r.until(event, run.Start)
				fill(t, filepath.Join(state, "ballast"), 0)
			}
			<-r.ended
			code, verdict, became := r.cmd.ProcessState.ExitCode(), failure.Passed, "passed; the report could only be printed"
			if code != 0 {
				verdict, became = failure.Infrastructure, "refused, as a full disk; the report could only be printed"
				if code != 75 || !strings.Contains(r.tail(), "no space left on device") && !strings.Contains(r.tail(), "disk is full") {
					t.Fatalf("exit code %d\n%s", code, r.tail())
				}
			}
			observed(t, "host disk without a byte left", step, became, outcome{code: code, took: r.took, Result: run.Result{Verdict: verdict}})
		})
	}
}

// isAbout checks the class of the failure.
func (o outcome) isAbout(t *testing.T, class string) {
	t.Helper()
	if string(o.Class) != class {
		t.Errorf("class %s, signature %s, want %s: %s", o.Class, o.Signature, class, o.Cause)
	}
}

// limit puts a file system of a limited size over a folder and what is in it.
// It goes with the folder.
func limit(t *testing.T, dir string) {
	t.Helper()
	image, keep := dir+".ext4", dir+".below"
	_ = exec.Command("umount", filepath.Join(dir, "overlay")).Run() // Podman's own, which would be hidden
	for _, args := range [][]string{
		{"truncate", fmt.Sprintf("--size=%dG", storeGB), image},
		{"mkfs.ext4", "-q", "-F", "-m", "0", image},
		{"cp", "-a", dir, keep},
		{"mount", "-o", "loop", image, dir},
		{"cp", "-a", keep + "/.", dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

// smallDisk is a state folder on a disk of 600 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=600m", "chaos", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return dir
}

// fill leaves that many bytes of a file's disk, which must be one of a test.
func fill(t *testing.T, file string, leave uint64) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(file), &s); err != nil {
		t.Fatal(err)
	}
	if total := s.Blocks * uint64(s.Bsize); total > (storeGB+1)<<30 {
		t.Fatalf("%s is on a disk of %d bytes, which is not a test's", file, total)
	}
	free := s.Bavail * uint64(s.Bsize)
	if free <= leave {
		return
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const books = 16 << 20 // what the file system may want for keeping books of it
	if size := int64(free-leave) - books; size > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); ; {
		if err := syscall.Statfs(filepath.Dir(file), &s); err != nil {
			t.Fatal(err)
		}
		if leave > 0 && s.Bavail*uint64(s.Bsize) <= leave {
			return
		}
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
