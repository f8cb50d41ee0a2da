package report

import (
	"fmt"
	"os"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// Summary is the end of a run on a terminal: at most ten lines and the path.
func Summary(r run.Result, folder string) string {
	lines := []string{"", Headline(r)}
	if r.Verdict != failure.Passed {
		lines = append(lines, fmt.Sprintf("  step    %s (%s)", r.Step, r.Class))
		lines = append(lines, "  cause   "+oneLine(r.Cause))
		lines = append(lines, "  remedy  "+oneLine(r.Remedy))
	}
	for i, h := range r.Heals {
		if i == 3 {
			lines = append(lines, "  and "+english.Plural(len(r.Heals)-i, "more recovery action", ""))
			break
		}
		word := "healed"
		if !h.OK {
			word = "tried "
		}
		lines = append(lines, "  "+word+"  "+oneLine(h.Action+": "+h.Effect))
	}
	lines = append(lines, fmt.Sprintf("  took    %s, report: %s/report.md", tookMS(r.DurationMS), folder))
	return strings.Join(lines, "\n")
}

// Annotation is GitHub's workflow command for the end of a run: an error for a
// failure, a warning for a pass that needed healing, empty for a clean pass.
func Annotation(r run.Result) string {
	switch {
	case r.Verdict != failure.Passed:
		return fmt.Sprintf("::error title=%s::%s", escapeProperty(Headline(r)), escapeData(r.Cause+"\n"+r.Remedy))
	case len(r.Heals) > 0:
		return fmt.Sprintf("::warning title=%s::%s", escapeProperty(Headline(r)), escapeData(r.Heals[0].Action+": "+r.Heals[0].Effect))
	}
	return ""
}

// AppendSummary adds the report to GitHub's step summary file.
func AppendSummary(path, markdown string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("step summary: %w", err)
	}
	_, err = f.WriteString(markdown + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// escapeData and escapeProperty follow actions/toolkit, packages/core/src/command.ts.
func escapeData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func escapeProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}

// oneLine joins the lines of s and cuts what is over 300 characters.
func oneLine(s string) string { return shorten(strings.Join(strings.Fields(s), " ")) }
