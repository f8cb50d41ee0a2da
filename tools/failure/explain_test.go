package failure

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The outputs in testdata/own.jsonl were written for this project: what tools
// are known to print, with invented names.
func TestOwnOutputs(t *testing.T) {
	all := samples(t, "testdata/own.jsonl")
	seen := map[Class]int{}
	for _, s := range all {
		seen[s.Class]++
		t.Run(s.ID, func(t *testing.T) {
			d := Explain(s.Text, s.Phase, Facts{})
			if d.Class != s.Class || d.Retry != s.Retry {
				t.Errorf("phase %s: got %s/%s by %q, want %s/%s:\n%s", s.Phase, d.Class, d.Retry, d.Signature, s.Class, s.Retry, s.Text)
			}
			if s.Class == TestFailure {
				for _, p := range []Phase{s.Phase, ""} {
					if d := Explain(s.Text, p, Facts{}); d.Class != TestFailure && d.Verdict(Suite) == Infrastructure {
						t.Errorf("phase %q: a test failure was taken for %s by %q", p, d.Class, d.Signature)
					}
				}
			}
		})
	}
	for _, c := range classes {
		if seen[c] < 5 {
			t.Errorf("only %d outputs of class %s", seen[c], c)
		}
	}
}

func TestUnknownIsCalledUnknown(t *testing.T) {
	for _, text := range []string{"", " \n\n", "all good, 12 tables copied", "lorem ipsum dolor sit amet", strings.Repeat("\x00\xff", 50)} {
		for _, p := range append([]Phase{"", "nonsense"}, phases...) {
			d := Explain(text, p, Facts{})
			if d.Class != Unknown || d.Confidence != "low" || d.Signature != "" || d.Cause == "" || d.Remedy == "" {
				t.Errorf("phase %q, %q: got %+v", p, text, d)
			}
		}
	}
}

func TestFactsMoveTheBlame(t *testing.T) {
	no, yes := new(bool), new(bool)
	*yes = true
	code := func(n int) *int { return &n }
	const refusedInSpec = "[FAILED] Unexpected error:\n    Get \"http://127.0.0.1:18080/v1\": dial tcp 127.0.0.1:18080: connect: connection refused\noccurred\nIn [It] at: a_test.go:3"
	const wrongValue = "[FAILED] Expected\n    <int>: 2\nto equal\n    <int>: 1\nIn [It] at: a_test.go:3"
	const engineCut = `Error: Post "http://d/v5.6.0/libpod/images/load": EOF`
	for _, c := range []struct {
		name  string
		text  string
		phase Phase
		facts Facts
		class Class
		retry Retry
	}{
		{"refused in a spec is the code's", refusedInSpec, Suite, Facts{}, TestFailure, FailFast},
		{"until the engine is known to be down", refusedInSpec, Suite, Facts{EngineReachable: no}, EngineConnection, HealThenRetry},
		{"or a node", refusedInSpec, Suite, Facts{EngineReachable: yes, NodesRunning: no}, ClusterUnready, HealThenRetry},
		{"not when both run", refusedInSpec, Suite, Facts{EngineReachable: yes, NodesRunning: yes}, TestFailure, FailFast},
		{"a wrong value is the code's whatever is down", wrongValue, Suite, Facts{EngineReachable: no, NodesRunning: no}, TestFailure, FailFast},
		{"a lost connection beside a full disk is the disk's", refusedInSpec, Suite, Facts{EngineReachable: yes, FullDisk: "/x"}, Resources, HealThenRetry},
		{"a wrong value is the code's on a full disk, too", wrongValue, Suite, Facts{FullDisk: "/x"}, TestFailure, FailFast},
		{"what only waited too long, on a full disk", "error: timed out waiting for the condition on deployments/x", Deploy, Facts{FullDisk: "/x"}, Resources, HealThenRetry},
		{"an engine that is back needs no healing", `Cannot connect to the Docker daemon at unix:///x.sock`, Load, Facts{EngineReachable: yes}, EngineConnection, RetryNow},
		{"a cut is tried again", engineCut, Load, Facts{AttemptsWithSameText: 1}, EngineConnection, RetryNow},
		{"twice the same asks for healing", engineCut, Load, Facts{AttemptsWithSameText: 2}, EngineConnection, HealThenRetry},
		{"every time the same is not tried for ever", engineCut, Load, Facts{AttemptsWithSameText: 4}, EngineConnection, FailFast},
		{"137 without a word is memory", "", Load, Facts{ExitCode: code(137)}, Resources, HealThenRetry},
		{"127 without a word is a missing program", "", Load, Facts{ExitCode: code(127), Step: "load"}, Configuration, FailFast},
		{"an exit code never overrides the text", wrongValue, Suite, Facts{ExitCode: code(137)}, TestFailure, FailFast},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := Explain(c.text, c.phase, c.facts); d.Class != c.class || d.Retry != c.retry {
				t.Errorf("got %+v, want %s/%s", d, c.class, c.retry)
			}
		})
	}
}

