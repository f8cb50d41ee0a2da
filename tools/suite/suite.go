// Package suite runs one Ginkgo suite as its own process and says how it went.
// It owns compiling the suite and reading its JUnit file; it knows neither the
// cluster nor the engine: the suite gets a kubeconfig and URLs by environment.
package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/joshdk/go-junit"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Build is where the programs of a suite are kept.
type Build struct {
	Root    string // the project's root
	Dir     string // folder for the compiled programs
	Package string // the suite's package, e.g. ./test/e2e/aianalysis
}

// The Ginkgo command has the version that go.mod gives the library; Ginkgo
// refuses to run a suite of another one.
const ginkgo = "github.com/onsi/ginkgo/v2/ginkgo"

func (b Build) runner() string { return filepath.Join(b.Dir, "ginkgo") }

func (b Build) binary() string { return filepath.Join(b.Dir, filepath.Base(b.Package)+".test") }

// Compile builds the Ginkgo command and the suite. Go's cache makes it a no-op
// when nothing changed. A suite that does not compile is the code's fault.
func (b Build) Compile(ctx context.Context, report progress.Func) error {
	dir, err := filepath.Abs(b.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("compile suite: %w", err)
	}
	for what, args := range map[string][]string{
		"Ginkgo":             {"build", "-v", "-o", b.runner(), ginkgo},
		"suite " + b.Package: {"test", "-c", "-v", "-o", b.binary(), b.Package},
	} {
		_, err := command.Run(ctx, command.Command{Name: "go", Args: args, Dir: b.Root,
			Lines: command.GoLines("compile "+what, report)})
		var failed *command.Error
		if errors.As(err, &failed) && ctx.Err() == nil && compileError(failed.Output) {
			return failure.New(failure.TestFailure, fmt.Sprintf("%s does not compile", what), "correct the code at the line shown", err)
		}
		if err != nil {
			return fmt.Errorf("compile %s: %w", what, err)
		}
	}
	return nil
}

// compileError tells an error of the code from one of the tool chain (no
// network for modules, a full disk): the compiler prints "# package" above its
// findings.
func compileError(output string) bool {
	return strings.HasPrefix(output, "# ") || strings.Contains(output, "\n# ")
}

// Run is how to run a suite once.
type Run struct {
	Build
	Output  string            // folder for junit.xml
	Env     map[string]string // KUBECONFIG and the workload's URLs
	Procs   int               // parallel processes
	Timeout time.Duration     // of the whole suite
	Label   string            // Ginkgo label filter; empty: all
	Focus   string            // regular expression; empty: all
	Lines   func(line string) // gets the suite's output
}

// Summary is what the JUnit file says.
type Summary struct {
	Ran, Passed, Failed, Skipped int
	Failures                     []string // "name: message" of each failed spec
}

// ErrNoReport is a suite that exited 0 and left no report: it passed, but
// nothing proves it.
var ErrNoReport = errors.New("the suite exited 0 but left no report")

// Failure is a suite that ran and did not pass.
type Failure struct {
	Summary Summary
	Err     error // the process's end, with the last lines of its output
}

func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d specs failed", f.Summary.Failed, f.Summary.Ran)
	for _, s := range f.Summary.Failures {
		fmt.Fprintf(&b, "\n[FAILED] %s", s)
	}
	if len(f.Summary.Failures) == 0 {
		fmt.Fprintf(&b, ": %v", f.Err)
	}
	return b.String()
}

// Unwrap returns the process's end.
func (f *Failure) Unwrap() error { return f.Err }

// Do runs the suite. A *Failure means that it ran to its end and did not pass,
// with the reasons that its JUnit file gives; any other error that it did not.
func (r Run) Do(ctx context.Context, report progress.Func) (Summary, error) {
	if err := r.validate(); err != nil {
		return Summary{}, err
	}
	junit := filepath.Join(r.Output, "junit.xml")
	if err := os.Remove(junit); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Summary{}, fmt.Errorf("remove the report of an earlier attempt: %w", err)
	}
	args := []string{"run", "--junit-report=junit.xml", "--output-dir=" + r.Output, "--randomize-all", "--no-color",
		fmt.Sprintf("--procs=%d", max(r.Procs, 1)), "--timeout=" + r.Timeout.String(), "--poll-progress-after=60s", "--poll-progress-interval=30s"}
	if r.Label != "" {
		args = append(args, "--label-filter="+r.Label)
	}
	if r.Focus != "" {
		args = append(args, "--focus="+r.Focus)
	}
	env := make([]string, 0, len(r.Env))
	for k, v := range r.Env {
		env = append(env, k+"="+v)
	}
	_, err := command.Run(ctx, command.Command{Name: r.runner(), Args: append(args, r.binary()), Dir: r.Root, Env: env, Alone: true,
		Lines: func(l string) {
			report.Or()(progress.Update{What: "suite"})
			if r.Lines != nil {
				r.Lines(l)
			}
		}})
	if ctx.Err() != nil {
		return Summary{}, errors.Join(context.Cause(ctx), err)
	}
	summary, readErr := read(junit)
	switch {
	case err != nil && readErr != nil:
		return summary, errors.Join(err, readErr)
	case err != nil:
		return summary, &Failure{Summary: summary, Err: err}
	case readErr != nil:
		return summary, fmt.Errorf("%w: %w", ErrNoReport, readErr)
	case summary.Ran == 0:
		return summary, failure.New(failure.Configuration, fmt.Sprintf("no spec matches GINKGO_LABEL=%q GINKGO_FOCUS=%q", r.Label, r.Focus),
			"unset them, or name a label or text that a spec has", nil)
	case summary.Failed > 0:
		return summary, &Failure{Summary: summary, Err: errors.New("the suite exited 0 with failed specs")}
	}
	return summary, nil
}

// validate refuses what Ginkgo would refuse, before anything runs.
func (r Run) validate() error {
	if _, err := types.ParseLabelFilter(r.Label); err != nil {
		return failure.New(failure.Configuration, fmt.Sprintf("GINKGO_LABEL=%q is no label filter", r.Label),
			"see https://onsi.github.io/ginkgo/#spec-labels, or unset it", err)
	}
	if _, err := regexp.Compile(r.Focus); err != nil {
		return failure.New(failure.Configuration, fmt.Sprintf("GINKGO_FOCUS=%q is no regular expression", r.Focus), "correct it, or unset it", err)
	}
	return nil
}

// read summarises a JUnit file. Set-up and clean-up nodes count only if they
// failed: they are no specs, but their failure is the suite's.
func read(path string) (Summary, error) {
	suites, err := junit.IngestFile(path)
	if err != nil {
		return Summary{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(suites) == 0 { // what Ginkgo leaves on a full disk, without a word in its exit code
		return Summary{}, fmt.Errorf("read %s: it is empty", path)
	}
	var s Summary
	for _, suite := range suites {
		for _, t := range suite.Tests {
			spec := strings.HasPrefix(t.Name, "[It]")
			switch t.Status {
			case junit.StatusPassed:
				if spec {
					s.Ran, s.Passed = s.Ran+1, s.Passed+1
				}
			case junit.StatusSkipped:
				s.Skipped++
			default:
				s.Ran, s.Failed = s.Ran+1, s.Failed+1
				s.Failures = append(s.Failures, t.Name+": "+message(t))
			}
		}
	}
	return s, nil
}

func message(t junit.Test) string {
	if t.Error != nil {
		var e junit.Error
		if errors.As(t.Error, &e) && e.Body != "" {
			return strings.TrimSpace(e.Body)
		}
		return t.Error.Error()
	}
	return strings.TrimSpace(t.Message)
}
