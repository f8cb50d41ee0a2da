// Package server is HAPI: it validates requests against the OpenAPI document and answers them from the mock model. It owns
// HTTP behaviour and the model; it does not own the process (signals, ports), which package main does.
package server

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// maxBody bounds a request; a signal is a few kilobytes.
const maxBody = 1 << 20

// Options configure a Server.
type Options struct {
	Log       *slog.Logger
	Now       func() time.Time
	SlowDelay time.Duration // what MOCK_SLOW waits for, at most MaxSlowDelay
	Version   string
}

// Server answers HAPI's endpoints.
type Server struct {
	log      *slog.Logger
	validate *validator
	model    *model
	version  string
	stopping atomic.Bool
}

// New returns a Server that is ready to serve. It fails only if the OpenAPI document is not valid.
func New(o Options) (*Server, error) {
	v, err := newValidator(api.Document)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{log: o.Log, validate: v, model: newModel(o.Now, o.SlowDelay), version: o.Version}, nil
}

// Handler serves every endpoint of the OpenAPI document.
func (s *Server) Handler() http.Handler { return api.Handler(s) }

// Stop makes /ready answer 503, so that no new requests are sent here while those under way are finished.
func (s *Server) Stop() { s.stopping.Store(true) }

// AnalyzeIncident implements api.ServerInterface.
func (s *Server) AnalyzeIncident(w http.ResponseWriter, r *http.Request) {
	var body api.IncidentRequest
	if s.read(w, r, incidentSchema, &body) {
		s.analyze(w, r, query{IncidentRequest: body})
	}
}

// AnalyzeRecovery implements api.ServerInterface.
func (s *Server) AnalyzeRecovery(w http.ResponseWriter, r *http.Request) {
	var common api.IncidentRequest
	var body api.RecoveryRequest
	if !s.read(w, r, recoverySchema, &body, &common) {
		return
	}
	q := query{IncidentRequest: common, recovery: true}
	if body.PreviousWorkflowId != nil {
		q.previous = *body.PreviousWorkflowId
	}
	s.analyze(w, r, q)
}

// GetHealth implements api.ServerInterface.
func (s *Server) GetHealth(w http.ResponseWriter, _ *http.Request) {
	s.write(w, http.StatusOK, api.State{Status: "alive"})
}

// GetReady implements api.ServerInterface.
func (s *Server) GetReady(w http.ResponseWriter, _ *http.Request) {
	if s.stopping.Load() {
		s.write(w, http.StatusServiceUnavailable, api.Error{Detail: "stopping"})
		return
	}
	s.write(w, http.StatusOK, api.State{Status: "ready"})
}

// GetConfig implements api.ServerInterface.
func (s *Server) GetConfig(w http.ResponseWriter, _ *http.Request) {
	s.write(w, http.StatusOK, api.Config{MockLlmMode: true, Model: "mock", Version: s.version, SignalTypes: signalTypes()})
}

func (s *Server) analyze(w http.ResponseWriter, r *http.Request, q query) {
	started := time.Now()
	answer, fault := s.model.answer(r.Context(), q)
	status := http.StatusOK
	if fault != nil {
		status = fault.status
		s.write(w, status, api.Error{Detail: fault.detail})
	} else {
		s.write(w, status, answer)
	}
	s.log.Info("analysis", "incident", q.IncidentId, "signal_type", q.SignalType, "recovery", q.recovery, "status", status,
		"duration", time.Since(started).Round(time.Millisecond))
}

// read validates the body and decodes it into each of targets; on failure it has answered and returns false.
func (s *Server) read(w http.ResponseWriter, r *http.Request, schema string, targets ...any) bool {
	raw, problem := s.validate.body(http.MaxBytesReader(w, r.Body, maxBody), schema)
	for _, target := range targets {
		if problem != nil {
			break
		}
		if err := json.Unmarshal(raw, target); err != nil {
			problem = &api.Error{Detail: "request body: " + err.Error()}
		}
	}
	if problem != nil {
		s.log.Info("invalid request", "path", r.URL.Path, "detail", problem.Detail)
		s.write(w, http.StatusBadRequest, problem)
	}
	return problem == nil
}

func (s *Server) write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("response not sent", "error", err)
	}
}
