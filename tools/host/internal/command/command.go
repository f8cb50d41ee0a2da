// Package command runs external programs for package host. It owns how a
// program is started, cancelled and reported; it decides nothing about what
// to run.
package command

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Cmd is one call of a program.
type Cmd struct {
	Name string
	Args []string
	Env  []string     // the whole environment; nil: this process's own
	Line func(string) // receives each line of output as it comes; may be nil
}

// String is the call as a person would type it, without quoting.
func (c Cmd) String() string { return strings.Join(append([]string{c.Name}, c.Args...), " ") }

// Runner runs programs. It exists so that tests can stand in for a host.
type Runner interface {
	// Run returns standard output. Its error is an [*Error] once the program
	// was started.
	Run(ctx context.Context, c Cmd) (string, error)
	// LookPath finds a program as exec.LookPath does.
	LookPath(name string) (string, error)
}

// Error is a failed call: what was run and what it said.
type Error struct {
	Call   string
	Output string // the end of its standard error, or of its output if that is empty
	Err    error
}

func (e *Error) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("%s: %v", e.Call, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Call, e.Err, e.Output)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Exec runs programs of this machine.
type Exec struct{}

// LookPath is exec.LookPath, which also finds the system folders: Debian keeps
// runc and dockerd in /usr/sbin, outside an ordinary user's PATH.
func (Exec) LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin/", "/usr/sbin/", "/sbin/"} {
		if info, statErr := os.Stat(dir + name); statErr == nil && info.Mode()&0o111 != 0 {
			return dir + name, nil
		}
	}
	return "", err
}

// Run implements [Runner]. A cancelled context interrupts the program and kills
// it five seconds later.
func (x Exec) Run(ctx context.Context, c Cmd) (string, error) {
	path, err := x.LookPath(c.Name)
	if err != nil {
		return "", &Error{Call: c.String(), Err: err}
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Env = c.Env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var mu sync.Mutex
	var out, errOut strings.Builder
	stdout := &lines{mu: &mu, all: &out, line: c.Line}
	stderr := &lines{mu: &mu, all: &errOut, line: c.Line}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err = cmd.Run()
	stdout.flush()
	stderr.flush()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		said := errOut.String()
		if strings.TrimSpace(said) == "" {
			said = out.String()
		}
		return out.String(), &Error{Call: c.String(), Output: Tail(said, 12), Err: err}
	}
	return out.String(), nil
}

// Tail returns the last n lines of text that are not empty.
func Tail(text string, n int) string {
	var kept []string
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if l := strings.TrimRight(s.Text(), " \t\r"); l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "\n")
}

// lines keeps all that is written and hands on whole lines.
type lines struct {
	mu      *sync.Mutex
	all     *strings.Builder
	line    func(string)
	pending string
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(p)
	if l.line == nil {
		return len(p), nil
	}
	l.pending += string(p)
	for {
		i := strings.IndexAny(l.pending, "\n\r")
		if i < 0 {
			return len(p), nil
		}
		if text := l.pending[:i]; strings.TrimSpace(text) != "" {
			l.line(text)
		}
		l.pending = l.pending[i+1:]
	}
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line != nil && strings.TrimSpace(l.pending) != "" {
		l.line(l.pending)
	}
	l.pending = ""
}
