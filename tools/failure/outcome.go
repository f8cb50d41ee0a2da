package failure

import (
	"regexp"
	"slices"
	"strings"
)

// troubleWords are further words without which a text reports no trouble.
var troubleWords = []string{"not ready", "notready", "not running", "no such", "unknown", "already", "missing", "unexpected",
	"could not", "couldn't", "can't", "backoff", "back-off", "crash", "didn't", "does not", "doesn't", "did not", "unreachable",
	"lost", "closed", "reset", "evicted", "oom", "forbidden", "unavailable", "aborted", "stuck", "broken", "corrupt",
	"terminat", "never ", "0/", "undefined", "not up", "wrong", "warning  ", "pending", "unbound", "exiting due",
	"not permitted", "not allowed", "not supported", "unhealthy", "no rule", "stopped", "syntax error", "no go files", "not set", "file exists", "not defined", "incompatible", "unsupported", "not available", "newer than", "unbound variable", "not yet ", "bad address", "existing instance"}

var (
	nothingBad = regexp.MustCompile(`(?i)\b(?:no|0|zero|without(?: any)?) (?:errors?|failures?|failed|issues|warnings?)\b(?: (?:found|detected))?|\b(?:errors?|failures?|failed|warnings?)[:=] ?0\b`)
	bare       = mustCompile(`(?i)`, `^(?:error: )?(?:the operation was cancell?ed|session terminated|process completed with exit code \d+|exit(?:ed)?(?: with)? (?:status|code):? \d+|command failed|task failed|job failed)[.!]?$|^make(?:\[\d+\])?: \*\*\* .*Error \d+$`)
	// A compiler, a linter or a stack points at a place; a server answers that it failed.
	located = mustCompile(`(?m)`, `^\S+\.\w+:\d+(?::\d+:|: )|^\s*File "[^"]+", line \d+|\b(?:GET|POST|PUT|PATCH|DELETE) \S+ 5\d\d\b`)
	goodEnd = mustCompile(`(?i)`, `successfully|have a nice day|(?:build|deploy\w*|install\w*|upgrade|release|import|push|pull) (?:succeeded|completed?)\.?$|BUILD SUCCESS|STATUS: deployed|condition met$|naming to \S+ done|^#\d+ DONE|(?:^|\s)DONE \d+\.\d+s$|^PASS$|^ok\s+\S+/\S+|Writing manifest to image destination|Storing signatures|Loaded image|all checks passed|exit(?:ed with)? (?:code|status):? 0$|SUCCESS!`)
	negated = mustCompile(`(?i)`, `\bnot\b|n't\b|\bun\w+|without`)
	neutral = mustCompile(`(?i)`, `^\S+/\S+ (?:configured|created|unchanged|serverside-applied|labeled|annotated|patched)$|^\W*$|^sha256:\w+$|^[0-9a-f]{12,64}$|^\W*(?:bye|thanks|cleaning up)\b`)
)

// failedTests are a test framework's marks of a failure.
var failedTests = mustCompile(`(?m)`, `--- FAIL|^FAIL\b|\[FAIL|\[PANICKED|[1-9]\d* [Ff]ailed(?:,| \||\.| in |$)`)

// troubled says whether e reports a fault at all.
func troubled(e *excerpt) bool {
	return e.place != tooling || located.in(e.plain, e.lower) || hasFault(e.full, slices.Concat(faultWords, troubleWords)) ||
		slices.ContainsFunc(e.full, compares)
}

// hasFault says whether a line has one of the words.
func hasFault(lines, words []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return hasAny(lowerASCII(l), words) })
}

// saysNothing says whether a line reports no more than that something ended
// with an error. Exit code 137 is news: something was killed.
func saysNothing(l string) bool {
	l = strings.TrimSpace(lowerASCII(l))
	return bare.in(l, l) && !strings.Contains(l, "137")
}

// endedWell says whether the last thing that a text reports is success: then
// what went wrong before was overcome.
func endedWell(lines []string) bool {
	for i := len(lines) - 1; i >= 0; i-- {
		l := strings.TrimSpace(lines[i])
		lower := lowerASCII(l)
		if neutral.in(l, lower) {
			continue
		}
		return goodEnd.in(l, lower) && !negated.in(l, lower) && !hasAny(lower, faultWords)
	}
	return false
}
