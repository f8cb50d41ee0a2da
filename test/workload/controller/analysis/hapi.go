package analysis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// HAPI asks HAPI. Errors are *HAPIError; when the context ended, they also are that context's error.
type HAPI interface {
	Incident(ctx context.Context, r api.IncidentRequest) (*api.AnalysisResponse, error)
	Recovery(ctx context.Context, r api.RecoveryRequest) (*api.AnalysisResponse, error)
}

// HAPIError is an answer other than 200, or none.
type HAPIError struct {
	Status int // HTTP status; 0: no answer, or none of HAPI's
	Detail string
	Err    error
}

func (e *HAPIError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("HAPI gave no answer: %v", e.Err)
	}
	return fmt.Sprintf("HAPI answered %d: %s", e.Status, e.Detail)
}

func (e *HAPIError) Unwrap() error { return e.Err }

// Rejected tells whether the same request would be refused again. 408 and 429 speak of the moment, not of the request.
func (e *HAPIError) Rejected() bool {
	return e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout && e.Status != http.StatusTooManyRequests
}

// Unreachable tells whether HAPI is away, as it is while it restarts, rather than failing on this request.
func (e *HAPIError) Unreachable() bool {
	return e.Status == 0 || e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable ||
		e.Status == http.StatusGatewayTimeout
}

// Client is HAPI over HTTP.
type Client struct {
	client api.ClientInterface
}

// NewClient returns a client for the service at url. timeout bounds one request.
//
// Every request has a connection of its own, and one that is not established within 2 s is given up: behind a Service, a kept
// connection leads to one pod, and when that is gone without a farewell, into the void.
func NewClient(url string, timeout time.Duration) (*Client, error) {
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext, DisableKeepAlives: true}
	c, err := api.NewClient(url, api.WithHTTPClient(&http.Client{Transport: transport, Timeout: timeout}))
	if err != nil {
		return nil, fmt.Errorf("client for HAPI at %q: %w", url, err)
	}
	return &Client{client: c}, nil
}

// Incident implements HAPI.
func (c *Client) Incident(ctx context.Context, r api.IncidentRequest) (*api.AnalysisResponse, error) {
	raw, err := c.client.AnalyzeIncident(ctx, r) //nolint:bodyclose // the parser below closes it
	if err != nil {
		return nil, &HAPIError{Err: err}
	}
	got, err := api.ParseAnalyzeIncidentResponse(raw)
	if err != nil {
		return nil, foreign(raw.StatusCode, err)
	}
	return judge(got.StatusCode(), got.JSON200, got.JSON400, got.JSONDefault)
}

// Recovery implements HAPI.
func (c *Client) Recovery(ctx context.Context, r api.RecoveryRequest) (*api.AnalysisResponse, error) {
	raw, err := c.client.AnalyzeRecovery(ctx, r) //nolint:bodyclose // the parser below closes it
	if err != nil {
		return nil, &HAPIError{Err: err}
	}
	got, err := api.ParseAnalyzeRecoveryResponse(raw)
	if err != nil {
		return nil, foreign(raw.StatusCode, err)
	}
	return judge(got.StatusCode(), got.JSON200, got.JSON400, got.JSONDefault)
}

// judge tells HAPI's answers from those of others. A status without the body that HAPI agreed to send with it is not HAPI's: a
// proxy on the way, or whoever got the address of a pod that is gone, says nothing about the request.
func judge(status int, ok *api.AnalysisResponse, problems ...*api.Error) (*api.AnalysisResponse, error) {
	if ok != nil {
		return ok, nil
	}
	for _, p := range problems {
		if p != nil && p.Detail != "" {
			return nil, &HAPIError{Status: status, Detail: p.Detail}
		}
	}
	return nil, foreign(status, errors.New("the body is not HAPI's"))
}

func foreign(status int, err error) error {
	return &HAPIError{Err: fmt.Errorf("somebody else answered %d: %w", status, err)}
}

// incidentRequest is the question an analysis asks. The incident's ID is the object's UID: asking again is the same question.
func incidentRequest(a *v1alpha1.AIAnalysis, cluster string) api.IncidentRequest {
	signal := a.Spec.AnalysisRequest.SignalContext
	risk, category := "medium", "standard"
	switch signal.Environment {
	case production:
		risk, category = "low", "critical"
	case "development", "test":
		risk = "high"
	}
	request := api.IncidentRequest{
		IncidentId:        string(a.UID),
		RemediationId:     a.Spec.RemediationID,
		SignalType:        signal.SignalType,
		Severity:          signal.Severity,
		SignalSource:      "kubernaut",
		ResourceNamespace: signal.TargetResource.Namespace,
		ResourceKind:      signal.TargetResource.Kind,
		ResourceName:      signal.TargetResource.Name,
		ErrorMessage:      fmt.Sprintf("%s on %s %s", signal.SignalType, signal.TargetResource.Kind, signal.TargetResource.Name),
		Environment:       signal.Environment,
		Priority:          signal.BusinessPriority,
		RiskTolerance:     risk,
		BusinessCategory:  category,
		ClusterName:       cluster,
	}
	request.EnrichmentResults = enrichment(signal.EnrichmentResults)
	return request
}

// enrichment leaves out what is not known: HAPI takes no null.
func enrichment(e v1alpha1.EnrichmentResults) *api.EnrichmentResults {
	results := &api.EnrichmentResults{}
	if len(e.OwnerChain) > 0 {
		owners := make([]api.Owner, 0, len(e.OwnerChain))
		for _, o := range e.OwnerChain {
			owners = append(owners, api.Owner{Kind: o.Kind, Name: o.Name, Namespace: &o.Namespace})
		}
		results.OwnerChain = &owners
	}
	if len(e.CustomLabels) > 0 {
		results.CustomLabels = &e.CustomLabels
	}
	return results
}

func recoveryRequest(i api.IncidentRequest) api.RecoveryRequest {
	return api.RecoveryRequest{
		BusinessCategory: i.BusinessCategory, ClusterName: i.ClusterName, EnrichmentResults: i.EnrichmentResults,
		Environment: i.Environment, ErrorMessage: i.ErrorMessage, IncidentId: i.IncidentId, Priority: i.Priority,
		RemediationId: i.RemediationId, ResourceKind: i.ResourceKind, ResourceName: i.ResourceName,
		ResourceNamespace: i.ResourceNamespace, RiskTolerance: i.RiskTolerance, Severity: i.Severity,
		SignalSource: i.SignalSource, SignalType: i.SignalType,
	}
}
