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

// TestAGuessIsNoReasonToGiveUp: only what ends the same way twice is believed to
// be for ever; a suite or a build is not repeated for that.
func TestAGuessIsNoReasonToGiveUp(t *testing.T) {
	odd := errors.New("frobnicate failed: odd answer 12")
	for phase, want := range map[failure.Phase][]failure.Retry{
		failure.Deploy: {failure.RetryNow, failure.FailFast},
		failure.Load:   {failure.RetryNow, failure.FailFast},
		failure.Suite:  {failure.FailFast, failure.FailFast},
		failure.Build:  {failure.FailFast, failure.FailFast},
	} {
		s := &session{}
		for i, retry := range want {
			if d := s.diagnose(t.Context(), run.Step{Name: "x", Phase: phase}, odd); d.Retry != retry {
				t.Errorf("%s, attempt %d: %+v, want %s", phase, i+1, d, retry)
			}
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
