package failure

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"
)

//go:embed signatures.yaml
var signatureFile []byte

// signature is one entry of signatures.yaml; the file's head explains the
// fields for people.
type signature struct {
	Name      string   `json:"name"`
	Tier      tier     `json:"tier"`
	Class     Class    `json:"class"`
	Retry     Retry    `json:"retry"`
	Phases    []Phase  `json:"phases,omitempty"`
	NotPhases []Phase  `json:"not-phases,omitempty"`
	Where     string   `json:"where,omitempty"`
	Address   []owner  `json:"address,omitempty"`
	Fault     []fault  `json:"fault,omitempty"`
	All       []string `json:"all,omitempty"`
	Any       []string `json:"any,omitempty"`
	None      []string `json:"none,omitempty"`
	Cause     string   `json:"cause"`
	Remedy    string   `json:"remedy"`
	Source    string   `json:"source"`
	Example   string   `json:"example"`
	In        Phase    `json:"in,omitempty"` // the example's phase

	all, any, none []pattern
}

// noPhase is how signatures call a phase that is neither given nor to be guessed.
const noPhase Phase = "unknown"

// tier is how strong a kind of evidence is, strongest first.
type tier string

const (
	byCause   tier = "cause"   // the text prints the root cause
	byAddress tier = "address" // the layer that owns the failing address
	byWrapper tier = "wrapper" // the words of what called the failing thing
	byPhase   tier = "phase"   // nothing but where it happened
)

var tiers = []tier{byCause, byAddress, byWrapper, byPhase}

// loaded parses, checks and compiles the embedded file once.
var loaded = sync.OnceValues(func() ([]*signature, error) { return load(signatureFile) })

// load reads signatures and orders them: by tier, then as they stand.
func load(data []byte) ([]*signature, error) {
	var file struct {
		Signatures []*signature `json:"signatures"`
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, fmt.Errorf("parse signatures: %w", err)
	}
	var errs []error
	names := map[string]bool{}
	for _, s := range file.Signatures {
		if err := s.check(); err != nil {
			errs = append(errs, fmt.Errorf("signature %q: %w", s.Name, err))
		}
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("signature %q: the name is taken", s.Name))
		}
		names[s.Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortStableFunc(file.Signatures, func(a, b *signature) int {
		return slices.Index(tiers, a.Tier) - slices.Index(tiers, b.Tier)
	})
	return file.Signatures, nil
}

func (s *signature) check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(s.Name != "" && s.Cause != "" && s.Remedy != "" && s.Source != "" && s.Example != "",
		"name, cause, remedy, source and example are needed")
	need(slices.Contains(tiers, s.Tier), "unknown tier %q", s.Tier)
	need(slices.Contains(classes, s.Class), "unknown class %q", s.Class)
	need(slices.Contains([]Retry{RetryNow, HealThenRetry, FailFast}, s.Retry), "unknown retry %q", s.Retry)
	need(slices.Contains([]string{"", "anywhere", "setup", "spec"}, s.Where), "unknown where %q", s.Where)
	need(s.Class != TestFailure || s.Retry == FailFast, "a test failure is never retried")
	need(len(s.All)+len(s.Any)+len(s.Address)+len(s.Phases) > 0 || s.Where == "spec", "nothing to match")
	need(s.Tier != byPhase || len(s.Phases) > 0 || s.Where == "spec", "tier phase needs phases")
	for _, p := range slices.Concat(s.Phases, s.NotPhases) {
		need(p == noPhase || slices.Contains(phases, p), "unknown phase %q", p)
	}
	for _, o := range s.Address {
		need(slices.Contains(owners, o), "unknown address %q", o)
	}
	for _, f := range s.Fault {
		need(slices.Contains(faultNames, f), "unknown fault %q", f)
	}
	compileAll := func(exprs []string) []pattern {
		var out []pattern
		for _, expr := range exprs {
			p, err := compile(expr)
			need(err == nil, "%v", err)
			out = append(out, p)
		}
		return out
	}
	s.all, s.any, s.none = compileAll(s.All), compileAll(s.Any), compileAll(s.None)
	return errors.Join(errs...)
}

// match says whether s fits e, and what it found there: the words its patterns
// named, and the lines that decided.
func (s *signature) match(e *excerpt) (found, bool) {
	if !s.fits(e) {
		return found{}, false
	}
	f := found{words: map[string]string{}}
	for _, p := range s.all {
		at := p.find(e.plain, e.lower)
		if at == nil {
			return found{}, false
		}
		f.note(e, p, at)
	}
	if len(s.any) > 0 && !s.findAny(e, &f) {
		return found{}, false
	}
	if len(s.Address) > 0 {
		i := slices.IndexFunc(e.calls, func(c call) bool {
			return slices.Contains(s.Address, c.owner) && (len(s.Fault) == 0 || slices.Contains(s.Fault, c.fault))
		})
		if i < 0 {
			return found{}, false
		}
		f.words["target"] = e.calls[i].target
		f.line(e.calls[i].line)
	}
	for _, p := range s.none {
		if p.find(e.plain, e.lower) != nil {
			return found{}, false
		}
	}
	return f, true
}

// certain says whether s is about something that no product says of itself.
func (s *signature) certain() bool {
	return s.Where == "anywhere" && (s.Tier == byCause || slices.Equal(s.Address, []owner{ofEngine}))
}

// findAny notes the first place where one of the alternatives matches.
func (s *signature) findAny(e *excerpt, f *found) bool {
	var first []int
	var by pattern
	for _, p := range s.any {
		if at := p.find(e.plain, e.lower); at != nil && (first == nil || at[0] < first[0]) {
			first, by = at, p
		}
	}
	if first == nil {
		return false
	}
	f.note(e, by, first)
	return true
}

// fits checks place and phase. A printed cause stands in an unknown phase too;
// weaker evidence needs its phase. A suite's set-up node does what a deployment
// does.
func (s *signature) fits(e *excerpt) bool {
	switch s.Where {
	case "":
		if e.place == spec && (e.tests || s.Tier != byCause) {
			return false
		}
	case "setup":
		if e.place != setup {
			return false
		}
	case "spec":
		if e.place != spec {
			return false
		}
	}
	p := e.phase
	if p == "" {
		p = noPhase
	}
	in := func(list []Phase) bool {
		return slices.Contains(list, p) || p == Suite && e.place == setup && slices.Contains(list, Deploy)
	}
	if len(s.Phases) > 0 && !in(s.Phases) && (p != noPhase || s.Tier != byCause) {
		return false
	}
	return !slices.Contains(s.NotPhases, p) || p == Suite && e.place == setup && !slices.Contains(s.NotPhases, Deploy)
}

// found is what a signature saw in a text.
type found struct {
	words map[string]string
	lines []int
}

// note keeps the line of a match and the words that its groups name.
func (f *found) note(e *excerpt, p pattern, at []int) {
	f.line(strings.Count(e.plain[:at[0]], "\n"))
	for i, name := range p.re.SubexpNames() {
		if name != "" && at[2*i] >= 0 {
			f.words[name] = e.plain[at[2*i]:at[2*i+1]]
		}
	}
}

func (f *found) line(n int) {
	if !slices.Contains(f.lines, n) {
		f.lines = append(f.lines, n)
	}
}
