package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// MaxSlowDelay bounds what MOCK_SLOW waits for, well below the clients' timeout of 60 s.
const MaxSlowDelay = 20 * time.Second

// The signal types that make the mock model misbehave. They exist for tests alone.
const (
	signalNoWorkflow    = "MOCK_NO_WORKFLOW_FOUND"
	signalLowConfidence = "MOCK_LOW_CONFIDENCE"
	signalMaxRetries    = "MOCK_MAX_RETRIES_EXHAUSTED"
	signalSlow          = "MOCK_SLOW"     // answers like an unknown signal, after a delay
	signalFlaky         = "MOCK_FLAKY"    // 503 for an incident's first two requests, then like an unknown signal
	signalHTTP500       = "MOCK_HTTP_500" // always 500
	signalHTTP400       = "MOCK_HTTP_400" // always 400, for a request that the schema allows
)

// flakyFailures is how often MOCK_FLAKY fails for one incident.
const flakyFailures = 2

// maxIncidents bounds the memory that MOCK_FLAKY needs.
const maxIncidents = 4096

// query is one question to the model.
type query struct {
	api.IncidentRequest
	recovery bool
	previous string // workflow that must not be selected again
}

// fault is an answer other than 200.
type fault struct {
	status int
	detail string
}

// model is the mock of a language model: answers depend on the question alone, save for the timestamp and MOCK_FLAKY.
type model struct {
	now   func() time.Time
	delay time.Duration

	mu    sync.Mutex
	flaky map[string]int // requests by incident
}

func newModel(now func() time.Time, delay time.Duration) *model {
	return &model{now: now, delay: min(max(delay, 0), MaxSlowDelay), flaky: map[string]int{}}
}

func (m *model) answer(ctx context.Context, q query) (api.AnalysisResponse, *fault) {
	switch q.SignalType {
	case signalHTTP500:
		return api.AnalysisResponse{}, &fault{http.StatusInternalServerError, "the mock model fails on " + signalHTTP500}
	case signalHTTP400:
		return api.AnalysisResponse{}, &fault{http.StatusBadRequest, "the mock model refuses " + signalHTTP400}
	case signalFlaky:
		if m.fails(q.IncidentId) {
			return api.AnalysisResponse{}, &fault{http.StatusServiceUnavailable, "the mock model is not available yet"}
		}
	case signalSlow:
		select {
		case <-time.After(m.delay):
		case <-ctx.Done():
			return api.AnalysisResponse{}, &fault{http.StatusServiceUnavailable, "the client went away"}
		}
	}
	return m.compose(q), nil
}

func (m *model) fails(incident string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.flaky) >= maxIncidents {
		clear(m.flaky)
	}
	m.flaky[incident]++
	return m.flaky[incident] <= flakyFailures
}

func (m *model) compose(q query) api.AnalysisResponse {
	s := scenarioOf(q.SignalType)
	target := fmt.Sprintf("%s %s", q.ResourceKind, q.ResourceName)
	r := api.AnalysisResponse{
		IncidentId: q.IncidentId,
		Analysis:   fmt.Sprintf("%s on %s: %s", q.SignalType, target, s.cause),
		RootCauseAnalysis: api.RootCauseAnalysis{
			Summary: s.cause, Severity: q.Severity, ContributingFactors: slices.Clone(s.factors),
		},
		Confidence:                s.confidence,
		Timestamp:                 m.now().UTC(),
		TargetInOwnerChain:        inOwnerChain(q),
		AlternativeWorkflows:      []api.Workflow{},
		Warnings:                  []string{},
		ValidationAttemptsHistory: []api.ValidationAttempt{},
	}
	if !r.TargetInOwnerChain {
		r.Warnings = append(r.Warnings, "the target's owner chain is unknown")
	}
	candidates := []api.Workflow{s.workflow(q, s.title, s.confidence), s.workflow(q, "restart", s.confidence/2)}
	if q.recovery {
		candidates = slices.DeleteFunc(candidates, func(w api.Workflow) bool { return w.WorkflowId == q.previous })
		r.Warnings = append(r.Warnings, "an earlier workflow did not help")
	}
	switch q.SignalType {
	case signalNoWorkflow:
		review(&r, api.NoMatchingWorkflows, "no workflow fits this signal")
	case signalMaxRetries:
		for n := 1; n <= 3; n++ {
			r.ValidationAttemptsHistory = append(r.ValidationAttemptsHistory, api.ValidationAttempt{
				Attempt: n, WorkflowId: candidates[0].WorkflowId, Errors: []string{"the model's answer could not be parsed"},
			})
		}
		review(&r, api.LlmParsingError, "the model gave no valid answer in 3 attempts")
	case signalLowConfidence:
		review(&r, api.LowConfidence, fmt.Sprintf("confidence %.2f is too low", s.confidence))
		fallthrough
	default:
		r.SelectedWorkflow, r.AlternativeWorkflows = &candidates[0], candidates[1:]
		r.Confidence = candidates[0].Confidence
	}
	return r
}

func review(r *api.AnalysisResponse, reason api.HumanReviewReason, warning string) {
	r.NeedsHumanReview, r.HumanReviewReason = true, &reason
	r.Warnings = append(r.Warnings, warning)
}

// inOwnerChain tells whether the target is owned by something the request names; without a chain that is not known.
func inOwnerChain(q query) bool {
	return q.EnrichmentResults != nil && q.EnrichmentResults.OwnerChain != nil && len(*q.EnrichmentResults.OwnerChain) > 0
}

// scenario is what the mock model knows about a signal type.
type scenario struct {
	confidence float64
	title      string
	cause      string
	factors    []string
}

func scenarios() map[string]scenario {
	return map[string]scenario{
		"OOMKilled":         {.92, "increase-memory", "the container used more memory than its limit", []string{"memory limit too low", "load rose"}},
		"CrashLoopBackOff":  {.88, "roll-back", "the container exits soon after its start", []string{"last rollout changed its configuration"}},
		"NodeNotReady":      {.90, "drain-node", "the node's kubelet stopped reporting", []string{"disk pressure on the node"}},
		signalNoWorkflow:    {0, "none", "the cause is known but no workflow treats it", []string{"unusual signal"}},
		signalLowConfidence: {.35, "generic", "several causes are equally likely", []string{"contradictory evidence"}},
		signalMaxRetries:    {0, "none", "the cause could not be determined", []string{"the model's answers were not valid"}},
	}
}

func scenarioOf(signalType string) scenario {
	if s, known := scenarios()[signalType]; known {
		return s
	}
	return scenario{.75, "generic", "the signal is not one the model knows well", []string{"unknown signal type"}}
}

func signalTypes() []string {
	known := slices.AppendSeq([]string{signalSlow, signalFlaky, signalHTTP500, signalHTTP400}, maps.Keys(scenarios()))
	slices.Sort(known)
	return known
}

func (s scenario) workflow(q query, title string, confidence float64) api.Workflow {
	id := fmt.Sprintf("%s-%s", strings.ToLower(q.ResourceKind), title)
	return api.Workflow{
		WorkflowId: id, Title: title, Version: "1.0.0", Confidence: confidence,
		ContainerImage: "registry.invalid/workflows/" + id + ":1.0.0",
		Rationale:      fmt.Sprintf("%s: %s", q.SignalType, s.cause),
		Parameters:     map[string]string{"TARGET_KIND": q.ResourceKind, "TARGET_NAME": q.ResourceName, "TARGET_NAMESPACE": q.ResourceNamespace},
	}
}
