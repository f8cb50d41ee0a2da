package suite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// programs are compiled once for all tests of a process.
var programs = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "kubernaut-e2e-suite-*") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func build(t *testing.T, name string) Build {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles and runs a real suite")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return Build{Root: root, Dir: dir, Package: "./tools/suite/testdata/" + name}
}

// compiled is a suite of testdata, ready to run.
func compiled(t *testing.T, name string) Run {
	t.Helper()
	b := build(t, name)
	if err := b.Compile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return Run{Build: b, Output: t.TempDir(), Procs: 1, Timeout: 2 * time.Minute}
}

func TestPassingSuite(t *testing.T) {
	r := compiled(t, "passing")
	r.Env = map[string]string{"SUITE_URL": "http://127.0.0.1:1"}
	r.Procs = 2
	var lines []string
	r.Lines = func(l string) { lines = append(lines, l) }
	got, err := r.Do(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Ran != 2 || got.Passed != 2 || got.Failed != 0 || got.Skipped != 1 {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(filepath.Join(r.Output, "junit.xml")); err != nil {
		t.Error(err)
	}
	if len(lines) == 0 {
		t.Error("the suite's output was not passed on")
	}
}

func TestLabelChoosesSpecs(t *testing.T) {
	r := compiled(t, "passing")
	r.Env = map[string]string{"SUITE_URL": "http://127.0.0.1:1"}
	r.Label = "smoke"
	if got, err := r.Do(t.Context(), nil); err != nil || got.Ran != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What fails in a suite is the code's, with the reason that the spec gave.
func TestSuitesThatDoNotPass(t *testing.T) {
	for name, want := range map[string]struct {
		ran, failed int
		says        []string
	}{
		"failing":    {2, 1, []string{"1 of 2 specs failed", "expects what is not so", "the phase of analysis 7"}},
		"panicking":  {1, 1, []string{"writes to a nil map", "assignment to entry in nil map"}},
		"setupfails": {1, 1, []string{"SynchronizedBeforeSuite", "the workload's health endpoint"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := compiled(t, name)
			_, err := r.Do(t.Context(), nil)
			var failed *Failure
			if !errors.As(err, &failed) {
				t.Fatalf("got %v", err)
			}
			if s := failed.Summary; s.Ran != want.ran || s.Failed != want.failed {
				t.Errorf("got %+v", s)
			}
			for _, w := range want.says {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			checkVerdict(t, err, failure.Suite, failure.Code)
			if _, err := os.Stat(filepath.Join(r.Output, "junit.xml")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCrashIsTheCodes(t *testing.T) {
	r := compiled(t, "crashing")
	stale := filepath.Join(r.Output, "junit.xml")
	if err := os.WriteFile(stale, []byte(`<testsuites><testsuite><testcase name="[It] old" status="passed"/></testsuite></testsuites>`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := r.Do(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "out of reach") {
		t.Errorf("got %v", err)
	}
	checkVerdict(t, err, failure.Suite, failure.Code)
}

func TestSuiteThatDoesNotCompile(t *testing.T) {
	err := build(t, "noncompiling").Compile(t.Context(), nil)
	if f := failure.As(err); f == nil || f.Class != failure.TestFailure {
		t.Fatalf("got %v", err)
	}
	for _, w := range []string{"noncompiling", "undefinedHelper", "suite_test.go:5"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	checkVerdict(t, err, failure.Build, failure.Code)
}

func TestNothingToRunIsConfiguration(t *testing.T) {
	for name, set := range map[string]func(*Run){
		"no such label":      func(r *Run) { r.Label = "nightly" },
		"no such text":       func(r *Run) { r.Focus = "nothing has this name" },
		"no label filter":    func(r *Run) { r.Label = "smoke &&" },
		"no regular express": func(r *Run) { r.Focus = "(" },
	} {
		t.Run(name, func(t *testing.T) {
			r := compiled(t, "passing")
			set(&r)
			_, err := r.Do(t.Context(), nil)
			if f := failure.As(err); f == nil || f.Class != failure.Configuration || f.Remedy == "" {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), "GINKGO_") {
				t.Errorf("%q does not name the setting", err)
			}
			checkVerdict(t, err, failure.Suite, failure.Misconfigured)
		})
	}
}

// A run that is cancelled returns soon and leaves no process, the suite's own
// children included.
func TestCancelLeavesNoProcess(t *testing.T) {
	r := compiled(t, "hanging")
	pidFile := filepath.Join(t.TempDir(), "pid")
	r.Env = map[string]string{"PID_FILE": pidFile}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := r.Do(ctx, nil)
		ended <- err
	}()
	var pid int
	for deadline := time.Now().Add(time.Minute); pid == 0; time.Sleep(50 * time.Millisecond) {
		raw, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(string(raw))
		if time.Now().After(deadline) {
			t.Fatal("the suite did not start its child")
		}
	}
	cancelled := time.Now()
	cancel()
	err := <-ended
	if took := time.Since(cancelled); took > 15*time.Second {
		t.Errorf("it took %s to return", took)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var failed *Failure
	if errors.As(err, &failed) {
		t.Error("an interrupted suite is called a failed one")
	}
	if !gone(pid) {
		t.Errorf("the suite's child %d still runs", pid)
	}
}

// The suite's own deadline is a verdict on the suite: it ran and did not pass.
func TestTimeoutIsAFailure(t *testing.T) {
	r := compiled(t, "hanging")
	r.Env = map[string]string{"PID_FILE": filepath.Join(t.TempDir(), "pid")}
	r.Timeout = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	started := time.Now()
	_, err := r.Do(ctx, nil)
	if err == nil {
		t.Fatal("a suite that timed out passed")
	}
	t.Logf("after %s: %v", time.Since(started), err)
	checkVerdict(t, err, failure.Suite, failure.Code)
	raw, _ := os.ReadFile(r.Env["PID_FILE"])
	if pid, _ := strconv.Atoi(string(raw)); pid != 0 && !gone(pid) {
		t.Errorf("the suite's child %d still runs", pid)
	}
}

// gone waits a moment for a process to be no more. One that only waits for its
// parent to read its exit code is gone.
func gone(pid int) bool {
	for range 40 {
		if syscall.Kill(pid, 0) != nil {
			return true
		}
		if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

func checkVerdict(t *testing.T, err error, phase failure.Phase, want failure.Verdict) {
	t.Helper()
	if got := failure.Of(err, phase, failure.Facts{}).Verdict(phase); got != want {
		t.Errorf("verdict %s, want %s, for %v", got, want, err)
	}
}

func TestAReportThatIsCutOffIsNoReport(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "cut off": `<?xml version="1.0"?><testsuites><testsuite name="x"><testcase name="[It] a"`} {
		file := filepath.Join(t.TempDir(), "junit.xml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := read(file); err == nil || s.Ran != 0 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}
