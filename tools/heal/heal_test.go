package heal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// world is an engine with a cluster, and what brings them back.
type world struct {
	silent  bool // the engine does not answer
	cures   Do   // what makes it answer; empty: nothing
	nothing []Do // what finds nothing to do
	down    bool // the cluster does not answer and cannot be repaired
	did     []Do
	hang    Do
}

var errDown = errors.New("connection refused")

func (w *world) hands() map[Do]Hand {
	hands := map[Do]Hand{
		EngineAnswers: func(context.Context) (string, error) {
			if w.silent {
				return "", errDown
			}
			return "it answers", nil
		},
		ClusterAnswers: func(context.Context) (string, error) {
			w.did = append(w.did, ClusterAnswers)
			if w.down {
				return "", errors.New("node is gone")
			}
			return "", nil
		},
	}
	for _, do := range []Do{Reconnect, RestartMachine, RestartService, EndExecs, RemoveStale, FreeSpace, ReloadImages, RebuildImages, Wait} {
		hands[do] = func(ctx context.Context) (string, error) {
			w.did = append(w.did, do)
			if do == w.hang {
				<-ctx.Done()
				return "", ctx.Err()
			}
			if do == w.cures {
				w.silent = false
			}
			if slices.Contains(w.nothing, do) {
				return "", nil
			}
			if do == Reconnect && w.silent {
				return "", errDown
			}
			return "done", nil
		}
	}
	return hands
}

func TestEveryRow(t *testing.T) {
	nothing := []Do{RestartMachine, RestartService, EndExecs, RemoveStale, FreeSpace, ReloadImages}
	cases := []struct {
		name      string
		class     failure.Class
		signature string
		phase     failure.Phase
		world     world
		did       []Do
		ok        bool
	}{
		{"a restarting engine is waited for", failure.EngineConnection, "", failure.Load, world{silent: true, cures: Reconnect}, []Do{Reconnect, EndExecs, ClusterAnswers}, true},
		{"an engine that is back is not touched", failure.EngineConnection, "", failure.Build, world{nothing: nothing}, []Do{EndExecs}, true},
		{"a machine that hangs is restarted", failure.EngineConnection, "", failure.Build, world{silent: true, cures: RestartMachine}, []Do{Reconnect, RestartMachine, EndExecs}, true},
		{"a service of ours is restarted last", failure.EngineConnection, "", failure.Build, world{silent: true, cures: RestartService, nothing: []Do{RestartMachine}},
			[]Do{Reconnect, RestartMachine, RestartService, EndExecs}, true},
		{"an engine that stays silent", failure.EngineConnection, "", failure.Build, world{silent: true, nothing: nothing}, []Do{Reconnect, RestartMachine, RestartService, EndExecs}, false},
		{"nodes that cannot be repaired", failure.EngineConnection, "", failure.Load, world{silent: true, cures: Reconnect, down: true}, []Do{Reconnect, EndExecs, ClusterAnswers}, false},
		{"a broken engine is restarted though it answers", failure.EngineBroken, "", failure.ClusterCreate, world{nothing: []Do{RestartMachine, RemoveStale}},
			[]Do{RemoveStale, RestartService, RestartMachine, EndExecs}, true},
		{"a broken engine that is not ours", failure.EngineBroken, "", failure.ClusterCreate, world{nothing: nothing}, []Do{RemoveStale, RestartService, RestartMachine, EndExecs}, false},
		{"images that went away", failure.StaleState, "workload-cannot-start", failure.Deploy, world{}, []Do{ReloadImages, ClusterAnswers}, true},
		{"a kubeconfig that cannot be used", failure.StaleState, failure.KubeconfigBroken, failure.Deploy, world{}, []Do{ClusterAnswers}, true},
		{"images that were taken out of the engine", failure.StaleState, "image-lost", failure.Load, world{}, []Do{RebuildImages, ClusterAnswers}, true},
		{"a port of a cluster of ours", failure.StaleState, "known", failure.ClusterCreate, world{}, []Do{RemoveStale}, true},
		{"a port of somebody else's", failure.StaleState, "known", failure.ClusterCreate, world{nothing: nothing}, []Do{RemoveStale}, false},
		{"something that Kind found in its way", failure.StaleState, "container-name-taken", failure.ClusterCreate, world{nothing: nothing}, []Do{EndExecs, RemoveStale}, true},
		{"a full disk with something to give up", failure.Resources, "disk-full", failure.Build, world{}, []Do{FreeSpace}, true},
		{"a full disk with nothing to give up", failure.Resources, "disk-full", failure.Build, world{nothing: nothing}, []Do{FreeSpace}, false},
		{"a busy host", failure.Resources, "etcd-slow-disk", failure.Build, world{}, []Do{Wait}, true},
		{"no memory", failure.Resources, "memory-exhausted", failure.Build, world{}, nil, false},
		{"a registry that failed twice", failure.Network, "", failure.Build, world{}, []Do{Wait}, true},
		{"a cluster that is not ready", failure.ClusterUnready, "", failure.Deploy, world{nothing: nothing}, []Do{EndExecs, ClusterAnswers}, true},
		{"code", failure.TestFailure, "", failure.Suite, world{}, nil, false},
		{"configuration", failure.Configuration, "", failure.Preflight, world{}, nil, false},
		{"an image that does not exist", failure.ImageReference, "", failure.Deploy, world{}, nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := failure.Diagnosis{Class: c.class, Signature: c.signature, Retry: failure.HealThenRetry}
			done, ok := Heal(t.Context(), Request{Diagnosis: d, Phase: c.phase, Hands: c.world.hands()})
			if ok != c.ok {
				t.Errorf("healed %v, want %v: %+v", ok, c.ok, done)
			}
			if !slices.Equal(c.world.did, c.did) {
				t.Errorf("did %q, want %q", c.world.did, c.did)
			}
			if !c.ok && c.did != nil && slices.ContainsFunc(c.did, func(d Do) bool { return d == ClusterAnswers }) && done[len(done)-1].OK {
				t.Errorf("the last action does not say why: %+v", done)
			}
		})
	}
}

