package failure

import (
	"regexp"
	"strings"
)

// Bounds of the text that is looked at. What ends a run stands at its end, what
// began it near its start; of the middle only lines that speak of a fault count.
const (
	headBytes   = 16 << 10
	middleBytes = 24 << 10
	tailBytes   = 40 << 10
)

// excerpt is a text prepared for matching.
type excerpt struct {
	full  []string // every line
	lines []string // full without asserted values
	plain string   // without escape codes, prefixes and asserted values
	lower string   // plain, lower-cased: for the cheap look before a regexp
	place place
	phase Phase // given or guessed
	given Phase // empty if it is not known
	tests bool  // a test framework printed some of it
	calls []call
}

var (
	escapes  = regexp.MustCompile(`\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][A-Z0-9]|[=>])`)
	prefixes = regexp.MustCompile(`^(?:\x{FEFF}|##\[[a-z]+\]|::(?:error|warning|notice|debug)[^:]*::|\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]? ?|\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]? |\d\d:\d\d |[A-Z]\d{4} \d\d:\d\d:\d\d\.\d+\] |std(?:out|err) [FP] |(?:Step #\d+ - "[^"]*": ?)+|[^\t]{1,60}\t(?:[^\t]{1,60}\t)?\d{4}-\d\d-\d\dT[\d:.]+Z |> |#\d+ \d+\.\d+ |[\w.-]{1,40}\s+\| )+`)
	harmless = mustCompile(`(?i)`, `\[WARNING [A-Z]|\[preflight\] WARNING: |level=warning.*(?:CNI config|cgroup|deprecat|"version" is obsolete)|WARN\[\d+\].*(?:deprecat|obsolete|cgroup-manager|lingering|no logind session)|DEPRECATED: |deprecation|cgroup v1 support is in maintenance|platform \(.*\) does not match|pip's dependency resolver|running pip as the 'root' user|npm (?:warn|notice)|debconf: |^\W*(?:if|in case|when) (?:you|the|your|this|it)\b|^see (?:the|also|https?:)`)

	// Words of which a line of a fault has at least one; lower case.
	faultWords = []string{"error", "fail", "fatal", "panic", "killed", "denied", "refused", "exceeded", "timeout",
		"timed out", "no space", "quota", "unable", "cannot", "eof", "not found", "too many", "exit code", "exit status",
		"conflict", "invalid", "unauthorized", "in use", "mismatch", "insufficient"}
)

