package failure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

var (
	classes = []Class{EngineConnection, EngineBroken, StaleState, Resources, Network, VersionMismatch,
		ImageReference, Configuration, ClusterUnready, TestFailure}
	phases = []Phase{Preflight, ClusterCreate, Build, Export, Load, Deploy, Suite, Teardown}
)

// Facts is what is known besides the text. The zero value knows nothing.
type Facts struct {
	Step                 string // the step that failed
	ExitCode             *int   // of the program whose output the text is
	EngineReachable      *bool  // the engine answers, asked after the failure
	NodesRunning         *bool  // every node container runs, asked after the failure
	PodsRestarted        *bool  // a pod of the product restarted during the step
	FullDisk             string // a disk with nearly nothing left, asked after the failure; empty: none is known
	AttemptsWithSameText int    // attempts, this one included, that ended with the same text
}

// Explain reads a cause out of what a tool or a test printed. Phase may be
// empty if it is not known. Text of any size and content is accepted; of a
// long one the head, the tail and the lines about faults are read. A text that
// neither fits a signature nor resembles labelled outputs, or that ends in
// success, gives Unknown with confidence low. Confidence is high where a cause
// is printed, medium where only the caller of what failed speaks or the text
// closely resembles labelled ones, low where it is a guess: of batches 42 to 44
// in testdata/reported.jsonl, before signatures or model had seen them, 96 % of
// the classes of high confidence were right, and 89 % of the others.
func Explain(text string, phase Phase, facts Facts) Diagnosis {
	d, e, _ := explain(text, phase)
	if d.Confidence == "medium" && phase != "" {
		// What a caller's words mean hangs on the phase; where the text alone
		// says otherwise, the answer is right less than half the time.
		if other, _, _ := explain(text, ""); other.Class != d.Class {
			d.Confidence = "low"
		}
	}
	return d.with(facts, lostConnection.in(e.plain, e.lower))
}

// Outside reads out of a build's output that the network or a limit of the host
// ended it. It is ok only where a signature is certain of that: all else that
// ends a build is the code's.
func Outside(output string) (d Diagnosis, ok bool) {
	d = Explain(output, Build, Facts{})
	return d, d.Confidence == "high" && (d.Class == Network || d.Class == Resources)
}

// Of explains an error: an [Error] in its tree wins, then an end of its
// context, then its text.
func Of(err error, phase Phase, facts Facts) Diagnosis {
	if err == nil {
		return unknown(phase)
	}
	if e := As(err); e != nil {
		return e.Diagnosis
	}
	d := Explain(err.Error(), phase, facts)
	weak := d.Class == Unknown || d.Guessed() || d.Signature == "deadline"
	switch {
	case errors.Is(err, context.Canceled) && weak:
		return Diagnosis{Class: Unknown, Retry: FailFast, Signature: "cancelled", Confidence: "medium",
			Cause: "the run was cancelled", Remedy: "start it again; it goes on from what is proven"}
	case errors.Is(err, context.DeadlineExceeded) && weak:
		return deadline(phase, facts).with(facts, false)
	}
	return d
}

// deadline is the diagnosis of a step that used up its time and said nothing.
func deadline(phase Phase, facts Facts) Diagnosis {
	step := facts.Step
	if step == "" {
		step = string(phase)
	}
	d := Diagnosis{Class: Unknown, Retry: RetryNow, Signature: "deadline", Confidence: "low",
		Cause:  fmt.Sprintf("step %q did not end in its time and printed no cause", step),
		Remedy: "mage doctor; then run again"}
	switch phase {
	case ClusterCreate, Deploy:
		d.Class = ClusterUnready
	case Load, Export, Preflight:
		d.Class, d.Retry = EngineConnection, HealThenRetry
	case Suite:
		d.Class, d.Retry, d.Remedy = TestFailure, FailFast, "see which spec ran last in the suite's output"
	}
	return d
}

// ExplainFile reads a log to its end and explains it. An unknown phase is a
// Configuration error that lists the phases; an empty one is allowed.
func ExplainFile(r io.Reader, phase Phase) (Diagnosis, error) {
	if phase != "" && !slices.Contains(phases, phase) {
		names := make([]string, len(phases))
		for i, p := range phases {
			names[i] = string(p)
		}
		return Diagnosis{}, New(Configuration, fmt.Sprintf("there is no phase %q", phase),
			"use -phase= with one of "+strings.Join(names, ", "), nil)
	}
	text, err := io.ReadAll(io.LimitReader(r, 256<<20))
	if err != nil {
		return Diagnosis{}, fmt.Errorf("read log: %w", err)
	}
	return Explain(string(text), phase, Facts{}), nil
}

