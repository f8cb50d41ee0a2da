package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// diagnose says what an error means, with what can be found out besides its
// text: whether the engine answers and the nodes run now, and whether the step
// ended in the same way before.
func (s *session) diagnose(ctx context.Context, step run.Step, err error) failure.Diagnosis {
	facts := failure.Facts{Step: step.Name, AttemptsWithSameText: s.sameText(step.Name, err)}
	if s.engine != nil && failure.As(err) == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		reachable := s.engine.Ping(ctx) == nil
		facts.EngineReachable = &reachable
		if running, known := s.nodesRun(ctx); reachable && known {
			facts.NodesRunning = &running
		}
		facts.FullDisk = s.fullDisk(ctx)
	}
	d := failure.Of(err, step.Phase, facts)
	if ref := s.ownImageIn(err); d.Class == failure.ImageReference && step.Phase == failure.Load && ref != "" {
		d = failure.Diagnosis{Class: failure.StaleState, Retry: failure.HealThenRetry, Signature: "image-lost", Confidence: "high",
			Cause: "image " + ref + " was built by this run and is not in the engine any more", Remedy: "run again; do not remove images during a run"}
	}
	if d.Signature == "memory-killed-build" && step.Phase == failure.ClusterCreate && facts.AttemptsWithSameText < 2 {
		// SIGKILL is also how a node container that somebody ends takes its processes along.
		d.Retry, d.Confidence = failure.RetryNow, "medium"
		d.Cause = "what ran in a node was killed: the node was ended from outside, or memory is short"
	}
	if premature(d, step.Phase, facts.AttemptsWithSameText) {
		d.Retry = failure.RetryNow
	}
	if port := astray(ctx, err); port != "" && step.Phase == failure.Suite && (facts.NodesRunning == nil || *facts.NodesRunning) {
		d = failure.Diagnosis{Class: failure.EngineBroken, Retry: failure.FailFast, Signature: "port-astray", Confidence: "high",
			Cause:  "port " + port + " of this host leads to where no node is: the engine kept the forwarding of a container that is gone",
			Remedy: "iptables -t nat -S | grep 'dport " + port + " ' shows it on the engine's host: delete what names a container that is gone, or restart that machine"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.diagnoses == nil {
		s.diagnoses = map[string]failure.Diagnosis{}
	}
	s.diagnoses[step.Name] = d
	return d
}

// premature reports whether d would end the run on a guess: that is no reason to
// give up before the step has ended in the same way again. A suite or a build is
// not repeated for it.
func premature(d failure.Diagnosis, phase failure.Phase, attempts int) bool {
	return d.Guessed() && d.Retry == failure.FailFast && attempts < 2 && phase != failure.Suite && phase != failure.Build
}

// nearlyNothing is so little room, bytes, that databases, containers and tests
// fail for want of it in ways that do not say so.
const nearlyNothing = 32 << 20

// fullDisk says which disk has nearly nothing left, the engine's and its nodes'
// or that of this run's files, or returns "".
func (s *session) fullDisk(ctx context.Context) string {
	if info, err := s.engine.Info(ctx); err == nil && info.DiskTotal > 0 && info.DiskFree < nearlyNothing {
		return fmt.Sprintf("%s free for %s in %s", humanize.Bytes(info.DiskFree), s.connection.Provider, info.GraphRoot)
	}
	if free, err := host.DiskFree(s.folder.Path); err == nil && free < nearlyNothing {
		return fmt.Sprintf("%s free in %s", humanize.Bytes(free), s.settings.State)
	}
	return ""
}

// noRoute is what a client of a published port says when its packets are sent
// on to an address that nobody has.
var noRoute = regexp.MustCompile(`dial tcp 127\.0\.0\.1:(\d+): connect: no route to host`)

// astray returns the port of this host that the error could not reach, if it
// cannot be reached now for the same reason, or nothing. A program that is not
// there, or does not answer, never looks like that from its own host.
func astray(ctx context.Context, err error) string {
	m := noRoute.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.WithoutCancel(ctx), "tcp", "127.0.0.1:"+m[1])
	if err == nil {
		_ = conn.Close()
	}
	if errors.Is(err, syscall.EHOSTUNREACH) {
		return m[1]
	}
	return ""
}

// ownImageIn returns the image of this run that the error is about, or nothing.
func (s *session) ownImageIn(err error) string {
	for _, ref := range s.builtRefs() {
		if strings.Contains(err.Error(), ref) {
			return ref
		}
	}
	return ""
}

// diagnosed is the last diagnosis of a step.
func (s *session) diagnosed(step string) failure.Diagnosis {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.diagnoses[step]
}

// varying is what differs between two outputs of the same failure: times,
// durations, identifiers, ports.
var varying = regexp.MustCompile(`[0-9a-f]{12,}|[0-9]+`)

// sameText counts the attempts of a step, this one included, that ended with
// the same text.
func (s *session) sameText(step string, err error) int {
	key := step + "\x00" + varying.ReplaceAllString(err.Error(), "#")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts == nil {
		s.texts = map[string]int{}
	}
	s.texts[key]++
	return s.texts[key]
}

// nodesRun says whether every node of the cluster runs; known is false where
// that cannot be told.
func (s *session) nodesRun(ctx context.Context) (running, known bool) {
	nodes := s.nodeNames()
	if len(nodes) == 0 {
		return false, false
	}
	found, err := s.engine.Containers(ctx)
	if err != nil {
		return false, false
	}
	up := map[string]bool{}
	for _, c := range found {
		up[c.Name] = c.Running()
	}
	for _, n := range nodes {
		if !up[n] {
			return false, true
		}
	}
	return true, true
}