func TestOf(t *testing.T) {
	known := New(StaleState, "a lock is held", "rm lock", errors.New("no space left on device"))
	for _, c := range []struct {
		name  string
		err   error
		phase Phase
		class Class
		sign  string
	}{
		{"a known cause wins over the text", fmt.Errorf("up: %w", known), ClusterCreate, StaleState, "known"},
		{"cancelled by somebody", fmt.Errorf("step: %w", context.Canceled), Suite, Unknown, "cancelled"},
		{"a silent deadline in an export", fmt.Errorf("up: %w", context.DeadlineExceeded), Export, EngineConnection, "deadline"},
		{"a silent deadline in a suite", context.DeadlineExceeded, Suite, TestFailure, "deadline"},
		{"a deadline with a printed cause", fmt.Errorf("write /var/tmp/a.tar: no space left on device: %w", context.DeadlineExceeded), Export, Resources, "disk-full"},
		{"plain text", errors.New("ERROR: image: \"a:b\" not present locally"), Load, ImageReference, "image-not-present"},
		{"nothing", nil, Load, Unknown, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := Of(c.err, c.phase, Facts{}); d.Class != c.class || d.Signature != c.sign {
				t.Errorf("got %+v, want %s by %q", d, c.class, c.sign)
			}
		})
	}
}

func TestExplainFile(t *testing.T) {
	if d, err := ExplainFile(strings.NewReader("bind: address already in use"), ClusterCreate); err != nil || d.Class != StaleState {
		t.Errorf("got %+v, %v", d, err)
	}
	_, err := ExplainFile(strings.NewReader("x"), "lod")
	if e := As(err); e == nil || e.Class != Configuration || !strings.Contains(e.Remedy, "cluster-create") {
		t.Errorf("an unknown phase must be a configuration error that lists the phases, got %v", err)
	}
	broken := errors.New("broken")
	if _, err := ExplainFile(iotestReader{broken}, Load); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type iotestReader struct{ err error }

func (r iotestReader) Read([]byte) (int, error) { return 0, r.err }

func TestTerminalsAndRunnersDoNotHideACause(t *testing.T) {
	const plain = "ERROR: no nodes found for cluster \"demo\""
	for _, text := range []string{
		"\x1b[1;31m" + plain + "\x1b[0m",
		"2025-12-13T10:11:12.1234567Z \x1b[31m" + plain + "\x1b[0m\r\n",
		"##[error]" + plain,
		"[10:11:12] " + plain,
		"progress 10%\rprogress 20%\r" + plain,
	} {
		if d := Explain(text, Load, Facts{}); d.Signature != "other-provider" {
			t.Errorf("%q: got %+v", text, d)
		}
	}
}

func TestLongLogsAreBoundedAndTheirCauseFound(t *testing.T) {
	noise := strings.Repeat("step 4711: compiling package example.com/orchard/internal/press done in 12ms\n", 7000)
	for name, log := range map[string]string{
		"at the end":    noise + noise + "write /var/lib/x: no space left on device\n",
		"in the middle": noise + "write /var/lib/x: no space left on device\n" + noise,
		"at the start":  "write /var/lib/x: no space left on device\n" + noise + noise,
	} {
		t.Run(name, func(t *testing.T) {
			fastest := time.Hour
			for range 5 {
				start := processorTime(t)
				d := Explain(log, Load, Facts{})
				fastest = min(fastest, processorTime(t)-start)
				if d.Class != Resources {
					t.Fatalf("got %+v", d)
				}
			}
			if limit := 50 * time.Millisecond * slower; fastest > limit {
				t.Errorf("%d bytes took %v, want under %v", len(log), fastest, limit)
			}
		})
	}
}

// processorTime is what this process has used: unlike the clock it does not
// count what else the machine does.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Any bytes must give a diagnosis: this runs in the way out of a failed run.
func TestExplainNeverPanics(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	own, err := os.ReadFile("testdata/own.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		at := r.IntN(len(own) - 400)
		b := append([]byte(nil), own[at:at+r.IntN(400)]...)
		for range r.IntN(20) {
			if len(b) > 0 {
				b[r.IntN(len(b))] = byte(r.IntN(256))
			}
		}
		d := Explain(string(b), phases[r.IntN(len(phases))], Facts{})
		if d.Class == "" || d.Retry == "" || d.Cause == "" || d.Remedy == "" || d.Confidence == "" {
			t.Fatalf("%q: got %+v", b, d)
		}
		_ = DecisiveLines(string(b), d)
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("Error: EOF", "load")
	f.Fuzz(func(t *testing.T, text, phase string) {
		if d := Explain(text, Phase(phase), Facts{}); d.Class == "" || d.Confidence == "" {
			t.Errorf("got %+v", d)
		}
	})
}

func TestDecisiveLines(t *testing.T) {
	text := "Creating cluster\nlinking: signal: killed\nmore\nError: server probably quit: unexpected EOF\n"
	got := DecisiveLines(text, Explain(text, Build, Facts{}))
	if len(got) != 1 || got[0] != "linking: signal: killed" {
		t.Errorf("got %q", got)
	}
	if got := DecisiveLines("a\nsome error here\nb", Diagnosis{}); len(got) != 1 || got[0] != "some error here" {
		t.Errorf("without a signature: got %q", got)
	}
}

func ExampleExplain() {
	d := Explain(`Error: Post "http://d/v5.6.0/libpod/images/load": EOF`, Load, Facts{})
	fmt.Print(Format(d))
	// Output:
	// class   engine-connection (engine-cut)
	// cause   the connection to the engine broke under way
	// remedy  podman info shows whether it answers again; then repeat only the failed step
	// retry   retry: doing the same again can help
	// sure    high
}
