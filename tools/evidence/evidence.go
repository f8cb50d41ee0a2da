// Package evidence takes down the state of engine, nodes and cluster after a
// failure, before anything is healed or removed.
//
// It owns the bounds: a time after which it ends whatever is missing, a size
// that it does not exceed, and files that are whole as soon as they have their
// name. It judges nothing and changes nothing.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one collection where the request names none.
const (
	DefaultLimit = 20 * time.Second
	DefaultBytes = 50 << 20
	// fileBytes bounds one file; of a longer one the end is kept, where what
	// ended a run stands.
	fileBytes = 2 << 20
)

// Item takes down one thing. It writes what it has as it gets it, and stops
// when its context ends.
type Item struct {
	Name string // in errors.txt
	Take func(ctx context.Context, to *Folder) error
}

// Request is one collection.
type Request struct {
	Root  string        // evidence folder of the run; errors.txt lies there
	Name  string        // folder below Root for this failure
	Limit time.Duration // of all items, which are taken side by side; 0: DefaultLimit
	Bytes int64         // of all files together; 0: DefaultBytes
	Items []Item
}

// Folder is where one collection goes. Safe for concurrent use.
type Folder struct {
	Path string
	left atomic.Int64
}

// Write puts one file in place in one step. It keeps the end of what is too
// long, and nothing once the collection is full.
func (f *Folder) Write(name string, data []byte) error {
	if cut := len(data) - fileBytes; cut > 0 {
		data = append([]byte(fmt.Sprintf("[%d bytes left out]\n", cut)), data[cut:]...)
	}
	if f.left.Add(-int64(len(data))) < 0 {
		return fmt.Errorf("%s is left out: the evidence is full", name)
	}
	path := filepath.Join(f.Path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// Collect takes all items and returns within the limit and a moment, with what
// there is by then. What could not be had is in Root/errors.txt, a line each,
// and in the error.
func Collect(ctx context.Context, r Request) error {
	if r.Limit == 0 {
		r.Limit = DefaultLimit
	}
	if r.Bytes == 0 {
		r.Bytes = DefaultBytes
	}
	to := &Folder{Path: filepath.Join(r.Root, r.Name)}
	to.left.Store(r.Bytes)
	if err := os.MkdirAll(to.Path, 0o755); err != nil {
		return fmt.Errorf("make the folder of evidence: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Limit, fmt.Errorf("not had within %s", r.Limit))
	defer cancel()
	problems := &problems{path: filepath.Join(r.Root, "errors.txt"), prefix: r.Name}
	pending := map[string]bool{}
	ended := make(chan string, len(r.Items))
	for _, item := range r.Items {
		pending[item.Name] = true
		go func() {
			defer func() { ended <- item.Name }()
			if err := item.Take(ctx, to); err != nil {
				if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
					err = fmt.Errorf("%w: %w", cause, err)
				}
				problems.add(item.Name, err)
			}
		}()
	}
	var late <-chan time.Time
	stop := ctx.Done()
	for len(pending) > 0 {
		select {
		case name := <-ended:
			delete(pending, name)
		case <-stop:
			stop, late = nil, time.After(time.Second)
		case <-late: // an item that does not obey its context is left behind
			for name := range pending {
				problems.add(name, context.Cause(ctx))
			}
			clear(pending)
		}
	}
	return problems.err()
}

// problems appends to errors.txt at once, so that a run killed right after has
// them.
type problems struct {
	path, prefix string
	mu           sync.Mutex
	all          []error
}

func (p *problems) add(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, fmt.Errorf("%s: %w", name, err))
	f, openErr := os.OpenFile(p.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if openErr != nil {
		p.all = append(p.all, openErr)
		return
	}
	_, writeErr := fmt.Fprintf(f, "%s: %s: %v\n", p.prefix, name, err)
	if err := errors.Join(writeErr, f.Close()); err != nil {
		p.all = append(p.all, err)
	}
}

func (p *problems) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.all...)
}
