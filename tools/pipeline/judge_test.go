package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

func TestTheSameTextIsCountedWhateverItsNumbers(t *testing.T) {
	s := &session{}
	text := func(port int, id string) error {
		return fmt.Errorf("dial tcp 127.0.0.1:%d: exec %s: i/o timeout after %ds", port, id, port%7)
	}
	for i, err := range []error{text(4711, "0123456789abcdef0123"), text(815, "fedcba9876543210aaaa"), text(1, "0123456789abcdef0123")} {
		if got := s.sameText("load", err); got != i+1 {
			t.Errorf("attempt %d counts %d", i+1, got)
		}
	}
	if s.sameText("deploy", text(1, "0123456789ab")) != 1 || s.sameText("load", errors.New("another")) != 1 {
		t.Error("another step or text is counted with it")
	}
}

func TestADiagnosisIsKeptForTheEvidence(t *testing.T) {
	s := &session{}
	s.diagnose(context.Background(), run.Step{Name: "load", Phase: failure.Load}, failure.New(failure.Network, "cause", "remedy", nil))
	if got := s.diagnosed("load").Class; got != failure.Network {
		t.Errorf("class %q", got)
	}
	if got := s.diagnosed("other"); got.Class != "" {
		t.Errorf("another step has %+v", got)
	}
}

func TestAGuessIsNoReasonToGiveUp(t *testing.T) {
	guess := failure.Diagnosis{Class: failure.TestFailure, Retry: failure.FailFast, Signature: "like-test-failure", Confidence: "medium"}
	unsure := failure.Diagnosis{Class: failure.Unknown, Retry: failure.FailFast, Confidence: "low"}
	known := failure.Diagnosis{Class: failure.Configuration, Retry: failure.FailFast, Signature: "kind-config", Confidence: "high"}
	patient := failure.Diagnosis{Class: failure.Network, Retry: failure.HealThenRetry, Signature: "like-network", Confidence: "low"}
	for name, c := range map[string]struct {
		d        failure.Diagnosis
		phase    failure.Phase
		attempts int
		want     bool
	}{
		"a guess":                  {guess, failure.Deploy, 1, true},
		"nothing known":            {unsure, failure.Load, 1, true},
		"the same again":           {guess, failure.Deploy, 2, false},
		"a known cause":            {known, failure.ClusterCreate, 1, false},
		"a guess that is retried":  {patient, failure.Load, 1, false},
		"a guess about a suite":    {guess, failure.Suite, 1, false},
		"nothing known of a build": {unsure, failure.Build, 1, false},
	} {
		if got := premature(c.d, c.phase, c.attempts); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestATargetWithoutAnEngineIsNotHealed(t *testing.T) {
	s := &session{}
	if heals, ok := s.heal(context.Background(), run.Step{Name: "unit", Phase: failure.Suite}, failure.Diagnosis{Class: failure.EngineConnection, Retry: failure.HealThenRetry}); ok || len(heals) > 0 {
		t.Errorf("healed %v: %v", ok, heals)
	}
}

// TestAPortThatOnlyATextCallsAstray: what a text says about a port counts only
// if the port is like that now.
func TestAPortThatOnlyATextCallsAstray(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	said := fmt.Errorf(`Get "http://%[1]s/readyz": dial tcp %[1]s: connect: no route to host`, l.Addr())
	if got := astray(t.Context(), said); got != "" {
		t.Errorf("%s answers, and is called astray", got)
	}
}

func TestWhatTheGoCommandFailsOf(t *testing.T) {
	for name, c := range map[string]struct {
		output string
		want   failure.Verdict
	}{
		"a test":           {"--- FAIL: TestX (0.0s)\n    x_test.go:3: dial tcp 1.2.3.4:443: no space left on device\nFAIL\tx\t0.1s", failure.Code},
		"a finding":        {"tools/x.go:3:1: undefined: y", failure.Code},
		"the module proxy": {`go: github.com/rhysd/actionlint@v1.7.12: Get "https://proxy.golang.org/github.com/rhysd/actionlint/@v/v1.7.12.zip": dial tcp: lookup proxy.golang.org: Temporary failure in name resolution`, failure.Infrastructure},
		"a full disk":      {"# example.com/x\n/usr/lib/go/pkg/tool/linux_amd64/link: writing output: write $WORK/b001/exe/a.out: no space left on device", failure.Infrastructure},
		"a killed linker":  {"# example.com/x\n/usr/lib/go/pkg/tool/linux_amd64/link: signal: killed\nFAIL\texample.com/x [build failed]\nFAIL", failure.Infrastructure},
	} {
		err := goFailure("tests failed", "correct them", &command.Error{Command: "go test", Code: 1, Output: c.output, Err: errors.New("exit status 1")})
		if got := failure.Of(err, failure.Suite, failure.Facts{}).Verdict(failure.Suite); got != c.want {
			t.Errorf("%s: %s, want %s: %v", name, got, c.want, err)
		}
	}
}

func TestARestartIsSharedByStepsSideBySide(t *testing.T) {
	s, restarts := &session{}, 0
	hand := s.once(func(context.Context) (string, error) { restarts++; return "it answers again", nil })
	for range 2 {
		if effect, err := hand(t.Context()); effect == "" || err != nil {
			t.Errorf("%q, %v", effect, err)
		}
	}
	if restarts != 1 {
		t.Errorf("restarted %d times", restarts)
	}
}
