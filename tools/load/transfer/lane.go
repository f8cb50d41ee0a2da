// Package transfer moves image data from one export to several nodes without
// holding or spooling it: lanes that decouple a slow node from the others, the
// archive that is written into each of them, and the readers of what engines
// hand out.
//
// It owns bytes and formats. It knows neither nodes nor engines.
package transfer

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStalled is the error of a lane whose reader took nothing for too long.
var ErrStalled = errors.New("took no data for too long")

const (
	chunkSize = 256 << 10
	laneDepth = 8 // chunks; 2 MB a lane
)

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

type chunk struct {
	buf *[chunkSize]byte
	n   int
}

// Lane is a pipe with a bounded queue: a writer that feeds several lanes is
// held up by a slow reader only when that reader's queue is full, and then for
// no longer than the stall limit. One goroutine writes, one reads.
type Lane struct {
	stall time.Duration
	queue chan chunk

	once    sync.Once
	readEnd chan struct{} // closed when the reader is gone
	readErr error

	writeOnce sync.Once
	writeErr  error // set before queue is closed

	cur     chunk
	off     int
	sent    int64
	drained atomic.Bool
}

// NewLane returns a lane whose writer waits for its reader at most stall.
func NewLane(stall time.Duration) *Lane {
	return &Lane{stall: stall, queue: make(chan chunk, laneDepth), readEnd: make(chan struct{})}
}

// Write queues a copy of p.
func (l *Lane) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		c := chunk{buf: chunks.Get().(*[chunkSize]byte)}
		c.n = copy(c.buf[:], p)
		if err := l.push(c); err != nil {
			chunks.Put(c.buf)
			return done, err
		}
		p, done, l.sent = p[c.n:], done+c.n, l.sent+int64(c.n)
	}
	return done, nil
}

func (l *Lane) push(c chunk) error {
	select {
	case <-l.readEnd:
		return l.readErr
	case l.queue <- c:
		return nil
	default:
	}
	timer := time.NewTimer(l.stall)
	defer timer.Stop()
	select {
	case <-l.readEnd:
		return l.readErr
	case l.queue <- c:
		return nil
	case <-timer.C:
		l.CloseRead(ErrStalled)
		return ErrStalled
	}
}

// Sent returns how many bytes the writer has queued. Only the writer may ask
// while it writes.
func (l *Lane) Sent() int64 { return l.sent }

// Drained reports whether the reader has been given the end of the data.
func (l *Lane) Drained() bool { return l.drained.Load() }

// CloseWrite ends the data: the reader gets the rest, then err or, if that is
// nil, io.EOF. Later calls do nothing.
func (l *Lane) CloseWrite(err error) {
	l.writeOnce.Do(func() {
		l.writeErr = err
		close(l.queue)
	})
}

// CloseRead says that nobody reads any more: writing fails with err from now
// on. A nil err means io.ErrClosedPipe. Later calls do nothing.
func (l *Lane) CloseRead(err error) {
	if err == nil {
		err = io.ErrClosedPipe
	}
	l.once.Do(func() {
		l.readErr = err
		close(l.readEnd)
	})
}

// Read implements io.Reader. After CloseRead it returns that error, so that a
// client still sending from this lane stops too.
func (l *Lane) Read(p []byte) (int, error) {
	for l.off == l.cur.n {
		if l.cur.buf != nil {
			chunks.Put(l.cur.buf)
			l.cur, l.off = chunk{}, 0
		}
		select {
		case <-l.readEnd:
			return 0, l.readErr
		case c, ok := <-l.queue:
			if !ok {
				l.drained.Store(true)
				if l.writeErr != nil {
					return 0, l.writeErr
				}
				return 0, io.EOF
			}
			l.cur = c
		}
	}
	n := copy(p, l.cur.buf[l.off:l.cur.n])
	l.off += n
	return n, nil
}
