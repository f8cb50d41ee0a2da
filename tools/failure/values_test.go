package failure

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A spec may compare or narrate any fault. That is data of the test: none of
// what tools are known to print makes it infrastructure.
func TestWhatASpecComparesIsNoNews(t *testing.T) {
	forms := []string{
		"[FAILED] Expected\n    <string>: %s\nto contain substring\n    <string>: ready\nIn [It] at: a_test.go:3",
		"[It] shows it\n  STEP: %s @ 01/02/26 10:00:00\n  [FAILED] Expected\n      <int>: 0\n  to equal\n      <int>: 1\n  In [It] at: a_test.go:3",
		"--- FAIL: TestFault (0.1s)\n    a_test.go:12: got error %q, want nil",
		"E       AssertionError: assert 'ok' in '%s'\nFAILED tests/test_a.py::test_a - AssertionError",
		"    ● press › shows it\n    expect(received).toBe(expected)\n    Expected: \"ok\"\n    Received: \"%s\"",
		"        Error Trace:\ta_test.go:9\n        Error:      \tNot equal: \n                    \texpected: \"ok\"\n                    \tactual  : \"%s\"",
	}
	all := slices.Concat(examples(t), phrases(t))
	every := 1
	if slower > 1 || testing.Short() { // each is tried in twelve ways
		every = 60
	}
	for k := 0; k < len(all); k += every {
		x := all[k]
		if !x.Class.infrastructure() || setupMark.in(x.Text, lowerASCII(x.Text)) || specMarks.in(x.Text, lowerASCII(x.Text)) {
			continue
		}
		for _, form := range forms {
			text := fmt.Sprintf(form, strings.ReplaceAll(x.Text, "\n", " "))
			for _, p := range []Phase{Suite, ""} {
				if d := Explain(text, p, Facts{}); d.Class != Unknown && d.Verdict(Suite) == Infrastructure {
					t.Errorf("phase %q: taken for %s by %q:\n%s", p, d.Class, d.Signature, text)
				}
			}
		}
	}
}
