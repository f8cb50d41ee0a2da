package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

func now() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

func newServer(t *testing.T) *Server {
	t.Helper()
	s, err := New(Options{Now: now, SlowDelay: 20 * time.Millisecond, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(edit func(map[string]any)) []byte {
	fields := map[string]any{}
	for _, f := range []string{"incident_id", "remediation_id", "severity", "signal_source", "resource_namespace", "resource_kind",
		"resource_name", "error_message", "environment", "priority", "risk_tolerance", "business_category", "cluster_name"} {
		fields[f] = "some"
	}
	fields["signal_type"] = "OOMKilled"
	if edit != nil {
		edit(fields)
	}
	body, _ := json.Marshal(fields)
	return body
}

func signal(kind string) func(map[string]any) {
	return func(f map[string]any) { f["signal_type"] = kind }
}

func post(t *testing.T, s *Server, path string, body []byte, into any) int {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body)))
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("%d: %q: %v", w.Code, w.Body, err)
	}
	return w.Code
}

const incident, recovery = "/api/v1/incident/analyze", "/api/v1/recovery/analyze"

func TestModel(t *testing.T) {
	for kind, want := range map[string]struct {
		confidence float64
		workflow   string
		review     api.HumanReviewReason
		history    int
	}{
		"OOMKilled":                  {.92, "some-increase-memory", "", 0},
		"CrashLoopBackOff":           {.88, "some-roll-back", "", 0},
		"NodeNotReady":               {.90, "some-drain-node", "", 0},
		"anything else":              {.75, "some-generic", "", 0},
		"MOCK_SLOW":                  {.75, "some-generic", "", 0},
		"MOCK_NO_WORKFLOW_FOUND":     {0, "", api.NoMatchingWorkflows, 0},
		"MOCK_LOW_CONFIDENCE":        {.35, "some-generic", api.LowConfidence, 0},
		"MOCK_MAX_RETRIES_EXHAUSTED": {0, "", api.LlmParsingError, 3},
	} {
		t.Run(kind, func(t *testing.T) {
			s := newServer(t)
			var got, again api.AnalysisResponse
			if code := post(t, s, incident, request(signal(kind)), &got); code != http.StatusOK {
				t.Fatalf("got %d", code)
			}
			if got.Confidence != want.confidence || !got.Timestamp.Equal(now()) || len(got.ValidationAttemptsHistory) != want.history {
				t.Errorf("got %+v", got)
			}
			if (got.SelectedWorkflow == nil) != (want.workflow == "") || got.SelectedWorkflow != nil && got.SelectedWorkflow.WorkflowId != want.workflow {
				t.Errorf("got workflow %+v, want %q", got.SelectedWorkflow, want.workflow)
			}
			if got.NeedsHumanReview != (want.review != "") || got.HumanReviewReason != nil && *got.HumanReviewReason != want.review {
				t.Errorf("got review %v, want %q", got.HumanReviewReason, want.review)
			}
			post(t, s, incident, request(signal(kind)), &again)
			first, _ := json.Marshal(got)
			second, _ := json.Marshal(again)
			if !bytes.Equal(first, second) {
				t.Errorf("the same request was answered with\n%s and then\n%s", first, second)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for kind, want := range map[string][]int{
		"MOCK_HTTP_400": {400, 400}, "MOCK_HTTP_500": {500, 500}, "MOCK_FLAKY": {503, 503, 200, 200},
	} {
		t.Run(kind, func(t *testing.T) {
			s := newServer(t)
			for i, code := range want {
				var problem api.Error
				if got := post(t, s, incident, request(signal(kind)), &problem); got != code || code != 200 && problem.Detail == "" {
					t.Errorf("request %d: got %d, %+v", i, got, problem)
				}
			}
		})
	}
}

func TestInvalidRequests(t *testing.T) {
	without := func(names ...string) []byte {
		return request(func(f map[string]any) {
			for _, n := range names {
				delete(f, n)
			}
		})
	}
	with := func(name string, value any) []byte { return request(func(f map[string]any) { f[name] = value }) }
	for name, c := range map[string]struct {
		path   string
		body   []byte
		fields []string
	}{
		"one missing":             {incident, without("severity"), []string{"severity"}},
		"two missing":             {incident, without("severity", "priority"), []string{"priority", "severity"}},
		"missing in recovery":     {recovery, without("cluster_name"), []string{"cluster_name"}},
		"two missing in recovery": {recovery, without("severity", "priority"), []string{"priority", "severity"}},
		"empty":                   {incident, with("signal_type", ""), []string{"signal_type"}},
		"null":                    {incident, with("severity", nil), []string{"severity"}},
		"wrong type":              {incident, with("severity", 1), []string{"severity"}},
		"wrong type in a chain":   {incident, with("enrichment_results", map[string]any{"owner_chain": []any{1}}), []string{"enrichment_results.owner_chain.0"}},
		"not an object":           {incident, []byte("[]"), nil},
		"not JSON":                {incident, []byte("{"), nil},
		"nothing":                 {incident, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var problem api.Error
			if code := post(t, newServer(t), c.path, c.body, &problem); code != http.StatusBadRequest || problem.Detail == "" {
				t.Fatalf("got %d, %+v", code, problem)
			}
			var got []string
			if problem.Fields != nil {
				got = *problem.Fields
			}
			if !slices.Equal(got, c.fields) {
				t.Errorf("got fields %v, want %v (%s)", got, c.fields, problem.Detail)
			}
		})
	}
}

func TestObjectsOfTheClusterHaveNoNamespace(t *testing.T) {
	var got api.AnalysisResponse
	body := request(func(f map[string]any) { f["resource_namespace"] = "" })
	if code := post(t, newServer(t), incident, body, &got); code != http.StatusOK {
		t.Errorf("got %d", code)
	}
}

func TestRecoveryAvoidsTheWorkflowThatDidNotHelp(t *testing.T) {
	for previous, want := range map[string]string{"some-increase-memory": "some-restart", "another": "some-increase-memory"} {
		var got api.AnalysisResponse
		body := request(func(f map[string]any) { f["previous_workflow_id"] = previous })
		if code := post(t, newServer(t), recovery, body, &got); code != http.StatusOK || got.SelectedWorkflow.WorkflowId != want {
			t.Errorf("after %q: got %d, %+v", previous, code, got.SelectedWorkflow)
		}
	}
}

func TestSlowAnswersEndWithTheRequest(t *testing.T) {
	s, err := New(Options{SlowDelay: time.Hour}) // bounded, but longer than this test
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, incident, bytes.NewReader(request(signal("MOCK_SLOW")))))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d", w.Code)
	}
}

func TestReadyUntilStopped(t *testing.T) {
	s := newServer(t)
	get := func(path string) int {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		return w.Code
	}
	if get("/ready") != 200 || get("/health") != 200 || get("/config") != 200 {
		t.Error("not ready")
	}
	s.Stop()
	if get("/ready") != 503 || get("/health") != 200 {
		t.Error("ready although stopping, or not alive")
	}
}
