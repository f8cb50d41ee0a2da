package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// cellBudget bounds one run of the pipeline: whatever breaks, it must not hang.
const cellBudget = 15 * time.Minute

// pipeline is one run of a target.
type pipeline struct {
	t     *testing.T
	cmd   *exec.Cmd
	state string
	out   string
	ended chan struct{}
	err   error
	began time.Time
	took  time.Duration
}

// start begins a run of the suite.
func (p project) start(t *testing.T, env ...string) *pipeline {
	t.Helper()
	return p.begin(t, []string{filepath.Join(p.dir, targets), "e2e:aianalysis"}, env...)
}

// begin begins a run of a program. env is added to the environment.
func (p project) begin(t *testing.T, program []string, env ...string) *pipeline {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-run-")
	if err != nil {
		t.Fatal(err)
	}
	r := &pipeline{t: t, state: filepath.Join(dir, "state"), out: filepath.Join(dir, "output.txt"), ended: make(chan struct{}), began: time.Now()}
	out, err := os.Create(r.out)
	if err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(program[0], program[1:]...)
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = p.dir, out, out
	r.cmd.Env = append(os.Environ(), append([]string{"E2E_CLUSTER=" + clusterName, "E2E_STATE=" + r.state,
		"E2E_FALLBACK_PROVIDER=none", "KIND_EXPERIMENTAL_PROVIDER=podman"}, env...)...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		r.err = r.cmd.Wait()
		r.took = time.Since(r.began)
		_ = out.Close()
	}()
	t.Cleanup(func() {
		if r.runs() {
			_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		}
		<-r.ended
		if t.Failed() {
			t.Logf("files of the run: %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

// signal ends the run as a terminal does, all of it, or as everybody else does,
// its one process, whose children then are on their own.
func (r *pipeline) signal(s syscall.Signal) {
	if !r.runs() {
		return
	}
	pid := r.cmd.Process.Pid
	if s == syscall.SIGINT {
		pid = -pid
	}
	_ = syscall.Kill(pid, s)
}

func (r *pipeline) runs() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// events reads the journal so far.
func (r *pipeline) events() []run.Event {
	f, err := os.Open(filepath.Join(r.state, "last", "journal.jsonl"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var events []run.Event
	s := bufio.NewScanner(f)
	s.Buffer(nil, 8<<20) // an error may be long
	for s.Scan() {
		var e run.Event
		if json.Unmarshal(s.Bytes(), &e) == nil {
			events = append(events, e)
		}
	}
	return events
}

// until waits for an event of a step.
func (r *pipeline) until(step, kind string) {
	r.t.Helper()
	deadline := time.Now().Add(cellBudget)
	for time.Now().Before(deadline) {
		for _, e := range r.events() {
			if e.Step == step && e.Kind == kind {
				return
			}
		}
		select {
		case <-r.ended:
			r.t.Fatalf("the run ended before %s %s: %v\n%s", step, kind, r.err, r.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.t.Fatalf("no %s %s within %s", step, kind, cellBudget)
}

func (r *pipeline) tail() string {
	raw, _ := os.ReadFile(r.out)
	if len(raw) > 6000 {
		raw = raw[len(raw)-6000:]
	}
	return string(raw)
}

// wait waits for the end of the run and reads its files.
func (r *pipeline) wait() outcome {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cellBudget)
	defer cancel()
	select {
	case <-r.ended:
	case <-ctx.Done():
		r.signal(syscall.SIGQUIT)
		r.t.Fatalf("the run hangs\n%s", r.tail())
	}
	o := outcome{took: r.took, events: r.events(), output: r.tail()}
	var exit *exec.ExitError
	if errors.As(r.err, &exit) {
		o.code = exit.ExitCode()
	}
	raw, err := os.ReadFile(filepath.Join(r.state, "last", "result.json"))
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.tail())
	}
	if err := json.Unmarshal(raw, &o.Result); err != nil {
		r.t.Fatal(err)
	}
	report, err := os.ReadFile(filepath.Join(r.state, "last", "report.md"))
	if err != nil {
		r.t.Error(err)
	}
	o.report = string(report)
	files, _ := filepath.Glob(filepath.Join(r.state, "last", "evidence", "*", "*"))
	o.evidence = len(files)
	// Of an engine that is down, what was asked of it in vain is all there is.
	if _, err := os.Stat(filepath.Join(r.state, "last", "evidence", "errors.txt")); err == nil {
		o.evidence++
	}
	return o
}