func TestWhatNeedsNoHealingIsOnlyProven(t *testing.T) {
	now := failure.Diagnosis{Class: failure.EngineConnection, Retry: failure.RetryNow}
	w := world{nothing: []Do{EndExecs}}
	done, ok := Heal(t.Context(), Request{Diagnosis: now, Phase: failure.Load, Hands: w.hands()})
	if !ok || len(done) != 0 {
		t.Errorf("all is well, and yet ok=%v, %+v", ok, done)
	}
	w = world{down: true}
	if done, ok = Heal(t.Context(), Request{Diagnosis: now, Phase: failure.Suite, Hands: w.hands()}); ok || len(done) == 0 {
		t.Errorf("the cluster is down, and yet ok=%v, %+v", ok, done)
	}
}

func TestAnActionThatHangsIsEndedAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world{silent: true, cures: RestartMachine, hang: Reconnect}
		began := time.Now()
		done, ok := Heal(t.Context(), Request{Diagnosis: failure.Diagnosis{Class: failure.EngineConnection, Retry: failure.HealThenRetry}, Phase: failure.Build, Hands: w.hands()})
		if !ok || len(done) < 2 || done[0].OK || !strings.Contains(done[0].Effect, "not done within 1m0s") {
			t.Errorf("ok=%v, %+v", ok, done)
		}
		if took := time.Since(began); took > 70*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestACancelledHealingIsNotOK(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := world{}
	if _, ok := Heal(ctx, Request{Diagnosis: failure.Diagnosis{Class: failure.EngineConnection, Retry: failure.HealThenRetry}, Phase: failure.Build, Hands: w.hands()}); ok {
		t.Error("healed with a context that had ended")
	}
}
