package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// Unit runs the fast tests. Without a C compiler they run without the race
// detector, and say so.
func Unit(ctx context.Context) error {
	return target(ctx, "unit", func(s *session) ([][]run.Step, error) {
		return [][]run.Step{{s.goTestStep("unit", "-short")}}, nil
	})
}

// faults are the tests of `mage chaos`: whole runs in which something breaks.
const faults = `^(TestMatrix.*|TestIncident|TestFewFaults)$`

// otherEngines are the tests that build an engine of their own first.
const otherEngines = `^TestServices$`

// Test runs every test but those of `mage chaos`. It sets up what they need: an
// engine, a node image and a C compiler for the race detector.
func Test(ctx context.Context) error {
	return target(ctx, "test", func(s *session) ([][]run.Step, error) {
		// One package at a time: several make clusters, and two cores do not
		// carry more than one that starts.
		return [][]run.Step{{s.engineStep()}, {s.nodeImageStep()}, {s.compilerStep()}, {s.goTestStep("test", "-p=1", "-skip="+faults+"|"+otherEngines)}}, nil
	})
}

// compilerStep makes sure that there is a C compiler, which -race needs.
func (s *session) compilerStep() run.Step {
	return run.Step{Name: "compiler", Phase: failure.Preflight, Budget: 10 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			if cc := compiler(); cc != "" {
				return run.Outcome{Skipped: true, Detail: cc}, nil
			}
			if _, err := host.InstallPackages(ctx, host.Options{AllowInstall: true, Log: s.log, Progress: report}, host.CompilerPackages); err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: compiler()}, nil
		}}
}

func compiler() string {
	for _, name := range []string{"gcc", "clang", "cc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// goTestStep runs go test over the whole project; its lines go to standard
// output as they are, for people and for tools that read them.
func (s *session) goTestStep(name string, flags ...string) run.Step {
	return run.Step{Name: name, Phase: failure.Suite, Budget: 70 * time.Minute, Stall: 20 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			args := append([]string{"test", "-shuffle=on", "-timeout=60m"}, flags...)
			env := []string{"CGO_ENABLED=0"}
			compile := []string{"build", "-v"}
			detail := "without the race detector: no C compiler"
			if compiler() != "" {
				args, compile, env = append(args, "-race"), append(compile, "-race"), []string{"CGO_ENABLED=1"}
				detail = "with the race detector"
			}
			// On all cores: a go test that runs one package at a time compiles one
			// at a time too. What does not compile is told by go test, with the rest.
			_, _ = command.Run(ctx, command.Command{Name: "go", Args: append(compile, "./..."), Dir: s.root, Env: env,
				Lines: command.GoLines("compile", report)})
			_, err := command.Run(ctx, command.Command{Name: "go", Args: append(args, "./..."), Dir: s.root, Env: env, Grace: 4 * time.Second,
				Lines: func(line string) {
					report(progress.Update{What: "go test"})
					s.console.Result(line)
				}})
			var failed *command.Error
			if errors.As(err, &failed) && failed.Code == 1 {
				return run.Outcome{}, failure.New(failure.TestFailure, "tests failed", "correct what the lines marked FAIL name", err)
			}
			if err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: detail}, nil
		}}
}

// Lint runs the linters, which have a modfile of their own.
func Lint(ctx context.Context) error {
	return target(ctx, "lint", func(s *session) ([][]run.Step, error) {
		var steps [][]run.Step
		for _, linter := range [][]string{
			{"golangci-lint", "tool", "-modfile=tools.mod", "golangci-lint", "run", "./..."},
			{"golangci-lint-mage", "tool", "-modfile=tools.mod", "golangci-lint", "run", "--build-tags=mage", "./magefiles/..."},
			// Not in tools.mod: it needs another version of a library than golangci-lint.
			{"actionlint", "run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"},
		} {
			steps = append(steps, []run.Step{{Name: linter[0], Phase: failure.Build, Budget: 20 * time.Minute,
				Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
					_, err := command.Run(ctx, command.Command{Name: "go", Args: linter[1:], Dir: s.root,
						Lines: func(line string) { report(progress.Update{What: linter[0], Line: line}) }})
					var failed *command.Error
					if errors.As(err, &failed) && failed.Code == 1 {
						return run.Outcome{}, failure.New(failure.TestFailure, linter[0]+" has findings", "correct the lines it names", err)
					}
					return run.Outcome{Detail: "clean"}, err
				}}})
		}
		return steps, nil
	})
}

// Explain reads a log and prints what it means. file "-" is standard input.
func Explain(_ context.Context, file string, phase *string, asJSON *bool) error {
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return failure.New(failure.Configuration, fmt.Sprintf("the log %q cannot be read", file), "name a file, or - for standard input", err)
		}
		defer f.Close()
		in = f
	}
	p := failure.Phase("")
	if phase != nil {
		p = failure.Phase(*phase)
	}
	d, err := failure.ExplainFile(in, p)
	if err != nil {
		return err
	}
	if asJSON != nil && *asJSON {
		return json.NewEncoder(os.Stdout).Encode(d)
	}
	fmt.Println(failure.Format(d))
	return nil
}