// normalise bounds text and takes away what terminals and CI systems add, and
// lines that only repeat the one before.
func normalise(text string) []string {
	if len(text) > headBytes+middleBytes+tailBytes {
		text = condense(text)
	}
	if strings.IndexByte(text, 0x1b) >= 0 {
		text = escapes.ReplaceAllString(text, "")
	}
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", `\"`, `"`, "\u2019", "'", "\x00", "").Replace(text)
	lines, last := withoutMargin(strings.Split(text, "\n")), ""
	for i, l := range lines {
		if at := prefixes.FindStringIndex(l); at != nil {
			l = l[at[1]:]
		}
		l = nothingBad.ReplaceAllString(l, "")
		if saysNothing(l) {
			l = ""
		}
		if harmless.in(l, lowerASCII(l)) && !strings.Contains(l, "rror:") {
			l = ""
		}
		if i > 0 && l == last {
			l = ""
		} else {
			last = l
		}
		lines[i] = l
	}
	return lines
}

// withoutMargin takes away what every line of three or more begins with: what
// a runner puts before it, and indentation.
func withoutMargin(lines []string) []string {
	margin, n := "", 0
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		if n++; n == 1 {
			margin = l
		}
		for !strings.HasPrefix(l, margin) {
			margin = margin[:len(margin)-1]
		}
	}
	margin = margin[:strings.LastIndexAny(margin, " \t|>:]")+1]
	if blank := strings.TrimSpace(margin) == ""; margin == "" || n < 3 && !blank || !blank && hasAny(strings.ToLower(margin), faultWords) {
		return lines
	}
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, margin)
	}
	return lines
}

// condense keeps the head, the tail, and of the middle what speaks of a fault.
func condense(text string) string {
	var b strings.Builder
	head := cutLine(text, headBytes)
	tail := max(len(head), len(text)-tailBytes)
	b.WriteString(head)
	b.WriteByte('\n')
	room, last := middleBytes, ""
	for line := range strings.SplitSeq(text[len(head):tail], "\n") {
		if len(line) > 2000 {
			line = line[:2000]
		}
		if len(line) > room {
			break
		}
		if line != last && hasAny(strings.ToLower(line), faultWords) {
			b.WriteString(line)
			b.WriteByte('\n')
			room -= len(line)
		}
		last = line
	}
	b.WriteString(text[tail:])
	return b.String()
}

func cutLine(s string, n int) string {
	if at := strings.LastIndexByte(s[:n], '\n'); at >= 0 {
		return s[:at]
	}
	return s[:n]
}

// guesses tell a phase from the words that only its tools use, best first.
var guesses = []struct {
	phase Phase
	re    pattern
}{
	{Load, mustCompile(`(?im)`, `images import|failed to load image|kind load |not yet present on node|image-archive`)},
	{Teardown, mustCompile(`(?im)`, `delete cluster|AfterSuite|failed to delete`)},
	{Export, mustCompile(`(?im)`, `\b(?:podman|docker) save\b|writing blob: write .*\.tar`)},
	{Suite, mustCompile(`(?m)`, `\[It\]|--- FAIL:|^Ran \d+ of \d+ Specs`)},
	{ClusterCreate, mustCompile(`(?im)`, `k3s|(?:start|creat)(?:e|ing)? (?:a )?(?:kubernetes )?cluster|starting kubernetes|cluster create|kubeadm|(?:starting|wait-|join \S* )control-plane|minikube|k3d|Exiting due to|Preparing nodes|GUEST_|apiserver process`)},
	{Build, mustCompile(`(?im)`, `^STEP \d|No rule to make target|\blint\b|lint(?:ed|er)|^\S+\.\w+:\d+:\d+:|\d+ tests, \d+ passed|building at STEP|Dockerfile|^#\d+ |build error|failed to solve|buildkit|\.go:\d+:\d+: |go: |process "/bin/sh -c`)},
	{Preflight, mustCompile(`(?im)`, `podman machine|podman info|docker info|Cannot connect to`)},
	{Deploy, mustCompile(`(?im)`, `kubelet|pod sandbox|set up pod|dependency failed to start|Failed to pull|Back-off|default-scheduler|rollout|waiting for the condition on|CustomResourceDefinition|kustomiz| is invalid: |deployment|helm|kubectl|podman run|docker run|compose|INSTALLATION FAILED|UPGRADE FAILED|CrashLoop|ImagePull|webhook|namespace|default-scheduler|FailedScheduling|0/\d+ nodes|PersistentVolume|manifest|manager|post-install|Usage of |probe failed|\b0/\d+ |error from server|error when creating`)},
	{Suite, specMarks},
}

func guessPhase(text, lower string) Phase {
	for _, g := range guesses {
		if g.re.in(text, lower) {
			return g.phase
		}
	}
	return ""
}

func prepare(text string, p Phase) *excerpt {
	e := &excerpt{full: normalise(text), phase: p, given: p}
	e.lines = e.full
	full := strings.Join(e.lines, "\n")
	e.lower = lowerASCII(full)
	e.place = placeOf(e.full, full, e.lower, p)
	e.tests = specMarks.in(full, e.lower) || e.place == setup
	switch {
	case p == "" && e.place == spec:
		e.phase = Suite
	case p == "":
		e.phase = guessPhase(full, e.lower)
		if e.phase == Suite && e.place == setup {
			e.phase = Deploy
		}
	}
	if e.place == spec {
		e.lines = withoutValues(e.lines)
	}
	e.plain = strings.Join(e.lines, "\n")
	e.lower = lowerASCII(e.plain)
	e.calls = callsOf(e.lines)
	return e
}
