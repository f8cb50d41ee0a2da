package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avast/retry-go/v4"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

func (s *session) hostOptions() host.Options {
	provider := s.settings.Provider
	if s.connection.Provider != "" {
		provider = s.connection.Provider
	}
	return host.Options{Provider: provider, Found: s.connection.URL, Log: s.log, Progress: s.console.Progress}
}

func (s *session) restarted(did bool, err error) (string, error) {
	if err != nil || !did {
		return "", err
	}
	return "it was restarted and answers", nil
}

// restartMachine restarts the machine and connects to its engine, which may
// have another port since.
func (s *session) restartMachine(ctx context.Context) (string, error) {
	connection, err := host.RestartMachine(ctx, s.hostOptions(), s.settings.MachineRestart, settings.Label, s.neighbours)
	if err != nil || connection == nil {
		return "", err
	}
	if s.engine != nil && connection.URL != s.connection.URL {
		if err := setenv(connection.Env); err != nil {
			return "", err
		}
		if err := s.connect(ctx, s.console.Progress); err != nil {
			return "", err
		}
	}
	return s.restarted(true, nil)
}

func (s *session) askEngine(ctx context.Context) (string, error) {
	if s.engine == nil {
		return "", errors.New("no engine was found yet")
	}
	if err := s.engine.Ping(ctx); err != nil {
		return "", err
	}
	return s.describeEngine() + " answers", nil
}

// awaitEngine tries to connect until ctx ends, ever less often. It starts a
// service of ours that ended.
func (s *session) awaitEngine(ctx context.Context) (string, error) {
	began := time.Now()
	started := false
	var last error
	err := retry.Do(func() error {
		last = s.reconnect(ctx, &started)
		return last
	}, retry.Context(ctx), retry.Attempts(0), retry.Delay(250*time.Millisecond), retry.MaxDelay(3*time.Second),
		retry.DelayType(retry.CombineDelay(retry.BackOffDelay, retry.RandomDelay)), retry.MaxJitter(200*time.Millisecond), retry.LastErrorOnly(true))
	if err != nil {
		return "", errors.Join(last, err)
	}
	effect := fmt.Sprintf("%s answers after %s", s.describeEngine(), time.Since(began).Round(100*time.Millisecond))
	if started {
		effect += "; its service was started"
	}
	return effect, nil
}

// silentLimit is how long an engine that answers new connections may leave a
// question over the old one unanswered.
const silentLimit = 5 * time.Second

// reconnect keeps the engine's value where its address is the same and it
// answers: steps that run beside this one use it. Where others get an answer
// and this connection does not, it stands still, and is given up.
func (s *session) reconnect(ctx context.Context, started *bool) error {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.engine == nil {
		return s.connect(ctx, s.console.Progress)
	}
	connection, err := host.EnsureEngine(ctx, s.hostOptions())
	if err != nil {
		return err
	}
	*started = *started || connection.Started
	if connection.URL == s.connection.URL {
		ask, cancel := context.WithTimeout(ctx, silentLimit)
		defer cancel()
		if err := s.engine.Ping(ask); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return s.connect(ctx, s.console.Progress) // a machine that was restarted may have another port
}

// current is the engine, for those who look whether it was replaced.
func (s *session) current() engine.Engine {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	return s.engine
}

// rememberNeighbours asks, while the engine answers, who else's containers run
// in its machine: when it no longer does, that decides whether it may be
// restarted.
func (s *session) rememberNeighbours(ctx context.Context) {
	if !s.info.Machine {
		return
	}
	found, err := host.MachineForeign(ctx, s.hostOptions(), settings.Label)
	if err != nil {
		s.log.Debug("ask for other people's containers in the machine", "error", err)
		return
	}
	s.neighbours = found
}
