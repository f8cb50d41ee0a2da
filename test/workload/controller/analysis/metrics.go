package analysis

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

// Metrics are the controller's own, beside those of controller-runtime.
type Metrics struct {
	phases   *prometheus.CounterVec   // entered phases, by phase
	finished *prometheus.CounterVec   // finished analyses, by phase and reason
	requests *prometheus.CounterVec   // requests to HAPI, by result: an HTTP status or "unanswered"
	latency  prometheus.Histogram     // seconds HAPI took
	duration *prometheus.HistogramVec // seconds from start to end, by final phase
}

// NewMetrics makes the metrics and registers them. Registering twice in one registry panics, as a mistake of the program.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	m := &Metrics{
		phases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aianalysis_phase_transitions_total", Help: "Phases entered."}, []string{"phase"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aianalysis_finished_total", Help: "Analyses that reached a final phase."}, []string{"phase", "reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aianalysis_hapi_requests_total", Help: "Requests to HAPI by HTTP status."}, []string{"status"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aianalysis_hapi_request_duration_seconds", Help: "How long HAPI took to answer.", Buckets: buckets}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aianalysis_duration_seconds", Help: "Time from the start of an analysis to its end.", Buckets: buckets}, []string{"phase"}),
	}
	registry.MustRegister(m.phases, m.finished, m.requests, m.latency, m.duration)
	return m
}

func (m *Metrics) asked(err error, took time.Duration) {
	status := "200"
	var h *HAPIError
	switch {
	case errors.As(err, &h) && h.Status != 0:
		status = strconv.Itoa(h.Status)
	case err != nil:
		status = "unanswered"
	}
	m.requests.WithLabelValues(status).Inc()
	m.latency.Observe(took.Seconds())
}

func (m *Metrics) entered(a *v1alpha1.AIAnalysis) {
	s := a.Status
	m.phases.WithLabelValues(string(s.Phase)).Inc()
	if s.Phase.Final() {
		m.finished.WithLabelValues(string(s.Phase), s.Reason).Inc()
		if s.StartedAt != nil && s.FinishedAt != nil {
			m.duration.WithLabelValues(string(s.Phase)).Observe(s.FinishedAt.Sub(s.StartedAt.Time).Seconds())
		}
	}
}
