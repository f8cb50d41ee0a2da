// Package mock is a HAPI for unit tests of its clients: it answers from a script, in memory, and remembers what it was asked.
package mock

import (
	"context"
	"sync"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// HAPI answers each request with the next answer of its script, and the last one over and over. The zero value answers every
// request with Answer(). It may be used by several goroutines; set Script before the first request.
type HAPI struct {
	Script []Reply

	mu        sync.Mutex
	incidents []api.IncidentRequest
	recovery  []api.RecoveryRequest
	asked     int
}

// Reply is one answer: Err if it is set, else Response; if Block is set, only after the request's context ended.
type Reply struct {
	Response *api.AnalysisResponse
	Err      error
	Block    bool
}

// Incident answers an incident request.
func (h *HAPI) Incident(ctx context.Context, r api.IncidentRequest) (*api.AnalysisResponse, error) {
	h.mu.Lock()
	h.incidents = append(h.incidents, r)
	h.mu.Unlock()
	return h.reply(ctx)
}

// Recovery answers a recovery request.
func (h *HAPI) Recovery(ctx context.Context, r api.RecoveryRequest) (*api.AnalysisResponse, error) {
	h.mu.Lock()
	h.recovery = append(h.recovery, r)
	h.mu.Unlock()
	return h.reply(ctx)
}

// Incidents are the incident requests so far.
func (h *HAPI) Incidents() []api.IncidentRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]api.IncidentRequest(nil), h.incidents...)
}

// Recoveries are the recovery requests so far.
func (h *HAPI) Recoveries() []api.RecoveryRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]api.RecoveryRequest(nil), h.recovery...)
}

func (h *HAPI) reply(ctx context.Context) (*api.AnalysisResponse, error) {
	h.mu.Lock()
	next := Reply{Response: Answer()}
	if len(h.Script) > 0 {
		next = h.Script[min(h.asked, len(h.Script)-1)]
	}
	h.asked++
	h.mu.Unlock()
	if next.Block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return next.Response, next.Err
}

// Answer is an analysis with a workflow, without warnings.
func Answer() *api.AnalysisResponse {
	return &api.AnalysisResponse{
		RootCauseAnalysis: api.RootCauseAnalysis{
			Summary: "the container used more memory than its limit", Severity: "critical", ContributingFactors: []string{"load rose"},
		},
		SelectedWorkflow: &api.Workflow{
			WorkflowId: "pod-increase-memory", Title: "increase-memory", Version: "1.0.0", Confidence: .92,
			ContainerImage: "registry.invalid/workflows/pod-increase-memory:1.0.0", Rationale: "more memory helps",
			Parameters: map[string]string{"TARGET_NAME": "web"},
		},
		AlternativeWorkflows: []api.Workflow{}, Confidence: .92, TargetInOwnerChain: true, Warnings: []string{},
		ValidationAttemptsHistory: []api.ValidationAttempt{},
	}
}
