package failure

import (
	"math"
	"slices"
	"strings"
)

// voice is how much a signature's word counts against the model's: the
// logarithm of odds. The numbers here were chosen on outputs that neither the
// signatures nor the model had seen; where several did as well, the one that
// trusts signatures more, as people can read why those speak.
var voice = map[string]float64{"certain": 6, "high": 5, "medium": 2, "low": 0.5}

const (
	leastSure = 0.3  // below, what no signature knows stays unknown
	phaseless = 0.5  // the same for blaming infrastructure where not even the phase is known
	innocent  = 0.15 // above, an output may be a test's; the model does not call it infrastructure
	convinced = 0.97 // what it takes to call infrastructure what a signature holds for the code's
	persuaded = 0.6  // the same outside specs where that signature only goes by the phase
	inSpec    = 0.95 // what it takes to blame the engine's side for what a spec printed
	lean      = 0.7  // off the voice of a signature that blames infrastructure
	doubt     = 1.5  // and more off it where a test framework speaks, too
)

// likeness begins the signature of what only resembles labelled outputs.
const likeness = "like-"

// Guessed reports whether nothing was found that is known to mean d.
func (d Diagnosis) Guessed() bool {
	return d.Confidence == "low" || strings.HasPrefix(d.Signature, likeness)
}

// weigh puts what a signature says of e beside what the model has learnt from
// labelled outputs. Where they agree, or the signature is the surer, d stays.
// The model never makes infrastructure of what may be a test's failure. Certain
// says that the signature is about what no product says of itself.
func (d Diagnosis) weigh(e *excerpt, certain bool) Diagnosis {
	m, err := modelLoaded()
	if err != nil { // a test keeps the file right; a broken one must still not break a run
		return d
	}
	return d.weighBy(m, e, certain)
}

func (d Diagnosis) weighBy(m model, e *excerpt, certain bool) Diagnosis {
	odds := m.odds(features(e))
	sure := map[Class]float64{}
	for i, o := range outcomes {
		sure[o.class] += odds[i]
	}
	loud := voice[d.Confidence]
	if certain {
		loud = voice["certain"]
	}
	best, most := d.Class, math.Inf(-1)
	for _, c := range classes {
		score := math.Log(max(sure[c], 1e-6))
		if c == d.Class {
			score += loud
			if c.infrastructure() && !certain {
				score -= lean
				if e.place == spec && e.tests {
					score -= doubt
				}
			}
		}
		if score > most {
			best, most = c, score
		}
	}
	if best != d.Class && best.infrastructure() && d.shields(e, sure, best) {
		if d.Class != Unknown {
			return d
		}
		best = TestFailure
	}
	least := leastSure
	if e.given == "" && best.infrastructure() {
		least = phaseless
	}
	switch {
	case best == d.Class:
		if known := slices.Contains(outcomes, outcome{best, d.Retry}); known && !certain {
			d.Retry = likeliest(best, odds)
		}
		return d
	case d.Class == Unknown && sure[best] < max(least, sure[Unknown]):
		return d
	}
	return learnt(best, sure[best], odds, e)
}

// likeliest is the retry policy that the model gives to c.
func likeliest(c Class, odds []float64) Retry {
	r, most := c.usualRetry(), 0.0
	for i, o := range outcomes {
		if o.class == c && odds[i] > most {
			r, most = o.retry, odds[i]
		}
	}
	return r
}

// shields says whether an output may be a test's failure, so that the model
// must not make c, a class of infrastructure, of it. In a spec only what no
// product says of itself can be held against an engine, its state or its limits.
func (d Diagnosis) shields(e *excerpt, sure map[Class]float64, c Class) bool {
	switch {
	case sure[TestFailure] > innocent,
		e.place == spec && e.tests && (sure[c] < inSpec || c == Network || c == ClusterUnready):
		return true
	case d.Class != TestFailure:
		return false
	case d.Confidence == "low" && e.place != spec:
		return sure[c] < persuaded
	}
	return d.Confidence == "high" || sure[c] < convinced
}

func (c Class) infrastructure() bool {
	return !slices.Contains([]Class{TestFailure, Configuration, ImageReference, VersionMismatch}, c)
}

// learnt is the diagnosis of an output that only resembles known ones.
func learnt(c Class, sure float64, odds []float64, e *excerpt) Diagnosis {
	d := Diagnosis{Class: c, Retry: likeliest(c, odds), Signature: likeness + string(c), Confidence: "low",
		Cause: meaning[c].cause, Remedy: meaning[c].remedy}
	if sure > 0.8 {
		d.Confidence = "medium"
	}
	for i := len(e.lines) - 1; i >= 0; i-- {
		if l := strings.TrimSpace(e.lines[i]); hasAny(lowerASCII(l), faultWords) {
			if r := []rune(l); len(r) > 120 {
				l = string(r[:117]) + "..."
			}
			d.Cause += ": " + l
			break
		}
	}
	return d
}

// meaning says of each class what it is and what helps, where no signature
// says it better.
var meaning = map[Class]struct{ cause, remedy string }{
	EngineConnection: {"the container engine seems out of reach", "podman info or docker info shows whether it answers; start it, then repeat the step"},
	EngineBroken:     {"the container engine's own state seems broken", "restart the engine or its machine; mage doctor shows what it says of itself"},
	StaleState:       {"something left by an earlier run seems in the way", "mage teardown, then repeat the step"},
	Resources:        {"a limit of host, machine or node seems reached", "df -h, free -m and podman machine inspect show which; free it or enlarge it"},
	Network:          {"the way to a registry or the outside seems broken", "repeat the step; if it stays, check DNS and proxy"},
	VersionMismatch:  {"two tools seem not to fit each other", "mage doctor shows the versions; change one of them"},
	ImageReference:   {"an image seems not to exist under that name for this machine", "podman images shows the names that there are; correct the reference"},
	Configuration:    {"what was asked for seems not to work on this host", "read the line and correct that setting"},
	ClusterUnready:   {"a node or pod seems not to have become ready", "kubectl get events,pods -A shows which; then repeat the step"},
	TestFailure:      {"the code, its test or its image's build seems at fault", "read the failing test or step; a retry will not help"},
}
