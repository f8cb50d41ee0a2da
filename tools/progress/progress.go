// Package progress carries what a long operation is doing from the package
// that does it to whoever shows it. It owns no output.
package progress

// Update is one observation of a long operation.
type Update struct {
	Step  string // the step it belongs to; the runner of the steps fills it in
	What  string // the subject, e.g. "build hapi" or "load node-1"
	Done  int64  // bytes moved so far; 0 when bytes say nothing here
	Total int64  // bytes to move; 0 when unknown
	Line  string // one line of the tool's own output, without its newline
}

// Func receives updates. It may be called from several goroutines and must
// not block for long.
type Func func(Update)

// Discard drops every update.
func Discard(Update) {}

// Or returns f, or Discard if f is nil.
func (f Func) Or() Func {
	if f == nil {
		return Discard
	}
	return f
}
