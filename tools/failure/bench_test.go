package failure

import (
	"strings"
	"testing"
)

func BenchmarkExplainOneMegabyte(b *testing.B) {
	log := strings.Repeat("step 4711: compiling package example.com/orchard/internal/press done in 12ms\n", 14000) + "x: no space left on device\n"
	for b.Loop() {
		Explain(log, Load, Facts{})
	}
}