func explain(text string, phase Phase) (Diagnosis, *excerpt, found) {
	if !slices.Contains(phases, phase) {
		phase = ""
	}
	e := prepare(text, phase)
	all, err := loaded()
	if err != nil { // a test keeps the file right; a broken one must still not break a run
		return unknown(phase), e, found{}
	}
	if endedWell(e.full) && !failedTests.in(e.plain, e.lower) {
		return unknown(phase), e, found{}
	}
	bad := troubled(e)
	s, f := decide(all, e, bad)
	if s == nil {
		d := unknown(phase).weigh(e, false)
		if !bad && d.Confidence == "low" { // no word of a fault, and only a guess
			d = unknown(phase)
		}
		return d, e, found{}
	}
	d := s.diagnose(e, f)
	weighed := d.weigh(e, s.certain())
	if weighed.Signature != d.Signature {
		f = found{}
	}
	return weighed, e, f
}

// decide returns the first signature that fits, or nil. In a spec, one that is
// certain goes before those that are not. Bad says that e reports a fault.
func decide(all []*signature, e *excerpt, bad bool) (*signature, found) {
	var first *signature
	var at found
	for _, s := range all {
		if !bad && (s.Tier == byWrapper || s.Tier == byPhase) {
			break // nothing went wrong that a caller's words could be about
		}
		if first != nil && !s.certain() {
			continue
		}
		f, ok := s.match(e)
		switch {
		case !ok:
		case s.certain() || e.place != spec:
			return s, f
		case first == nil:
			first, at = s, f
		}
	}
	return first, at
}

func unknown(p Phase) Diagnosis {
	d := Diagnosis{Class: Unknown, Retry: FailFast, Confidence: "low",
		Cause: "no known cause stands in the output", Remedy: "read the output; mage doctor checks engine and host"}
	if p != "" {
		d.Cause += " of phase " + string(p)
	}
	return d
}

func (s *signature) diagnose(e *excerpt, f found) Diagnosis {
	d := Diagnosis{Class: s.Class, Retry: s.Retry, Signature: s.Name,
		Cause: fill(s.Cause, f.words), Remedy: fill(s.Remedy, f.words), Confidence: "high"}
	switch {
	case s.Tier == byPhase:
		d.Confidence = "low"
	case s.Tier == byWrapper, s.Tier == byAddress && e.place != tooling:
		d.Confidence = "medium"
	}
	return d
}

var slot = regexp.MustCompile(`\{([a-z]+)\|([^{}]*)\}`)

// fill puts the words that were found into a sentence: {name|otherwise}.
func fill(sentence string, words map[string]string) string {
	return slot.ReplaceAllStringFunc(sentence, func(m string) string {
		part := slot.FindStringSubmatch(m)
		w := strings.Trim(strings.Join(strings.Fields(words[part[1]]), " "), `"'.,:;`)
		if w == "" {
			return part[2]
		}
		if r := []rune(w); len(r) > 120 {
			w = string(r[:117]) + "..."
		}
		return w
	})
}

// DecisiveLines returns the up to five lines of text that d was read from: the
// lines its signature matched, else the last ones that speak of a fault.
func DecisiveLines(text string, d Diagnosis) []string {
	e := &excerpt{lines: normalise(text)}
	var picked []int
	for _, p := range append([]Phase{""}, phases...) {
		if got, ex, f := explain(text, p); d.Signature != "" && got.Signature == d.Signature {
			e, picked = ex, f.lines
			break
		}
	}
	for i := len(e.lines) - 1; i >= 0 && len(picked) == 0; i-- {
		if hasAny(strings.ToLower(e.lines[i]), faultWords) {
			picked = append(picked, i)
		}
	}
	slices.Sort(picked)
	var out []string
	for _, i := range picked {
		l := strings.TrimSpace(e.lines[i])
		if r := []rune(l); len(r) > 300 {
			l = string(r[:297]) + "..."
		}
		if l != "" && len(out) < 5 {
			out = append(out, l)
		}
	}
	return out
}

// Format gives a diagnosis to a person: five aligned lines.
func Format(d Diagnosis) string {
	name := d.Signature
	if name == "" {
		name = "no signature"
	}
	return fmt.Sprintf("class   %s (%s)\ncause   %s\nremedy  %s\nretry   %s\nsure    %s\n",
		d.Class, name, d.Cause, d.Remedy, retryWords[d.Retry], d.Confidence)
}

var retryWords = map[Retry]string{
	RetryNow:      "retry: doing the same again can help",
	HealThenRetry: "heal-then-retry: put it right first, then repeat",
	FailFast:      "fail-fast: it fails the same way until something changes",
}
