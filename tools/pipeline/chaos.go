package pipeline

import (
	"context"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

const (
	chaosName = "chaos"
	// chaosBudget bounds all runs of the fault matrix: some hundred, of half a
	// minute to three minutes each.
	chaosBudget = 150 * time.Minute
	// matrixFile is where the chaos tests put what they observed.
	matrixFile = "docs/fault-matrix.md"
)

// Chaos breaks engines, nodes and runs on purpose and writes what became of
// them into the fault matrix. A few faults only take minutes, and write nothing.
func Chaos(ctx context.Context, few bool) error {
	return target(ctx, chaosName, func(s *session) ([][]run.Step, error) {
		step := s.chaosStep([]string{"-run=" + faults, "-skip=^TestFewFaults$"}, "CHAOS_MATRIX="+filepath.Join(s.root, matrixFile))
		if few {
			step = s.chaosStep([]string{"-run=^TestFewFaults$"})
		}
		return [][]run.Step{{s.engineStep()}, {s.nodeImageStep()}, {step}}, nil
	})
}

func (s *session) chaosStep(which []string, env ...string) run.Step {
	return run.Step{Name: chaosName, Phase: failure.Suite, Budget: chaosBudget - 5*time.Minute, Stall: 16 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			args := append([]string{"test", "./test/chaos", "-count=1", "-v", "-timeout=140m"}, which...)
			err := s.goCommand(ctx, "a fault was not survived as it should be", "see the lines marked FAIL",
				command.Command{Args: args, Env: env, Grace: 4 * time.Second, Lines: s.testLines(chaosName, report)})
			if err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: "every fault was survived as it should be"}, nil
		}}
}
