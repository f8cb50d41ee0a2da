package report

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// Headline is the verdict in one line.
func Headline(r run.Result) string {
	switch {
	case r.Verdict == failure.Passed && len(r.Heals) > 0:
		return fmt.Sprintf("%s: passed after healing (%s)", r.Name, english.Plural(len(r.Heals), "recovery action", ""))
	case r.Verdict == failure.Passed:
		return r.Name + ": passed"
	case r.Signature == "interrupted":
		return r.Name + ": interrupted, nothing is known against the code"
	case r.Signature == "out-of-time":
		return r.Name + ": out of time, nothing is known against the code"
	case r.Verdict == failure.Infrastructure:
		return r.Name + ": infrastructure, not code"
	case r.Verdict == failure.Misconfigured:
		return r.Name + ": configuration, neither code nor infrastructure"
	default:
		return r.Name + ": code, not infrastructure"
	}
}

// Markdown is report.md. decisive are the lines of output that led to the
// diagnosis; folder is where the run's files are.
func Markdown(r run.Result, events []run.Event, decisive []string, folder string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# %s", Headline(r))
	p("")
	if r.Verdict != failure.Passed {
		p("## Root cause")
		p("")
		p("%s", r.Cause)
		p("")
		p("Step `%s`, class `%s`, signature `%s`, confidence %s.", r.Step, r.Class, orNone(r.Signature), orNone(r.Confidence))
		if len(decisive) > 0 {
			p("")
			p("```text")
			for _, l := range decisive {
				p("%s", l)
			}
			p("```")
		}
		p("")
	}
	p("## Timeline")
	p("")
	p("| time | step | event | took | what |")
	p("|---|---|---|---|---|")
	for _, e := range events {
		p("| %s | %s | %s %s | %s | %s |", e.Time.UTC().Format("15:04:05"), e.Step, tick(e), e.Kind, tookMS(e.DurationMS), cell(eventText(e)))
	}
	p("")
	if len(r.Heals) > 0 {
		p("## Recovery actions")
		p("")
		p("| step | action | effect | worked |")
		p("|---|---|---|---|")
		for _, h := range r.Heals {
			p("| %s | %s | %s | %v |", h.Step, cell(h.Action), cell(h.Effect), h.OK)
		}
		p("")
	}
	if len(r.Works) > 0 {
		p("## Known to work")
		p("")
		for _, w := range r.Works {
			p("- %s: %s", w.What, cell(w.Evidence))
		}
		p("")
	}
	if r.Verdict != failure.Passed {
		p("## Next steps")
		p("")
		for i, s := range nextSteps(r) {
			p("%d. %s", i+1, s)
		}
		p("")
	}
	p("Engine: %s. Node image: %s. Files of this run: `%s`.", orNone(r.Provider), orNone(r.NodeImage), folder)
	return b.String()
}

func nextSteps(r run.Result) []string {
	var steps []string
	if r.Remedy != "" {
		steps = append(steps, r.Remedy)
	}
	switch r.Verdict {
	case failure.Infrastructure:
		steps = append(steps, "Look at the host: `mage doctor`.", "Run the same command again: what is proven done is not repeated.")
	case failure.Code:
		steps = append(steps, "Read `junit.xml` and the output above; the cluster is kept unless `KEEP_CLUSTER=false`.",
			"When done with it: `mage teardown`.")
	}
	return steps
}

func eventText(e run.Event) string {
	switch {
	case e.Node != "" && e.Error != "":
		first, _, _ := strings.Cut(e.Error, "\n")
		return fmt.Sprintf("%s: %s, %d bytes: %s", e.Node, e.Strategy, e.Bytes, first)
	case e.Node != "":
		return fmt.Sprintf("%s: %s, %d bytes, %s", e.Node, e.Strategy, e.Bytes, e.Detail)
	case e.Error != "":
		first, _, _ := strings.Cut(e.Error, "\n")
		return e.Class + ": " + first
	default:
		return e.Detail
	}
}

func tick(e run.Event) string {
	switch e.Kind {
	case run.Done, run.Skip:
		return "✓"
	case run.Failed:
		return "✗"
	default:
		return "·"
	}
}

func tookMS(ms int64) string {
	if ms == 0 {
		return ""
	}
	return Took(time.Duration(ms) * time.Millisecond)
}

// cell makes text fit a table cell.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(shorten(s), "|", "\\|"), "\n", " ")
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + " …"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
