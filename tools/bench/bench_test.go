package bench

import (
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct{ in, want []time.Duration }{
		{nil, []time.Duration{0}},
		{[]time.Duration{5}, []time.Duration{5}},
		{[]time.Duration{9, 1, 5}, []time.Duration{5}},
		{[]time.Duration{4, 1, 2, 100}, []time.Duration{3}},
	} {
		if got := Median(tc.in); got != tc.want[0] {
			t.Errorf("Median(%v) = %v, want %v", tc.in, got, tc.want[0])
		}
	}
}

func TestMarkdownSaysWhatMissedItsGoal(t *testing.T) {
	rows := []Row{
		{Case: Unchanged, Goal: 0.02, Ordinary: []time.Duration{40 * time.Second}, Ours: []time.Duration{400 * time.Millisecond}},
		{Case: ColdOne, Goal: 0.45, Ordinary: []time.Duration{40 * time.Second}, Ours: []time.Duration{20 * time.Second}, Bytes: 2e9, Strategies: []string{"thin"}},
	}
	text := Markdown(Machine{Host: "a host"}, rows, time.Unix(0, 0))
	for _, want := range []string{"| unchanged | 1 | 40.00 s | 0.40 s | 0.010 | 0.02 | yes |", "| 0.500 | 0.45 | no | 2.0 GB |", "Not measured in this run: " + SmallChange} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestCheckCases(t *testing.T) {
	if err := CheckCases([]string{ColdOne, TenImages}); err != nil {
		t.Error(err)
	}
	if err := CheckCases([]string{ColdOne, "cold"}); err == nil || !strings.Contains(err.Error(), `"cold"`) {
		t.Error(err)
	}
}
