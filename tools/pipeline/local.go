package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
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
		return [][]run.Step{{s.goTestStep("unit", nil, "-short")}}, nil
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
		// carry more than one that starts. Those that wait most run beside them.
		return [][]run.Step{{s.engineStep()}, {s.nodeImageStep()}, {s.compilerStep()}, {s.raceBuildStep()},
			{s.goTestStep("test", []string{"/tools/load"}, "-p=1", "-skip="+faults+"|"+otherEngines)}}, nil
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

// elsewhere are the folders of tests that other targets run: linking them takes
// longer than most tests.
var elsewhere = []string{"/test/chaos", "/test/e2e/"}

// testPackages lists the packages that go test is run on.
func (s *session) testPackages(ctx context.Context) ([]string, error) {
	out, err := command.Run(ctx, command.Command{Name: "go", Args: []string{"list", "./..."}, Dir: s.root})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(out), func(pkg string) bool { return under(pkg, elsewhere) }), nil
}

func under(pkg string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool { return strings.Contains(pkg, folder) })
}

// goTestStep runs go test, at the same time on the packages in the folders
// beside and on all others; its lines go to standard output as they are, for
// people and for tools that read them.
func (s *session) goTestStep(name string, beside []string, flags ...string) run.Step {
	return run.Step{Name: name, Phase: failure.Suite, Budget: 70 * time.Minute, Stall: 20 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			race, env, detail := raceDetector()
			packages, err := s.testPackages(ctx)
			if err != nil {
				return run.Outcome{}, err
			}
			var apart, others []string
			for _, pkg := range packages {
				if under(pkg, beside) {
					apart = append(apart, pkg)
				} else {
					others = append(others, pkg)
				}
			}
			var tests sync.WaitGroup
			var errs [2]error
			for i, group := range [][]string{others, apart} {
				if len(group) == 0 {
					continue
				}
				tests.Go(func() {
					args := slices.Concat([]string{"test", "-shuffle=on", "-timeout=60m"}, flags, race, group)
					errs[i] = s.goCommand(ctx, "tests failed", "correct what the lines marked FAIL name",
						command.Command{Args: args, Env: env, Grace: 4 * time.Second, Lines: s.testLines("go test", report)})
				})
			}
			tests.Wait()
			if err := errors.Join(errs[:]...); err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: detail}, nil
		}}
}

// raceBuildStep compiles on all cores the tests and what they import: a go test
// that runs one package at a time compiles one at a time too. go list does that
// without linking. What does not compile is told by go test, with the rest.
func (s *session) raceBuildStep() run.Step {
	return run.Step{Name: "compile", Phase: failure.Build, Budget: 20 * time.Minute, Stall: 10 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			race, env, detail := raceDetector()
			packages, err := s.testPackages(ctx)
			if err != nil {
				return run.Outcome{}, err
			}
			_, err = command.Run(ctx, command.Command{Name: "go", Args: slices.Concat([]string{"list", "-v", "-test", "-deps", "-export", "-f="}, race, packages), Dir: s.root, Env: env,
				Lines: command.GoLines("compile", report)})
			if err != nil && ctx.Err() != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: detail}, nil
		}}
}

// raceDetector gives go its flags and environment for the race detector, which
// needs a C compiler, and says whether there is one.
func raceDetector() (flags, env []string, detail string) {
	if compiler() == "" {
		return nil, []string{"CGO_ENABLED=0"}, "without the race detector: no C compiler"
	}
	return []string{"-race"}, []string{"CGO_ENABLED=1"}, "with the race detector"
}

// testsRan is what go test prints of a test binary that was run and failed.
var testsRan = regexp.MustCompile(`(?m)^\s*--- FAIL|^FAIL\t\S+\t[0-9.]+s|^panic:`)

// goCommand runs the go command in the project. Its exit code 1 is a failure of
// the code, with this cause and remedy, unless no test ran and what is printed
// is known to come of the network or a limit of this host.
func (s *session) goCommand(ctx context.Context, cause, remedy string, c command.Command) error {
	c.Name, c.Dir = "go", s.root
	_, err := command.Run(ctx, c)
	return goFailure(cause, remedy, err)
}

func goFailure(cause, remedy string, err error) error {
	var failed *command.Error
	if !errors.As(err, &failed) || failed.Code != 1 {
		return err
	}
	if d, ok := failure.Outside(failed.Output); ok && !testsRan.MatchString(failed.Output) {
		return &failure.Error{Diagnosis: d, Err: err}
	}
	return failure.New(failure.TestFailure, cause, remedy, err)
}

// testLines shows the lines of a test run as they are.
func (s *session) testLines(what string, report progress.Func) func(string) {
	return func(line string) {
		report(progress.Update{What: what})
		s.console.Result(line)
	}
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
					err := s.goCommand(ctx, linter[0]+" has findings", "correct the lines it names", command.Command{Args: linter[1:],
						Lines: func(line string) { report(progress.Update{What: linter[0], Line: line}) }})
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
