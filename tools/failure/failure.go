// Package failure says what went wrong, whose fault it is and what helps.
//
// It owns the classes, the typed [Error] that packages return when they know a
// cause for certain, and the signatures that read a cause out of a tool's
// output. It does not act: healing and retrying belong to others.
package failure

import (
	"errors"
	"fmt"
	"strings"
)

// Class is the kind of a failure.
type Class string

// The classes. Each names the layer that has to change before the same
// operation can pass.
const (
	EngineConnection Class = "engine-connection" // the client lost, or cannot reach, the engine or its machine
	EngineBroken     Class = "engine-broken"     // the engine answers, but its own state is broken
	StaleState       Class = "stale-state"       // something left by an earlier or parallel run is in the way
	Resources        Class = "resources"         // a limit of host, machine or node is reached
	Network          Class = "network"           // the way to a registry or proxy fails; the name is right
	VersionMismatch  Class = "version-mismatch"  // two tools, or a tool and the host, do not fit
	ImageReference   Class = "image-reference"   // wrong name, tag, digest or architecture
	Configuration    Class = "configuration"     // what was asked for cannot work on this host
	ClusterUnready   Class = "cluster-unready"   // nodes or pods not ready in time, no clearer cause printed
	TestFailure      Class = "test-failure"      // the code under test, the test or the image's build
	Unknown          Class = "unknown"           // nothing known matched
)

// Retry says whether doing the same again can help.
type Retry string

// The retry policies.
const (
	RetryNow      Retry = "retry"           // doing the same again helps
	HealThenRetry Retry = "heal-then-retry" // something must be put right first
	FailFast      Retry = "fail-fast"       // it will fail the same way for ever
)

// KubeconfigBroken is the signature of a kubeconfig of ours that cannot be used.
const KubeconfigBroken = "kubeconfig-broken"

// Phase is the part of a run in which a failure was seen.
type Phase string

// The phases.
const (
	Preflight     Phase = "preflight"
	ClusterCreate Phase = "cluster-create"
	Build         Phase = "build"
	Export        Phase = "export"
	Load          Phase = "load"
	Deploy        Phase = "deploy"
	Suite         Phase = "suite"
	Teardown      Phase = "teardown"
)

// Diagnosis is the answer to "what went wrong and what helps".
type Diagnosis struct {
	Class      Class  `json:"class"`
	Retry      Retry  `json:"retry"`
	Signature  string `json:"signature"`  // name of the rule that matched; empty if none did
	Cause      string `json:"cause"`      // one sentence
	Remedy     string `json:"remedy"`     // a command or a setting
	Confidence string `json:"confidence"` // high, medium or low
}

// Error is a failure whose cause the returning package knows.
type Error struct {
	Diagnosis
	Err error // what was observed; may be nil
}

// New returns an error of a known class. Cause and remedy are one line each:
// cause names the thing, remedy is a command or a setting. The retry policy is
// the class's usual one; change it on the returned value where it differs.
func New(class Class, cause, remedy string, err error) *Error {
	return &Error{
		Diagnosis: Diagnosis{
			Class: class, Retry: class.usualRetry(), Signature: "known",
			Cause: cause, Remedy: remedy, Confidence: "high",
		},
		Err: err,
	}
}

// Error gives cause, observation and remedy, at most one line each.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Cause)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Remedy != "" {
		fmt.Fprintf(&b, "\n  remedy: %s", e.Remedy)
	}
	return b.String()
}

// Unwrap returns the observation.
func (e *Error) Unwrap() error { return e.Err }

// As returns the outermost [Error] in err's tree, or nil.
func As(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

func (c Class) usualRetry() Retry {
	switch c {
	case EngineConnection, EngineBroken, StaleState, Resources:
		return HealThenRetry
	case Network, ClusterUnready:
		return RetryNow
	default:
		return FailFast
	}
}

// Verdict is whose fault a run's end is.
type Verdict string

// The verdicts, as they stand in result.json.
const (
	Passed         Verdict = "passed"
	Code           Verdict = "test-failure"
	Infrastructure Verdict = "infrastructure"
	Misconfigured  Verdict = "configuration"
)

// Exit codes. 75 is EX_TEMPFAIL of sysexits.h.
const (
	ExitPassed         = 0
	ExitCode           = 1
	ExitUsage          = 2
	ExitInfrastructure = 75
)

// ExitCode returns the process exit code of a verdict.
func (v Verdict) ExitCode() int {
	switch v {
	case Passed:
		return ExitPassed
	case Code:
		return ExitCode
	case Misconfigured:
		return ExitUsage
	default:
		return ExitInfrastructure
	}
}

// Verdict returns whose fault a failure of this diagnosis in this phase is.
// A failure of a suite or a build that no signature knows is the code's until
// evidence says otherwise: a test failure must never be taken for
// infrastructure.
func (d Diagnosis) Verdict(p Phase) Verdict {
	switch d.Class {
	case TestFailure:
		return Code
	case Configuration, ImageReference, VersionMismatch:
		return Misconfigured
	case Unknown, "":
		if d.Signature == "" && (p == Suite || p == Build) {
			return Code
		}
	}
	return Infrastructure
}
