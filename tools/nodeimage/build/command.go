package build

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is one external program.
type command struct {
	dir  string
	env  []string // in addition to this process's
	name string
	args []string
	// private runs it in a mount namespace of its own, so that no mount
	// outlives it, however it ends. Linux only.
	private bool
}

// kept is how many of a program's last lines an error shows.
const kept = 30

// run waits for the program and shows its lines as progress. When ctx ends, the
// program and its children are asked to end, and killed ten seconds later.
func (c command) run(ctx context.Context) error {
	cmd, tail := c.prepare(ctx)
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	var copied sync.WaitGroup
	copied.Add(1)
	go func() {
		defer copied.Done()
		tail.read(reader, taskOf(ctx))
	}()
	err := cmd.Run()
	_ = writer.Close()
	copied.Wait()
	return c.finish(ctx, cmd, err, tail.String())
}

// output returns what the program wrote to its standard output.
func (c command) output(ctx context.Context) ([]byte, error) {
	cmd, _ := c.prepare(ctx)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	return []byte(out.String()), c.finish(ctx, cmd, err, said.String())
}

func (c command) prepare(ctx context.Context) (*exec.Cmd, *lines) {
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	// A group of its own: debootstrap and go have children that must end too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.private {
		privateMounts(cmd.SysProcAttr)
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd, &lines{}
}

func (c command) finish(ctx context.Context, cmd *exec.Cmd, err error, said string) error {
	if err == nil {
		return nil
	}
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	line := strings.Join(append([]string{c.name}, c.args...), " ")
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: %w", line, ctx.Err())
	}
	return fmt.Errorf("run %s: %w: %s", line, err, strings.TrimSpace(said))
}

// lines keeps the last lines of a stream.
type lines struct{ last []string }

func (l *lines) read(r io.Reader, k *task) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" {
			continue
		}
		if l.last = append(l.last, line); len(l.last) > kept {
			l.last = l.last[1:]
		}
		k.say(line)
	}
	// A line too long for the scanner must not block the program.
	_, _ = io.Copy(io.Discard, r)
}

func (l *lines) String() string { return strings.Join(l.last, "\n") }
