package aianalysis

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/controller/analysis"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/mock"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/server"
)

// deleting is a HAPI during whose work something happens.
type deleting struct {
	*mock.HAPI
	meanwhile func()
}

func (d deleting) Incident(ctx context.Context, r api.IncidentRequest) (*api.AnalysisResponse, error) {
	d.meanwhile()
	return d.HAPI.Incident(ctx, r)
}

func TestClientAgainstTheServer(t *testing.T) {
	s, err := server.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	hapi, err := analysis.NewClient(srv.URL, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	owners := []v1alpha1.TargetResource{{Kind: "Deployment", Name: "web"}}
	for name, known := range map[string]v1alpha1.EnrichmentResults{
		"nothing": {}, "owners": {OwnerChain: owners}, "labels": {CustomLabels: map[string]string{"team": "shop"}},
		"both": {OwnerChain: owners, CustomLabels: map[string]string{"team": "shop"}},
	} {
		for _, kind := range []v1alpha1.AnalysisType{v1alpha1.RootCause, v1alpha1.RecoveryAnalysis} {
			t.Run(name+" known, "+string(kind), func(t *testing.T) {
				a := newAnalysis(investigating)
				a.Spec.AnalysisRequest.SignalContext.EnrichmentResults = known
				a.Spec.AnalysisRequest.AnalysisTypes = []v1alpha1.AnalysisType{kind}
				if _, err := handler(hapi, noon()).Handle(t.Context(), a); err != nil {
					t.Fatal(err)
				}
				if w := a.Status.SelectedWorkflow; w == nil || w.Confidence != "0.92" {
					t.Errorf("got %+v", a.Status)
				}
			})
		}
	}
}

func TestClientErrors(t *testing.T) {
	for name, c := range map[string]struct {
		serve                 http.HandlerFunc
		rejected, unreachable bool
	}{
		"400":            {answer(400, `{"detail":"severity is missing"}`), true, false},
		"404":            {answer(404, `{"detail":"no such path"}`), true, false},
		"403 of a proxy": {answer(403, `<html>`), false, true},
		"400 of another": {answer(400, `{"error":"odd"}`), false, true},
		"500":            {answer(500, `{"detail":"broken"}`), false, false},
		"503":            {answer(503, `{"detail":"stopping"}`), false, true},
		"200, no JSON":   {answer(200, `{"incident_id":`), false, true},
		"cut off": {func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, false, true},
		"too slow": {func(_ http.ResponseWriter, r *http.Request) {
			// Unless the body is read, the server does not see that the client went away.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.serve)
			defer srv.Close()
			hapi, err := analysis.NewClient(srv.URL, 200*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			_, err = hapi.Incident(t.Context(), api.IncidentRequest{})
			var h *analysis.HAPIError
			if !errors.As(err, &h) {
				t.Fatalf("got %v", err)
			}
			if h.Rejected() != c.rejected || h.Unreachable() != c.unreachable {
				t.Errorf("%v: rejected %v, unreachable %v", h, h.Rejected(), h.Unreachable())
			}
		})
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}
