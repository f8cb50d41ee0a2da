package failure

import "testing"

func TestEverySignatureFitsItsExample(t *testing.T) {
	all, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if _, ok := s.match(prepare(s.Example, s.In)); !ok {
				t.Errorf("does not fit its own example (phase %q):\n%s", s.In, s.Example)
			}
			if d := Explain(s.Example, s.In, Facts{}); d.Signature != s.Name {
				t.Errorf("its example is taken by %q", d.Signature)
			}
		})
	}
}
