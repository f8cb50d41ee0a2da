package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// cellBudget bounds one run of the pipeline: whatever breaks, it must not hang.
const cellBudget = 15 * time.Minute

// pipeline is one run of mage e2e:aianalysis.
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

// start begins a run. env is added to the environment.
func (p project) start(t *testing.T, env ...string) *pipeline {
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
	r.cmd = exec.Command(filepath.Join(p.dir, targets), "e2e:aianalysis")
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = p.dir, out, out
	r.cmd.Env = append(os.Environ(), append([]string{"E2E_CLUSTER=" + clusterName, "E2E_STATE=" + r.state, "KEEP_CLUSTER=true",
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
		r.signal(syscall.SIGKILL)
		<-r.ended
		if t.Failed() {
			t.Logf("files of the run: %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *pipeline) signal(s syscall.Signal) {
	select {
	case <-r.ended:
	default:
		_ = syscall.Kill(-r.cmd.Process.Pid, s)
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
	for s := bufio.NewScanner(f); s.Scan(); {
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

// outcome is what a run came to.
type outcome struct {
	run.Result
	code   int
	took   time.Duration
	report string
	events []run.Event
	output string
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
	return o
}

// is checks exit code and verdict; nothing of the rest makes sense without.
func (o outcome) is(t *testing.T, code int, verdict string) {
	t.Helper()
	if o.code != code || string(o.Verdict) != verdict {
		t.Fatalf("exit code %d, verdict %s; want %d, %s\n%s\n%s", o.code, o.Verdict, code, verdict, o.report, o.output)
	}
}

// tells checks that the report has the words.
func (o outcome) tells(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(o.report, w) {
			t.Errorf("the report does not tell %q:\n%s", w, o.report)
		}
	}
}

// attempts counts how often a step began.
func (o outcome) attempts(step string) int {
	for _, s := range o.Steps {
		if s.Name == step {
			return s.Attempts
		}
	}
	return 0
}

// step returns how a step ended.
func (o outcome) step(name string) run.StepResult {
	for _, s := range o.Steps {
		if s.Name == name {
			return s
		}
	}
	return run.StepResult{}
}

// node is the identifier of the cluster's node, which changes if it is made anew.
func node(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("podman", "container", "inspect", "--format", "{{.Id}}", nodeName)
	cmd.Env = without(os.Environ(), "CONTAINER_HOST")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprint("none: ", err)
	}
	return strings.TrimSpace(string(out))
}

// podman runs a command of the engine behind every proxy.
func podman(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("podman", args...)
	cmd.Env = without(os.Environ(), "CONTAINER_HOST")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func without(environ []string, names ...string) []string {
	var kept []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		drop := false
		for _, n := range names {
			drop = drop || n == name
		}
		if !drop {
			kept = append(kept, kv)
		}
	}
	return kept
}
