package failure

import (
	"regexp"
	"strings"
)

// place is where in a run a text was printed.
type place int

const (
	tooling place = iota // a set-up tool's own output
	setup                // a suite's set-up or clean-up node
	spec                 // a spec or a test function
)

var (
	specMarks = mustCompile(`(?m)`, `\[It\]|\[FAIL(?:ED)?\]|\[PANICKED!?\]|\[TIMEDOUT\]|^\s*--- FAIL: |^=== (?:RUN|CONT|NAME)|^FAIL\t|^\s*Expected$|to have occurred$|Expected success, but got an error|<\*?[\w.]+ \| (?:0x|len:)|^\s*occurred$|^E   +\S|AssertionError|^FAIL: \S+_test\.go|_test\.go:\d+: |c\.Assert\(|^\s*Error Trace:|\d: FAIL: |Test Suite Failed|^FAIL! -- |^ginkgo run failed|Found no test suites|^test failed\b|Your Test Panicked|^Ginkgo (?:detected|CLI)|Timed out after [\d.]+s|^\s*● .* › |\d+ (?:passed|failed) in [\d.]+s|Tests run: \d+|\[Test worker\]|^not ok \d|in test file \S+|Failure/Error:|^\s*\d+ fail(?:ed|ing)$|^test \S+ \.\.\. FAILED|^test result: FAILED|thresholds on metrics|^=+ (?:FAILURES|ERRORS|short test summary)|^(?:FAILED|ERROR) \S+::\w+`)
	setupMark = mustCompile(`(?m)`, `\[?(?:Synchronized)?(?:Before|After)Suite\]?|(?:Before|After)Suite node failed|TestMain|errors? at setup of|conftest\.py`)
	itMarks   = mustCompile(`(?m)`, `In \[(?:It|BeforeEach|JustBeforeEach|AfterEach|DeferCleanup \(Each\))\]|\[It\] \S|^\s*--- FAIL: `)
	deploying = mustCompile(`(?i)`, `\bpods? (?:should|must|has to|have to|ought to|not)\b[^\n]{0,20}\bready\b|waiting for [\w -]{1,40} (?:pods?|deployments?)\b|waiting for \w+ to be ready|^\s*(?:deployment|statefulset)\.apps/\S+ created|error: timed out waiting for the condition on pods/`)
)

// placeOf tells a test framework's output from a tool's. A suite's set-up
// fails for the tools' reasons, a spec for those of the code under test.
func placeOf(lines []string, text, lower string, p Phase) place {
	switch framed := specMarks.in(text, lower); {
	case setupMark.in(text, lower) && !itMarks.in(text, lower):
		return setup
	case framed && itMarks.in(text, lower):
		return spec
	case framed && p == "" && deploys(lines):
		return setup
	case framed && p != Suite && p != Build && p != "":
		return setup
	case framed, p == Suite && hasFault(lines, faultWords):
		return spec
	}
	return tooling
}

// compares says whether l puts what was expected beside what came.
func compares(l string) bool { return asserted.in(l, lowerASCII(l)) }

// deploys says whether lines are those of somebody who waits for pods.
func deploys(lines []string) bool {
	text := strings.Join(withoutValues(lines), "\n")
	return deploying.in(text, lowerASCII(text))
}

var (
	expected  = regexp.MustCompile(`(?:^|\]|:)\s*Expected$`)
	errorType = regexp.MustCompile(`^\s*<[^>]*[eE]rr(?:or)?\b|^\s*<[^>]*[eE]rror`)
	relation  = regexp.MustCompile(`^\s*(?:not )?to [a-z]`)
	asserted  = mustCompile(`(?i)`, `\bexpected\b.*\b(?:got|but|received|actual)\b|\bgot\b.*\bwant(?:ed)?\b|\bwant(?:ed)?\b.*\bgot\b|^\s*(?:expected|actual|received)\s*:|AssertionError|^\s*assert\b|^E\s+assert |^#\s+\x60.*' failed|\[\[? .*(?:==|=~|!=) .*\]\]?|^E\s+(?:body|where|and|\+|-|\?)\b|^\s*[+-]\s+(?:string|\(string\)|"|')|expect\(.*\)\.to|_test\.go:\d+: .*\b(?:want|wants|wanted|expected|should|must|ought)\b|^\s*\[FAILED\] .*\b(?:should|must|ought|has to|was not|were not|did not|does not|never|expected)\b|\bexpected\b.*\bto (?:be|equal|contain|match|have)\b|(?:does not|should(?: not)?|to|not to) (?:contain|match|equal|have occurred|have substring|be (?:equal|empty|nil|true|false))\b`)
	narration = regexp.MustCompile(`^\s*(?:STEP|By|Scenario|Given|When|Then|And): `)
	quoted    = regexp.MustCompile(`"[^"]*"`)
	titles    = regexp.MustCompile(`^(?:.*\s)?\[It\] .*|^\s*(?:=== (?:RUN|CONT|NAME|PAUSE)|--- (?:FAIL|PASS|SKIP):).*`)
)

// withoutValues blanks what a failed assertion compared and what people wrote
// as a test's title: those words are data of the test, not news of a fault.
// Values of an error type stay: an error that was not expected is news.
func withoutValues(lines []string) []string {
	out := make([]string, len(lines))
	copy(out, lines)
	for i := 0; i < len(out); i++ {
		l := out[i]
		switch {
		case expected.MatchString(l):
			if i+1 < len(out) && errorType.MatchString(out[i+1]) {
				continue
			}
			for j := i + 1; j < len(out) && j < i+60; j++ {
				if relation.MatchString(out[j]) {
					for k := i + 1; k < j; k++ {
						out[k] = ""
					}
					out[j] = ""
					i = j
					break
				}
			}
		case compares(l), narration.MatchString(l):
			out[i] = ""
		case strings.Contains(l, "_test.go:"):
			out[i] = quoted.ReplaceAllStringFunc(l, func(q string) string {
				if strings.Contains(q, "://") { // an address, as errors quote it
					return q
				}
				return `""`
			})
		case strings.Contains(l, "[It]") && !strings.Contains(l, "In [It]"), strings.HasPrefix(strings.TrimSpace(l), "---"), strings.HasPrefix(l, "=== "):
			out[i] = titles.ReplaceAllString(l, "")
		}
	}
	return out
}
