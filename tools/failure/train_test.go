package failure

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var retrain = flag.Bool("train", false, "write model.tsv from the labelled outputs in testdata")

const (
	rounds = 30
	decay  = 1e-5
	speed  = 0.5
)

// lesson is one output that the model learns from.
type lesson struct {
	features []string
	outcome  int
}

// outcomeOf returns where an output's label stands in outcomes, or -1.
func outcomeOf(s sample) int {
	if i := slices.Index(outcomes, outcome{s.Class, s.Retry}); i >= 0 {
		return i
	}
	return slices.IndexFunc(outcomes, func(o outcome) bool { return o.class == s.Class })
}

// lessons gives each output twice, with its phase and without: both occur.
func lessons(all []sample) []lesson {
	var out []lesson
	for _, s := range all {
		i := outcomeOf(s)
		if i < 0 {
			continue
		}
		for _, p := range []Phase{s.Phase, ""} {
			out = append(out, lesson{features(prepare(s.Text, p)), i})
		}
	}
	return out
}

// train fits a multinomial logistic regression by stochastic gradient descent
// with a step for each weight (Duchi, Hazan, Singer 2011).
func train(all []lesson) model {
	count := map[string]int{}
	for _, l := range all {
		for _, f := range l.features {
			count[f]++
		}
	}
	zero := func() []float64 { return make([]float64, len(outcomes)) }
	m, steps := model{always: {0, zero()}}, map[string][]float64{always: zero()}
	for f, n := range count {
		if n >= 6 { // in three outputs, as each is given twice
			m[f] = &weights{math.Log(float64(len(all)+1) / float64(n)), zero()}
			steps[f] = zero()
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		for _, i := range r.Perm(len(all)) {
			l := all[i]
			gap := m.odds(l.features)
			gap[l.outcome]--
			norm := 0.0
			for _, f := range l.features {
				if w := m[f]; w != nil {
					norm += w.rarity * w.rarity
				}
			}
			norm = math.Sqrt(max(norm, 1e-9))
			learn := func(f string, x float64) {
				w, g := m[f], steps[f]
				for c := range gap {
					slope := gap[c]*x + decay*w.of[c]
					g[c] += slope * slope
					w.of[c] -= speed / math.Sqrt(g[c]+1e-3) * slope
				}
			}
			for _, f := range l.features {
				if w := m[f]; w != nil {
					learn(f, w.rarity/norm)
				}
			}
			learn(always, 1)
		}
	}
	return m
}

func (m model) write(path string) error {
	var b strings.Builder
	b.WriteString("feature\trarity")
	for _, o := range outcomes {
		fmt.Fprintf(&b, "\t%s/%s", o.class, o.retry)
	}
	b.WriteByte('\n')
	names := make([]string, 0, len(m))
	for f := range m {
		names = append(names, f)
	}
	slices.Sort(names)
	for _, f := range names {
		fmt.Fprintf(&b, "%s\t%.1f", f, m[f].rarity)
		for _, w := range m[f].of {
			fmt.Fprintf(&b, "\t%s", strings.TrimSuffix(fmt.Sprintf("%.1f", w+0), ".0"))
		}
		b.WriteByte('\n')
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// phrases reads testdata/phrases.txt.
func phrases(t testing.TB) []sample {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "phrases.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out []sample
	var as sample
	for i, line := range strings.Split(string(data), "\n") {
		switch head, ok := strings.CutPrefix(line, "## "); {
		case ok:
			f := strings.Fields(head)
			as = sample{Phase: Phase(f[0]), Class: Class(f[1]), Retry: Retry(f[2])}
		case line != "" && !strings.HasPrefix(line, "# "):
			as.ID, as.Text = fmt.Sprint("phrase line ", i+1), strings.ReplaceAll(line, " ⏎ ", "\n")
			out = append(out, as)
		}
	}
	return out
}

// examples are those of the signatures.
func examples(t testing.TB) []sample {
	t.Helper()
	all, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	var out []sample
	for _, s := range all {
		out = append(out, sample{ID: s.Name, Phase: s.In, Class: s.Class, Retry: s.Retry, Text: s.Example})
	}
	return out
}

// TestTrain writes model.tsv anew; run it after labelled outputs, phrases or
// signatures have changed.
func TestTrain(t *testing.T) {
	if !*retrain {
		t.Skip("SKIP-NO-TRAINING: model.tsv is written only with -train")
	}
	all := slices.Concat(phrases(t), examples(t), samples(t, "testdata/reported.jsonl"), samples(t, "testdata/own.jsonl"))
	if err := train(lessons(all)).write("model.tsv"); err != nil {
		t.Fatal(err)
	}
}

// A third of the reported batches at a time is kept from the model, which then
// has to judge them without help from the signatures.
func TestModelOnOutputsItHasNotSeen(t *testing.T) {
	if testing.Short() || slower > 1 {
		t.Skip("SKIP-SLOW: training takes seconds, and minutes under the race detector")
	}
	known := lessons(slices.Concat(phrases(t), samples(t, "testdata/own.jsonl")))
	var parts [3][]sample
	for _, s := range samples(t, "testdata/reported.jsonl") {
		var batch int
		if _, err := fmt.Sscanf(s.ID, "b%d-", &batch); err != nil {
			t.Fatalf("%s: %v", s.ID, err)
		}
		parts[batch%3] = append(parts[batch%3], s)
	}
	n, right, framed := 0, 0, 0
	for i, part := range parts {
		others := slices.Concat(parts[(i+1)%3], parts[(i+2)%3])
		m := train(slices.Concat(known, lessons(others)))
		for _, s := range part {
			if s.Class == Unknown {
				continue
			}
			d := unknown(s.Phase).weighBy(m, prepare(s.Text, s.Phase), false)
			n++
			if d.Class == s.Class {
				right++
			}
			if s.Class == TestFailure && d.Class != Unknown && d.Verdict(s.Phase) == Infrastructure {
				framed++
			}
		}
	}
	share := 100 * float64(right) / float64(n)
	t.Logf("%d outputs, class %.1f%%, test failures taken for infrastructure %d", n, share, framed)
	if share < 70 {
		t.Errorf("class %.1f%%, want at least 70%%", share)
	}
}
