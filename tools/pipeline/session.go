// Package pipeline wires the other packages into what the targets do. It owns
// the order of the steps and their budgets; every step's work belongs to the
// package that it calls.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/hapi"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage"
	"github.com/jordigilh/kubernaut-e2e/tools/report"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// session is one invocation of one target: its settings, its files, what is
// shown, and what its steps found out for the steps after them.
type session struct {
	name     string
	root     string // the project's root: the folder Mage runs in
	settings settings.Settings
	folder   run.Folder
	journal  *run.Journal
	console  *report.Console
	runner   *run.Runner
	log      *slog.Logger

	connection  host.Connection
	engine      engine.Engine
	info        engine.Info
	node        nodeimage.Result
	suite       *settings.Suite // whose cluster the steps are about; nil: none
	started     time.Time
	neighbours  []string   // other people's containers in the engine's machine; nil: unknown
	cleared     []string   // engines not ours that a teardown found
	movable     bool       // the whole run can be done on another engine
	connecting  sync.Mutex // one connection at a time
	healing     sync.Mutex // one healing at a time
	freed       time.Time  // when space was freed; guarded by healing, as is the next
	restartedAt time.Time  // when engine or machine were
	lock        *cluster.Lock
	onFailure   func(context.Context)

	mu        sync.Mutex
	images    map[string]hapi.Image // by the name the suite gives them
	nodes     []string              // of the cluster, by container name
	lost      []*engine.LostExec    // commands in nodes that may still run
	diagnoses map[string]failure.Diagnosis
	texts     map[string]int // how often a step ended with a text
	collected int            // collections of evidence
}

// open reads the settings and starts the files and the display of a run.
func open(name string) (*session, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the project's root: %w", err)
	}
	set, err := settings.FromEnvironment(nil)
	if err != nil {
		return nil, err
	}
	s := &session{name: name, root: root, settings: set, started: time.Now(), images: map[string]hapi.Image{}}
	folder, moved, err := run.NewFolder(set.State, name, time.Now())
	if err != nil {
		return nil, err
	}
	s.folder = folder
	s.console = report.NewConsole(os.Stderr, style(set), time.Now)
	for _, m := range moved {
		s.console.Print("moved aside, it was not a state folder: " + m)
	}
	s.log = slog.New(report.Logger(s.console))
	if s.journal, err = run.OpenJournal(folder, s.console.Event); err != nil {
		s.console.Close()
		return nil, err
	}
	s.runner = &run.Runner{Journal: s.journal, Progress: s.console.Progress, Now: time.Now, Delay: time.Second,
		Diagnose: s.diagnose, Evidence: s.evidence, Heal: s.heal, Ready: s.heal}
	return s, nil
}

// style decides how to show progress: one live line for a person, plain lines
// for a log.
func style(set settings.Settings) report.Style {
	fd := int(os.Stderr.Fd())
	st := report.Style{Terminal: term.IsTerminal(fd) && !set.CI, Groups: set.GitHubActions}
	st.Lines = !st.Terminal
	if width, _, err := term.GetSize(fd); err == nil {
		st.Width = width
	}
	return st
}

// finish writes the verdict files, shows the summary and returns the error that
// carries the exit code, or nil for a pass.
func (s *session) finish(result run.Result) error {
	result.Provider, result.NodeImage = s.describeEngine(), s.node.Ref
	var decisive []string
	if result.Error != "" {
		decisive = failure.DecisiveLines(result.Error, failure.Diagnosis{Class: result.Class, Signature: result.Signature})
	}
	markdown := report.Markdown(result, s.journal.Events(), decisive, s.folder.Path)
	errs := []error{result.Save(s.folder), s.folder.WriteFile("report.md", []byte(markdown)), s.journal.Close()}
	if s.settings.GitHubActions {
		if a := report.Annotation(result); a != "" {
			s.console.Print(a)
		}
		if s.settings.StepSummary != "" {
			errs = append(errs, report.AppendSummary(s.settings.StepSummary, markdown))
		}
	}
	s.console.Close()
	shown := s.folder.Path
	if rel, err := filepath.Rel(s.root, shown); err == nil && filepath.IsLocal(rel) {
		shown = rel
	}
	fmt.Fprintln(os.Stderr, report.Summary(result, shown))
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "  the files of this run are incomplete: %v\n", err)
	}
	if result.Verdict == failure.Passed {
		return nil
	}
	return &exitError{code: result.Verdict.ExitCode(), msg: report.Headline(result)}
}

func (s *session) describeEngine() string {
	if s.info.Version == "" {
		return s.connection.Provider
	}
	return s.connection.Provider + " " + s.info.Version
}

// built are the images that this run built or found built, by the name that the
// suite gives them. Steps that run side by side add to them.
func (s *session) built() map[string]hapi.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.images)
}

func (s *session) setNodes(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = names
}

// nodeNames are the cluster's nodes, once they are known.
func (s *session) nodeNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes
}

// exitError ends the process with a code; Mage asks for it by ExitStatus.
type exitError struct {
	code int
	msg  string
}

func (e *exitError) Error() string { return e.msg }

// ExitStatus is the process exit code (contract of mage's mg.ExitStatus).
func (e *exitError) ExitStatus() int { return e.code }

// Exit gives err an exit code: its own, or that of its diagnosis.
func Exit(err error) error {
	var coded *exitError
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return &exitError{code: failure.Of(err, failure.Preflight, failure.Facts{}).Verdict(failure.Preflight).ExitCode(), msg: err.Error()}
}

// watched marks a context that interruptible made.
type watched struct{}

// interruptible returns a context that a signal ends, or the end of the parent
// process: Mage does not pass SIGTERM on to the program it compiled, and a run
// without anybody to report to must not go on. Mage's own handler of SIGINT is
// put out of work: it would end this process after five seconds, in the middle
// of cleaning up. A second signal ends it at once. A parent that is interruptible
// is returned as it is.
func interruptible(parent context.Context) (context.Context, func()) {
	if parent.Value(watched{}) != nil {
		return parent, func() {}
	}
	// With a cause of its own.
	ctx, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(parent), watched{}, true))
	signals := make(chan os.Signal, 1)
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup(1)
		ends = append(ends, syscall.SIGHUP)
	}
	signal.Reset(syscall.SIGINT)
	signal.Notify(signals, ends...)
	tick := time.NewTicker(500 * time.Millisecond)
	started := os.Getppid()
	go func() {
		defer tick.Stop()
		for {
			select {
			case sig := <-signals:
				cancel(fmt.Errorf("%w by %v", run.ErrInterrupted, sig))
				// Not at once: `go tool` passes on what the terminal has sent already.
				time.AfterFunc(time.Second, func() { signal.Stop(signals) })
				return
			case <-parent.Done(): // Mage's own handler of SIGINT
				cancel(fmt.Errorf("%w by SIGINT", run.ErrInterrupted))
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				if os.Getppid() != started {
					cancel(fmt.Errorf("%w: the process that started it ended", run.ErrInterrupted))
					return
				}
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
