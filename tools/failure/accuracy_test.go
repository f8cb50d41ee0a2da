package failure

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
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
		if x.Class == TestFailure && d.Verdict(x.Phase) == Infrastructure {
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
