package failure

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is one labelled output.
type sample struct {
	ID    string `json:"id"`
	Phase Phase  `json:"phase"`
	Text  string `json:"text"`
	Class Class  `json:"class"`
	Retry Retry  `json:"retry"`
}

func samples(t testing.TB, path string) []sample {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []sample
	in := bufio.NewScanner(f)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		if len(in.Bytes()) == 0 {
			continue
		}
		var s sample
		if err := json.Unmarshal(in.Bytes(), &s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, s)
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

type score struct{ n, class, retry, framed int }

func (s score) percent(n int) float64 { return 100 * float64(n) / float64(max(1, s.n)) }

// measure counts what Explain gets right; each miss is logged.
func measure(t testing.TB, all []sample, withPhase bool) score {
	t.Helper()
	var s score
	for _, x := range all {
		p := x.Phase
		if !withPhase {
			p = ""
		}
		d := Explain(x.Text, p, Facts{})
		s.n++
		if d.Class == x.Class {
			s.class++
		}
		if d.Retry == x.Retry {
			s.retry++
		}
		if x.Class == TestFailure && d.Class != Unknown && d.Verdict(p) == Infrastructure ||
			x.Class == TestFailure && d.Verdict(x.Phase) == Infrastructure && withPhase {
			s.framed++
			t.Errorf("%s (%s): a test failure was taken for %s by %q", x.ID, x.Phase, d.Class, d.Signature)
		}
		if d.Class != x.Class || d.Retry != x.Retry {
			t.Logf("%s %s phase=%v: want %s/%s, got %s/%s by %q", x.ID, x.Phase, withPhase, x.Class, x.Retry, d.Class, d.Retry, d.Signature)
		}
	}
	t.Logf("phase=%v: %d outputs, class %.1f%%, retry %.1f%%, test failures taken for infrastructure %d",
		withPhase, s.n, s.percent(s.class), s.percent(s.retry), s.framed)
	return s
}

// The outputs in testdata/reported.jsonl are what people reported of tools that
// this project calls and of some that it does not: short, in our words, with
// invented names. Each batch was labelled before the classifier saw it, measured,
// and learnt. Blind, the first 25 got between 65 and 93 % of the classes right, and
// 26 to 35 together 86 %, and 88 % of the retries. From 36 on three readers labelled
// each output without seeing what the others said; they agreed on 99 % of the
// classes and 96 % of the retries:
//
//	batches   class    retry
//	36 to 38  89.0 %   88.3 %   then the model was trained as it is now
//	39 to 41  88.4 %   89.1 %
//	42 to 44  93.0 %   93.7 %
//	45, 46    92.2 %   87.8 %
//	36 to 44  90.8 %   92.4 %   taught without them, beside signatures older than they
//	26 to 35  93.0 %   93.0 %   the same, a sixth of all batches at a time
//
// The bounds are what is reached since; what the model alone makes of outputs that
// it has not seen, TestModelOnOutputsItHasNotSeen says. Retries are bound lower:
// outputs of the same words were labelled retry by one and heal-then-retry by
// another.
func TestReportedOutputs(t *testing.T) {
	all := samples(t, filepath.Join("testdata", "reported.jsonl"))
	for i := range len(all) / slower { // spread, since they stand batch by batch
		all[i] = all[i*slower]
	}
	all = all[:len(all)/slower]
	slack := 0.0
	if slower > 1 { // of a sample, two outputs more or less say nothing
		slack = 200 / float64(len(all))
	}
	for _, c := range []struct {
		withPhase    bool
		class, retry float64
	}{{true, 98, 96}, {false, 97, 95}} {
		s := measure(t, all, c.withPhase)
		if s.percent(s.class) < c.class-slack || s.percent(s.retry) < c.retry-slack {
			t.Errorf("phase=%v: class %.1f%%, retry %.1f%%, want at least %v%% and %v%%",
				c.withPhase, s.percent(s.class), s.percent(s.retry), c.class, c.retry)
		}
	}
	for _, x := range all {
		if x.Class != Unknown {
			continue
		}
		if d := Explain(x.Text, x.Phase, Facts{}); d.Class != Unknown || d.Confidence != "low" {
			t.Errorf("%s reports no failure, and was called %s by %q with confidence %s", x.ID, d.Class, d.Signature, d.Confidence)
		}
	}
}

func TestWhatRunnersPrintBeforeEachLineDoesNotMatter(t *testing.T) {
	all := append(samples(t, filepath.Join("testdata", "reported.jsonl")), samples(t, filepath.Join("testdata", "own.jsonl"))...)
	for i, before := range []string{
		"W1117 04:30:30.992] ", "[2021-09-23T08:58:00.623Z] ", "2025-12-13T10:11:12.123456789Z stderr F ",
		`Step #2 - "suite": `, "runner-1  | ", "E2E (press)\t2026-01-03T14:21:44.5873768Z ", "    ", "> ", "00:12 ",
	} {
		for k := i; k < len(all); k += 40 * slower {
			x := all[k]
			plain := Explain(x.Text, x.Phase, Facts{})
			got := Explain(before+strings.ReplaceAll(x.Text, "\n", "\n"+before), x.Phase, Facts{})
			if got.Class != plain.Class || got.Retry != plain.Retry {
				t.Errorf("%s after %q: %s/%s by %q, plain it is %s/%s by %q", x.ID, before,
					got.Class, got.Retry, got.Signature, plain.Class, plain.Retry, plain.Signature)
			}
		}
	}
}

// The public outputs lie beside the project, not in it.
var publicFile = filepath.Join("..", "..", "..", "shared", "failures", "public.jsonl")

func TestPublicOutputs(t *testing.T) {
	path := publicFile
	if other := os.Getenv("FAILURE_SAMPLES"); other != "" {
		path = other
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("SKIP-NO-PUBLIC-OUTPUTS: " + path + " is not beside this checkout")
	}
	all := samples(t, path)
	with := measure(t, all, true)
	without := measure(t, all, false)
	if with.percent(with.class) < 92 || with.percent(with.retry) < 92 {
		t.Errorf("with phase: class %.1f%%, retry %.1f%%, want at least 92%% each", with.percent(with.class), with.percent(with.retry))
	}
	if without.percent(without.class) < with.percent(with.class)-5 || without.percent(without.retry) < with.percent(with.retry)-5 {
		t.Errorf("without phase: class %.1f%%, retry %.1f%%: more than 5 points less", without.percent(without.class), without.percent(without.retry))
	}
}
