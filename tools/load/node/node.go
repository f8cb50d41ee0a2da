// Package node asks and changes the image store of one Kind node: containerd's,
// in the namespace that the kubelet uses, through programs run in the node.
//
// It owns the questions (what is there, is it whole) and the few changes an
// image load makes. It does not decide what to send or when to try again.
package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

// Runner runs programs in one node.
type Runner interface {
	// Name is the node's name, as people know it.
	Name() string
	// Exec runs cmd in the node. It returns nil only if the program is known to
	// have ended with exit code 0: a connection that ends first is an error. The
	// end of stdin (nil: none) closes the program's; any other error from stdin
	// ends the program. Exec returns soon after ctx ends.
	Exec(ctx context.Context, cmd []string, stdin io.Reader, stdout, stderr io.Writer) error
}

// run runs cmd and returns its standard output. The error carries what the
// program said.
func run(ctx context.Context, r Runner, stdin io.Reader, cmd ...string) (string, error) {
	var out, said bytes.Buffer
	err := r.Exec(ctx, cmd, stdin, &out, &tail{buf: &said})
	if err != nil {
		return out.String(), failed(r, strings.Join(cmd, " "), err, said.String())
	}
	return out.String(), nil
}

// script runs a constant shell text in the node, with args as $1, $2 …: one
// session instead of one for each question.
func script(ctx context.Context, r Runner, what, text string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := append([]string{"sh", "-c", text, "kubernaut-e2e"}, args...)
	if err := r.Exec(ctx, cmd, nil, &out, &tail{buf: &said}); err != nil {
		return out.String(), failed(r, what, Short(err, cmd, what), said.String())
	}
	return out.String(), nil
}

// Short is err without the text of a command, for which what stands: an error
// that shows pages of shell hides its cause.
func Short(err error, cmd []string, what string) error {
	text := strings.ReplaceAll(err.Error(), strings.Join(cmd, " "), what)
	return &shortened{text: text, err: err}
}

type shortened struct {
	text string
	err  error
}

func (e *shortened) Error() string { return e.text }
func (e *shortened) Unwrap() error { return e.err }

// failed names node, operation, cause and what the program said, each once.
// ctr's deprecation warnings explain nothing.
func failed(r Runner, what string, err error, said string) error {
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "DEPRECATION") && !strings.Contains(err.Error(), line) {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		return fmt.Errorf("node %s: %s: %w: %s", r.Name(), what, err, strings.Join(lines, "; "))
	}
	if strings.Contains(err.Error(), what) {
		return fmt.Errorf("node %s: %w", r.Name(), err)
	}
	return fmt.Errorf("node %s: %s: %w", r.Name(), what, err)
}

// tail keeps the last 4 KB of what a program says.
type tail struct{ buf *bytes.Buffer }

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if extra := t.buf.Len() - tailSize; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}
