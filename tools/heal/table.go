package heal

import (
	"slices"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

type condition int

const (
	always   condition = iota
	ifSilent           // only while the engine does not answer
)

// step is one line of a plan.
type step struct {
	do    Do
	when  condition
	limit time.Duration
	proof Do // asked afterwards; empty: the hand proves it itself
}

// plan is what to do about a class of failure.
type plan struct {
	class      failure.Class
	signatures []string        // empty: all of the class that no earlier row names
	phases     []failure.Phase // empty: all
	steps      []step
	// needsEffect: repeating helps only if one of the steps did something.
	needsEffect bool
	// helpless: nothing that this project may do helps.
	helpless bool
}

// getEngineBack tries the gentlest way first. An SSH server or a service that
// its supervisor restarts is back within the first minute; only an engine that
// stays silent is restarted.
var getEngineBack = []step{
	{Reconnect, ifSilent, time.Minute, EngineAnswers},
	{RestartMachine, ifSilent, 4 * time.Minute, EngineAnswers},
	{RestartService, ifSilent, 90 * time.Second, EngineAnswers},
	{EndExecs, always, 20 * time.Second, ""},
}

// table is searched from the top; the first row that fits is the plan. The
// proofs that a phase needs (proofsFor) follow every plan.
var table = []plan{
	{class: failure.EngineConnection, steps: getEngineBack},
	{class: failure.EngineBroken, needsEffect: true, steps: []step{
		{RemoveStale, always, time.Minute, ""},
		{RestartService, always, 90 * time.Second, EngineAnswers},
		{RestartMachine, always, 4 * time.Minute, EngineAnswers},
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
		{EndExecs, always, 20 * time.Second, ""},
	}},
	// The proof that the cluster answers writes it again.
	{class: failure.StaleState, signatures: []string{failure.KubeconfigBroken}, steps: []step{
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
	}},
	// Pods whose image went away under them: the look at what is there puts that
	// right, often without moving a byte.
	{class: failure.StaleState, phases: []failure.Phase{failure.Deploy, failure.Suite}, steps: []step{
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
		{ReloadImages, always, 5 * time.Minute, ""},
	}},
	// Images that this run built and that somebody took out of the engine.
	{class: failure.StaleState, signatures: []string{"image-lost"}, needsEffect: true, steps: []step{
		{RebuildImages, always, 20 * time.Minute, ""},
	}},
	// "known" is this project's own look before it makes a cluster: the same
	// port or lock is in the way until somebody takes it away.
	{class: failure.StaleState, signatures: []string{"known"}, needsEffect: true, steps: []step{
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
		{RemoveStale, always, time.Minute, ""},
	}},
	// All else in the way was found by Kind or the engine, and the step has
	// removed what it made; repeated, it looks first.
	{class: failure.StaleState, steps: []step{
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
		{EndExecs, always, 20 * time.Second, ""},
		{RemoveStale, always, time.Minute, ""},
	}},
	// Passing load on the host.
	{class: failure.Resources, signatures: []string{"runner-starved", "etcd-slow-disk", "addresses-exhausted", "addresses-exhausted-anywhere"}, steps: []step{
		{Wait, always, time.Minute, ""},
	}},
	{class: failure.Resources, signatures: []string{"memory-killed-build", "memory-killed-compiler", "memory-exhausted", "container-oom", "exit-137", "too-few-cpus",
		"rlimit", "inotify-limit", "too-many-files", "too-many-files-anywhere", "process-limit", "key-quota", "key-quota-container-start",
		"unschedulable-resources"}, helpless: true},
	{class: failure.Resources, needsEffect: true, steps: []step{
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
		{FreeSpace, always, 2 * time.Minute, ""},
	}},
	{class: failure.Network, steps: []step{
		{Reconnect, ifSilent, time.Minute, EngineAnswers},
		{Wait, always, time.Minute, ""},
	}},
	{class: failure.ClusterUnready, steps: getEngineBack},
	{class: failure.Unknown, steps: getEngineBack},
	// The rest is configuration or code: nobody here can put that right.
	{helpless: true},
}

// onlyProofs is the plan of a failure that needs no healing to be repeated.
var onlyProofs = plan{steps: []step{{Reconnect, ifSilent, time.Minute, EngineAnswers}, {EndExecs, always, 20 * time.Second, ""}}}

func planFor(d failure.Diagnosis, phase failure.Phase) plan {
	if d.Retry == failure.RetryNow {
		return onlyProofs
	}
	for _, p := range table {
		if (p.class == "" || p.class == d.Class) &&
			(len(p.signatures) == 0 || slices.Contains(p.signatures, d.Signature)) &&
			(len(p.phases) == 0 || slices.Contains(p.phases, phase)) {
			return p
		}
	}
	return plan{helpless: true}
}

// proofsFor is what has to be proven before a step of that phase is repeated.
// After an engine's restart the nodes may be stopped, and after theirs the API
// may not be there yet, nor the workload that a suite is about.
func proofsFor(phase failure.Phase) []step {
	proofs := []step{{do: EngineAnswers, limit: proofLimit}}
	switch phase {
	case failure.Load, failure.Deploy:
		return append(proofs, step{do: ClusterAnswers, limit: 4 * time.Minute})
	case failure.Suite:
		return append(proofs, step{do: ClusterAnswers, limit: 4 * time.Minute}, step{do: WorkloadRuns, limit: 5 * time.Minute})
	}
	return proofs
}
