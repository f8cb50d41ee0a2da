package failure

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// model.tsv is made by go test -run TestTrain -train: a line of names, then a
// line for each feature with its rarity and its weight for each outcome, in tenths.
//
//go:embed model.tsv
var modelFile []byte

const tenths = 10

// outcome is what the model tells apart.
type outcome struct {
	class Class
	retry Retry
}

// outcomes that occur often enough to be learnt; the first of a class stands
// for its rare ones, too.
var outcomes = []outcome{
	{EngineConnection, HealThenRetry}, {EngineConnection, RetryNow}, {EngineBroken, HealThenRetry},
	{StaleState, HealThenRetry}, {StaleState, RetryNow}, {Resources, HealThenRetry}, {Network, RetryNow},
	{VersionMismatch, FailFast}, {ImageReference, FailFast}, {Configuration, FailFast},
	{ClusterUnready, RetryNow}, {ClusterUnready, HealThenRetry}, {TestFailure, FailFast}, {Unknown, FailFast},
}

// model is a linear classifier over the words and pairs of words of a text, the
// phase and each word in it, and who owns the addresses of failed calls.
type model map[string]*weights

type weights struct {
	rarity float64 // the logarithm of how few outputs have the feature
	of     []float64
}

var modelLoaded = sync.OnceValues(func() (model, error) { return readModel(modelFile) })

func readModel(data []byte) (model, error) {
	m := model{}
	for i, line := range strings.Split(string(bytes.TrimSpace(data)), "\n") {
		if i == 0 {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 2+len(outcomes) {
			return nil, fmt.Errorf("model line %d has %d fields, want %d", i+1, len(fields), 2+len(outcomes))
		}
		numbers := make([]float64, len(fields)-1)
		for k, f := range fields[1:] {
			n, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("model line %d: %w", i+1, err)
			}
			numbers[k] = float64(n) / tenths
		}
		m[fields[0]] = &weights{numbers[0], numbers[1:]}
	}
	return m, nil
}

const always = "ALWAYS" // the feature that every text has

// odds returns the probability of each outcome.
func (m model) odds(features []string) []float64 {
	p := make([]float64, len(outcomes))
	known, norm := make([]*weights, 0, len(features)), 0.0
	for _, f := range features {
		if w := m[f]; w != nil {
			known = append(known, w)
			norm += w.rarity * w.rarity
		}
	}
	norm = math.Sqrt(max(norm, 1e-9))
	for _, w := range known {
		for c, x := range w.of {
			p[c] += x * w.rarity / norm
		}
	}
	if w := m[always]; w != nil {
		for c, x := range w.of {
			p[c] += x
		}
	}
	top, sum := slices.Max(p), 0.0
	for c := range p {
		p[c] = math.Exp(p[c] - top)
		sum += p[c]
	}
	for c := range p {
		p[c] /= sum
	}
	return p
}

var (
	hexes   = regexp.MustCompile(`\b[0-9a-f]{7,}\b`)
	digits  = regexp.MustCompile(`\d+`)
	telling = regexp.MustCompile(`\b(?:12[567]|13[79]|143|40[1349]|42[29]|50[0234])\b`) // exit codes of shells and signals, HTTP's codes
	wordish = regexp.MustCompile(`[a-z_][a-z_0]*(?:'t)?|0+|\[|●|✗`)
)

// inLetters writes a number so that the model tells it from others.
func inLetters(number string) string {
	return "number_" + strings.Map(func(digit rune) rune { return 'a' + digit - '0' }, number)
}

// features lists what the model knows a text by.
func features(e *excerpt) []string {
	lines := e.lines
	if len(lines) > 60 { // of a long log what speaks of faults, the last of it
		lines = slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !hasAny(lowerASCII(l), faultWords) })
		lines = lines[max(0, len(lines)-40):]
	}
	seen := map[string]bool{fmt.Sprint("PLACE ", int(e.place)): true}
	if e.given != "" {
		seen["PHASE "+string(e.given)] = true
		seen[fmt.Sprint("PLACE ", int(e.place), " ", e.given)] = true
	}
	for _, c := range e.calls {
		seen["OWNER "+string(c.owner)] = true
		seen["FAULT "+string(c.fault)] = true
		seen["CALL "+string(c.owner)+" "+string(c.fault)] = true
	}
	for _, l := range lines {
		if len(l) > 4000 {
			l = l[len(l)-4000:]
		}
		l = telling.ReplaceAllStringFunc(hexes.ReplaceAllString(strings.ToLower(l), "hex"), inLetters)
		l = digits.ReplaceAllString(l, "0")
		last := "^"
		for _, w := range append(wordish.FindAllString(l, -1), "$") {
			seen[w] = true
			seen[last+" "+w] = true
			last = w
		}
	}
	for _, dull := range []string{"$", "^ $"} {
		delete(seen, dull)
	}
	out := make([]string, 0, 2*len(seen))
	for f := range seen {
		out = append(out, f)
		if e.given != "" && !strings.Contains(f, " ") { // a word means other things in other phases
			out = append(out, string(e.given)+"|"+f)
		}
	}
	slices.Sort(out)
	return out
}
