// Package command runs other programs: argument slices, never a shell; each
// in its own process group, so that its children end with it; output passed on
// line by line and kept in the error.
package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Command is one program to run.
type Command struct {
	Name  string
	Args  []string
	Dir   string
	Env   []string          // added to the base environment
	Base  []string          // the environment to start from; nil: the process's own
	Lines func(line string) // gets every line of both outputs that is not empty; may be nil
	Keep  int               // lines of output kept for the error; 0 means 400
	Grace time.Duration     // between interrupt and kill; 0 means 3 s
	Alone bool              // what it leaves running when it ends by itself is killed too
	// Mounts gives it a mount namespace of its own, so that no mount outlives
	// it, however it ends. Linux only, as root.
	Mounts bool
}

// String is the call as a person would type it, without quoting.
func (c Command) String() string { return strings.Join(append([]string{c.Name}, c.Args...), " ") }

// Error is a program that did not succeed.
type Error struct {
	Command string // what was run
	Code    int    // exit code; -1 if it did not exit by itself
	Output  string // the last lines of both outputs
	Err     error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("%s: %v", e.Command, e.Err)
	if e.Output != "" {
		msg += "\n" + e.Output
	}
	return msg
}

// Unwrap returns the error of os/exec.
func (e *Error) Unwrap() error { return e.Err }

// LookPath is exec.LookPath, which also finds the system folders: Debian keeps
// runc and dockerd in /usr/sbin, outside an ordinary user's PATH.
func LookPath(name string) (string, error) {
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

// keep bounds the output kept for the error.
const keep = 400

// Run runs c to its end and returns its standard output. When ctx ends, the
// whole process group gets an interrupt, and after c.Grace a kill; none of its
// processes is left. A failure is an *Error.
func Run(ctx context.Context, c Command) (string, error) {
	path, err := LookPath(c.Name)
	if err != nil {
		return "", &Error{Command: c.String(), Code: -1, Err: err}
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	if c.Base == nil {
		c.Base = os.Environ()
	}
	cmd.Dir, cmd.Env = c.Dir, slices.Concat(c.Base, c.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.Mounts {
		ownMounts(cmd.SysProcAttr)
	}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = cmp.Or(c.Grace, 3*time.Second)

	var stdout bytes.Buffer
	tail := &lines{keep: cmp.Or(c.Keep, keep), sink: c.Lines}
	out, outDone := tail.pipe()
	errs, errsDone := tail.pipe()
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, out), errs
	err = cmd.Run()
	_, _ = out.Close(), errs.Close()
	<-outDone
	<-errsDone
	if (ctx.Err() != nil || c.Alone) && cmd.Process != nil {
		// Whoever ignored the interrupt, grandchildren included.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if err == nil {
		return stdout.String(), nil
	}
	failed := &Error{Command: c.String(), Code: -1, Output: tail.text(), Err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		failed.Code = exit.ExitCode()
	}
	if ctx.Err() != nil {
		failed.Err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return stdout.String(), failed
}

// lines cuts output into lines and keeps the last of them.
type lines struct {
	mu   sync.Mutex
	keep int
	kept []string
	sink func(string)
}

func (l *lines) pipe() (*io.PipeWriter, <-chan struct{}) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.read(r)
		_, _ = io.Copy(io.Discard, r) // a line over 4 MB must not block the program
	}()
	return w, done
}

func (l *lines) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), 4<<20)
	s.Split(anyLine)
	for s.Scan() {
		if line := strings.TrimRight(s.Text(), " \t"); line != "" {
			l.add(line)
		}
	}
}

// anyLine is bufio.ScanLines that also ends a line at a carriage return, with
// which programs show progress.
func anyLine(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, line)
	if len(l.kept) > l.keep {
		l.kept = l.kept[len(l.kept)-l.keep:]
	}
	if l.sink != nil {
		l.sink(line)
	}
}

// Tail returns the last n lines of text that are not empty.
func Tail(text string, n int) string {
	l := &lines{keep: n}
	l.read(strings.NewReader(text))
	return l.text()
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.kept, "\n")
}

// GoLines reports the output of the go command's -v flag: the name of a package
// that is being compiled only shows that something moves, all else is shown.
func GoLines(what string, report progress.Func) func(line string) {
	return func(line string) {
		if strings.ContainsAny(line, " #") {
			report.Or()(progress.Update{What: what, Line: line})
			return
		}
		report.Or()(progress.Update{What: what + ": " + line})
	}
}
