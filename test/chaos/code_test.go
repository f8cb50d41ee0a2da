package chaos

import (
	"strings"
	"testing"
)

// TestMatrixOfCode breaks the code under test: nothing is healed or repeated.
func TestMatrixOfCode(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	for _, c := range broken {
		t.Run(c.fault, func(t *testing.T) { w.breakCode(t, c) })
	}
}

// defect is a change of the code under test.
type defect struct {
	fault, step    string
	file, from, to string
	focus          string
}

var broken = []defect{
	{fault: "controller crashes at start", step: "deploy", file: "test/workload/controller/main.go",
		from: "func run(ctx context.Context) error {\n",
		to:   "func run(ctx context.Context) error {\n\tpanic(\"connection refused: EOF\")\n"},
	{fault: "controller does not compile", step: "build-controller", file: "test/workload/controller/main.go",
		from: "func run(ctx context.Context) error {\n",
		to:   "func run(ctx context.Context) error {\n\tundefined()\n"},
	{fault: "Dockerfile does not build", step: "build-hapi", file: "test/workload/hapi/image/Dockerfile",
		from: "COPY hapi", to: "COPY not-there"},
	{fault: "a spec fails with the word EOF", step: "suite", file: "test/e2e/aianalysis/endpoints_test.go",
		from: "It(\"is alive and ready\", func(ctx SpecContext) {\n",
		to:   "It(\"is alive and ready\", func(ctx SpecContext) {\n\t\tFail(`Get \"http://d/v5.6.0/libpod/exec\": EOF`)\n"},
	{fault: "HAPI answers 500", step: "suite", file: "test/workload/hapi/server/server.go", focus: "GINKGO_FOCUS=leaves conditions",
		from: "func (s *Server) analyze(w http.ResponseWriter, r *http.Request, q query) {\n",
		to: "func (s *Server) analyze(w http.ResponseWriter, r *http.Request, q query) {\n" +
			"\tif true {\n\t\thttp.Error(w, \"broken\", http.StatusInternalServerError)\n\t\treturn\n\t}\n"},
}

// breakCode lets the code fail; the verdict is the code's, at once.
func (w *world) breakCode(t *testing.T, c defect) {
	t.Helper()
	w.replace(t, c.file, c.from, c.to)
	if c.focus == "" {
		c.focus = quick
	}
	o := w.start(t, c.focus).wait()
	o.is(t, 1, "test-failure")
	if len(o.Heals) > 0 || o.attempts(c.step) != 1 {
		t.Errorf("healed %+v, %d attempts", o.Heals, o.attempts(c.step))
	}
	if o.Step != c.step {
		t.Errorf("failed in %s, want %s", o.Step, c.step)
	}
	o.tells(t, "code, not infrastructure")
	step, _, _ := strings.Cut(c.step, "-")
	observed(t, c.fault, step, "called the code's, nothing repeated", o)
}
