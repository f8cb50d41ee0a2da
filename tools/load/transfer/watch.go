package transfer

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Watch returns r, whose reads fail once one of them has waited for longer
// than limit; give is then called to end whatever holds the read up. The first
// read may take first, since an engine may prepare an export before it sends.
func Watch(r io.Reader, first, limit time.Duration, give func()) io.Reader {
	return &watched{r: r, limit: first, next: limit, give: give}
}

type watched struct {
	r           io.Reader
	limit, next time.Duration
	give        func()
	expired     atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(w.limit, func() {
		w.expired.Store(true)
		w.give()
	})
	n, err := w.r.Read(p)
	timer.Stop()
	if w.expired.Load() {
		return n, fmt.Errorf("no data for %s: %w", w.limit, ErrStalled)
	}
	w.limit = w.next
	return n, err
}
