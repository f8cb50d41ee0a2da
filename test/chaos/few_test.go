package chaos

import (
	"testing"
)

// TestFewFaults is the part of the matrix that a usual test run can afford: the
// connection that breaks in the middle of a load, code that is broken, and a
// run that is ended from outside.
func TestFewFaults(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	for i, c := range []struct{ fault, step string }{
		{"connection cut", "load"},
		{"SIGTERM to the run", "suite"},
	} {
		t.Run(c.fault, func(t *testing.T) { w.cell(t, faultCalled(t, c.fault), momentOf(t, c.step), 80+i) })
	}
	t.Run(broken[0].fault, func(t *testing.T) { w.breakCode(t, broken[0]) })
}

func faultCalled(t *testing.T, name string) fault {
	for _, f := range faults {
		if f.name == name {
			return f
		}
	}
	t.Fatal("no fault ", name)
	return fault{}
}

func momentOf(t *testing.T, step string) moment {
	for _, m := range moments {
		if m.step == step {
			return m
		}
	}
	t.Fatal("no step ", step)
	return moment{}
}
