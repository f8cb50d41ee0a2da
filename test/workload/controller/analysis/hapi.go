package analysis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
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
	Status int // HTTP status; 0: no answer
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
	client api.ClientWithResponsesInterface
}

// NewClient returns a client for the service at url. timeout bounds one request.
//
// Connections to a host that does not answer are given up after 2 s: behind a Service without endpoints, some proxies drop
// packets instead of refusing them.
func NewClient(url string, timeout time.Duration) (*Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	transport.MaxIdleConnsPerHost = 16
	transport.Proxy = nil
	c, err := api.NewClientWithResponses(url, api.WithHTTPClient(&http.Client{Transport: transport, Timeout: timeout}))
	if err != nil {
		return nil, fmt.Errorf("client for HAPI at %q: %w", url, err)
	}
	return &Client{client: c}, nil
}

// Incident implements HAPI.
func (c *Client) Incident(ctx context.Context, r api.IncidentRequest) (*api.AnalysisResponse, error) {
	got, err := c.client.AnalyzeIncidentWithResponse(ctx, r)
	if err != nil {
		return nil, unanswered(err)
	}
	return judge(got.StatusCode(), got.JSON200, got.JSON400, got.JSONDefault)
}

// Recovery implements HAPI.
func (c *Client) Recovery(ctx context.Context, r api.RecoveryRequest) (*api.AnalysisResponse, error) {
	got, err := c.client.AnalyzeRecoveryWithResponse(ctx, r)
	if err != nil {
		return nil, unanswered(err)
	}
	return judge(got.StatusCode(), got.JSON200, got.JSON400, got.JSONDefault)
}

// unanswered is the error of a request that got no usable answer: no connection, or a body that is not what was agreed.
func unanswered(err error) error { return &HAPIError{Err: err} }

func judge(status int, ok *api.AnalysisResponse, problems ...*api.Error) (*api.AnalysisResponse, error) {
	if ok != nil {
		return ok, nil
	}
	if status == http.StatusOK {
		return nil, unanswered(errors.New("the answer is not JSON"))
	}
	detail := http.StatusText(status)
	if i := slices.IndexFunc(problems, func(p *api.Error) bool { return p != nil }); i >= 0 {
		detail = problems[i].Detail
	}
	return nil, &HAPIError{Status: status, Detail: detail}
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
	if e := signal.EnrichmentResults; len(e.OwnerChain) > 0 || len(e.CustomLabels) > 0 {
		owners := make([]api.Owner, 0, len(e.OwnerChain))
		for _, o := range e.OwnerChain {
			owners = append(owners, api.Owner{Kind: o.Kind, Name: o.Name, Namespace: &o.Namespace})
		}
		request.EnrichmentResults = &api.EnrichmentResults{OwnerChain: &owners, CustomLabels: &e.CustomLabels}
	}
	return request
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
