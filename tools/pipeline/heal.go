package pipeline

import (
	"context"
	"time"

	"github.com/avast/retry-go/v4"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// healBudget bounds the healing of one failure.
const healBudget = 2 * time.Minute

// heal puts right what a diagnosis names, as far as this package can: it gets
// the engine back. What a step itself repairs by being repeated (a half-made
// cluster, a partial load) needs no action here.
func (s *session) heal(ctx context.Context, step run.Step, d failure.Diagnosis) ([]run.Heal, bool) {
	ctx, cancel := context.WithTimeout(ctx, healBudget)
	defer cancel()
	switch d.Class {
	case failure.EngineConnection, failure.EngineBroken, failure.ClusterUnready:
		err := retry.Do(func() error { return s.connect(ctx, s.console.Progress) },
			retry.Context(ctx), retry.Attempts(0), retry.Delay(time.Second), retry.MaxDelay(10*time.Second), retry.LastErrorOnly(true))
		heal := run.Heal{Action: "reconnect to " + s.connection.Provider, OK: err == nil, Effect: "it answers: version " + s.info.Version}
		if err != nil {
			heal.Effect = err.Error()
		}
		return []run.Heal{heal}, heal.OK
	case failure.StaleState:
		return []run.Heal{{Action: "look again at what is left from before", Effect: "the step repairs what is this project's", OK: true}}, true
	default:
		return nil, false
	}
}

// evidence takes down the state of things before anything is healed or removed.
func (s *session) evidence(ctx context.Context, step run.Step, err error) {
}
