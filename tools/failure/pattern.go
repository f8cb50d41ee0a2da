package failure

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// pattern is a regexp that is run only on lines that hold one of the literals
// of which any match must have one. Logs are large and patterns many; nearly
// every line is turned away by plain string search.
type pattern struct {
	re   *regexp.Regexp
	need []string // lower-case; none if nothing is certain
	wide bool     // may match across lines
}

// compile reads an expression in which letter case does not matter and ^ and $
// are line ends.
func compile(expr string) (pattern, error) { return compileFlags("(?im)", expr) }

func compileFlags(flags, expr string) (pattern, error) {
	re, err := regexp.Compile(flags + expr)
	if err != nil {
		return pattern{}, err
	}
	tree, err := syntax.Parse(flags+expr, syntax.Perl)
	if err != nil {
		return pattern{}, err
	}
	return pattern{re: re, need: literals(tree), wide: crossesLines(expr)}, nil
}

// mustCompile is for expressions of this package's code; letter case matters
// unless flags hold (?i).
func mustCompile(flags, expr string) pattern {
	p, err := compileFlags(flags, expr)
	if err != nil {
		panic(err)
	}
	return p
}

// crossesLines says whether expr names a line break other than to exclude it.
func crossesLines(expr string) bool {
	expr = strings.ReplaceAll(expr, `[^\n]`, "")
	return strings.Contains(expr, `\n`) || strings.Contains(expr, `(?s`) || strings.Contains(expr, `[\s\S]`)
}

// literals returns strings, lower-case, of which every match of t holds at
// least one; none if nothing is certain.
func literals(t *syntax.Regexp) []string {
	switch t.Op {
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(t.Rune))}
	case syntax.OpCapture, syntax.OpPlus:
		return literals(t.Sub[0])
	case syntax.OpRepeat:
		if t.Min > 0 {
			return literals(t.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, s := range t.Sub {
			if l := literals(s); shortest(l) > shortest(best) {
				best = l
			}
		}
		return best
	case syntax.OpAlternate:
		var union []string
		for _, s := range t.Sub {
			l := literals(s)
			if l == nil {
				return nil
			}
			union = append(union, l...)
		}
		return union
	}
	return nil
}

func shortest(l []string) int {
	if len(l) == 0 {
		return 0
	}
	n := len(l[0])
	for _, s := range l {
		n = min(n, len(s))
	}
	return n
}

// find returns the submatch indices of a match in text, or nil. Lower is text
// in lower case, byte for byte.
func (p pattern) find(text, lower string) []int {
	if len(p.need) == 0 {
		return p.re.FindStringSubmatchIndex(text)
	}
	if p.wide {
		if !hasAny(lower, p.need) {
			return nil
		}
		return p.re.FindStringSubmatchIndex(text)
	}
	var best []int
	for _, word := range p.need {
		if at := p.findNear(word, text, lower); at != nil && (best == nil || at[0] < best[0]) {
			best = at
		}
	}
	return best
}

// findNear looks in the lines that hold word.
func (p pattern) findNear(word, text, lower string) []int {
	for from := 0; from < len(lower); {
		i := strings.Index(lower[from:], word)
		if i < 0 {
			return nil
		}
		start, end := from, len(text)
		if nl := strings.LastIndexByte(lower[:from+i], '\n'); nl >= from {
			start = nl + 1
		}
		if nl := strings.IndexByte(lower[from+i:], '\n'); nl >= 0 {
			end = from + i + nl
		}
		if at := p.re.FindStringSubmatchIndex(text[start:end]); at != nil {
			for k := range at {
				if at[k] >= 0 {
					at[k] += start
				}
			}
			return at
		}
		from = end + 1
	}
	return nil
}

func (p pattern) in(text, lower string) bool { return p.find(text, lower) != nil }

// lowerASCII is strings.ToLower for ASCII letters only, so that offsets stay.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func hasAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
