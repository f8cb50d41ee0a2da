package report

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

var update = flag.Bool("update", false, "write the golden files anew")

// results are the ends a run can have, by the name of their golden file.
func results() map[string]run.Result {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	base := run.Result{Name: "aianalysis", Verdict: failure.Passed, Started: begin, DurationMS: 61500, Provider: "podman 5.6.2",
		NodeImage: "kindest/node:v1.34.0", Works: []run.Work{{What: "the engine answers", Evidence: "podman 5.6.2 | linux/amd64"}}}
	healed := base
	healed.Heals = []run.Heal{{Step: "load", Action: "restart the Podman machine", Effect: "it answers after 4s", OK: true}}
	infra := healed
	infra.Verdict, infra.Step, infra.Class, infra.Signature = failure.Infrastructure, "load", failure.EngineConnection, "podman-eof"
	infra.Cause, infra.Remedy, infra.Confidence = "the connection to Podman was cut\nwhile 2.1 GB moved", "podman machine stop && podman machine start", "high"
	code := base
	code.Verdict, code.Step, code.Class, code.Signature = failure.Code, "suite", failure.TestFailure, "ginkgo-failed"
	code.Cause, code.Remedy, code.Confidence = "1 of 17 specs failed", "correct what the spec names", "high"
	wrong := base
	wrong.Verdict, wrong.Step, wrong.Class = failure.Misconfigured, "engine", failure.Configuration
	wrong.Cause, wrong.Remedy = `KIND_EXPERIMENTAL_PROVIDER="lima" is not valid`, "use one of: podman, docker"
	stopped := base
	stopped.Verdict, stopped.Step, stopped.Class, stopped.Signature = failure.Infrastructure, "cluster", failure.Unknown, "interrupted"
	stopped.Cause, stopped.Remedy = "interrupted by SIGINT", "run it again"
	return map[string]run.Result{"passed": base, "healed": healed, "infrastructure": infra, "code": code, "configuration": wrong, "interrupted": stopped}
}

func events() []run.Event {
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, s, 0, time.UTC) }
	return []run.Event{
		{Time: at(5), Step: "load", Kind: run.Start, Attempt: 1},
		{Time: at(6), Step: "load", Kind: run.Failed, Attempt: 1, DurationMS: 1000, Class: "engine-connection", Error: "EOF | cut\nmore"},
		{Time: at(7), Step: "load", Kind: run.Healed, Detail: "restart the Podman machine"},
		{Time: at(8), Step: "load", Kind: run.Done, Node: "node-1", Strategy: "stream", Bytes: 2100, Detail: "verified"},
		{Time: at(9), Step: "load", Kind: run.Skip, DurationMS: 65000, Detail: "nothing to do"},
	}
}

func TestMarkdown(t *testing.T) {
	for name, r := range results() {
		t.Run(name, func(t *testing.T) {
			got := Markdown(r, events(), []string{"Error: Get \"http://d/exec\": EOF"}, ".e2e/aianalysis/1")
			golden := filepath.Join("testdata", name+".md")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s (go test ./tools/report -update writes it anew):\n%s", golden, got)
			}
		})
	}
}

// A table row with a line break or a bar of its own is no row any more.
func TestMarkdownTablesHoldTogether(t *testing.T) {
	for _, line := range strings.Split(Markdown(results()["infrastructure"], events(), nil, "f"), "\n") {
		if strings.HasPrefix(line, "|") {
			if cells := strings.Count(line, "|") - strings.Count(line, `\|`) - 1; cells != 5 && cells != 4 {
				t.Errorf("%d cells: %s", cells, line)
			}
		}
	}
	if got := cell(strings.Repeat("ä", 400)); len([]rune(got)) > 302 {
		t.Errorf("a cell of %d characters", len([]rune(got)))
	}
}

func TestSummaryIsShort(t *testing.T) {
	for name, r := range results() {
		for range 8 {
			r.Heals = append(r.Heals, run.Heal{Action: "restart", Effect: "it\nanswers"})
		}
		r.Cause += strings.Repeat("\nand more of it", 200)
		got := Summary(r, ".e2e/aianalysis/1")
		lines := strings.Split(strings.Trim(got, "\n"), "\n")
		if len(lines) > 10 {
			t.Errorf("%s: %d lines", name, len(lines))
		}
		for _, l := range lines {
			if len([]rune(l)) > 340 {
				t.Errorf("%s: a line of %d characters", name, len([]rune(l)))
			}
		}
		if lines[0] != Headline(r) || !strings.Contains(lines[len(lines)-1], ".e2e/aianalysis/1/report.md") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestHeadlineSaysWhoseFaultItIs(t *testing.T) {
	for name, want := range map[string]string{
		"passed": "passed", "healed": "passed after healing (1 recovery action)", "infrastructure": "infrastructure, not code",
		"code": "code, not infrastructure", "configuration": "configuration, neither", "interrupted": "nothing is known against the code",
	} {
		if got := Headline(results()[name]); !strings.HasPrefix(got, "aianalysis: ") || !strings.Contains(got, want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	late := results()["interrupted"]
	late.Signature = "out-of-time"
	if got := Headline(late); !strings.Contains(got, "out of time, nothing is known against the code") {
		t.Error(got)
	}
}

// GitHub reads one command a line; what is not escaped would be cut or taken
// for a property.
func TestAnnotation(t *testing.T) {
	all := results()
	if got := Annotation(all["passed"]); got != "" {
		t.Errorf("a clean pass is annotated: %s", got)
	}
	if got := Annotation(all["healed"]); !strings.HasPrefix(got, "::warning title=aianalysis%3A passed after healing") {
		t.Error(got)
	}
	r := all["infrastructure"]
	r.Cause = "100% full\r\nof it"
	got := Annotation(r)
	want := "::error title=aianalysis%3A infrastructure%2C not code::100%25 full%0D%0Aof it%0Apodman machine stop && podman machine start"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendSummary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "summary.md")
	for _, text := range []string{"# one", "# two"} {
		if err := AppendSummary(path, text); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != "# one\n# two\n" {
		t.Errorf("got %q", got)
	}
	if err := AppendSummary(filepath.Join(path, "below", "a-file"), ""); err == nil {
		t.Error("a summary that cannot be written is no error")
	}
}

func TestTook(t *testing.T) {
	for want, d := range map[string]time.Duration{"0.3s": 300 * time.Millisecond, "12.0s": 12 * time.Second, "3m05s": 185 * time.Second, "61m01s": 3661 * time.Second} {
		if got := Took(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}
