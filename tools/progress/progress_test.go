package progress

import "testing"

func TestOr(t *testing.T) {
	Func(nil).Or()(Update{What: "nobody listens"})
	var got []Update
	f := Func(func(u Update) { got = append(got, u) })
	f.Or()(Update{What: "load", Done: 1})
	if len(got) != 1 || got[0].What != "load" {
		t.Errorf("got %v", got)
	}
}
