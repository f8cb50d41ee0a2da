package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/engine/buildcontext"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// How much of a failed build's output its cause is read from, and how much its
// error shows.
const (
	keptLines  = 400
	shownLines = 20
)

// buildMessage is one message of a build's, load's or push's stream.
type buildMessage struct {
	Stream      string `json:"stream"`
	Status      string `json:"status"`
	ID          string `json:"id"`
	Error       string `json:"error"`
	ErrorDetail struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
	ManifestDigest string `json:"manifestdigest"` // the last of Podman's push
}

// colour is what Docker's builder wraps a step's standard error in.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// readMessages passes on the lines of a message stream. The error is what the
// stream reports, an [*APIError], or that it ended within a message; lines are
// the last ones.
func readMessages(r io.Reader, show func(line string)) (lines []string, err error) {
	dec := json.NewDecoder(r)
	var partial strings.Builder
	emit := func(text string) {
		partial.WriteString(text)
		for {
			line, rest, found := strings.Cut(partial.String(), "\n")
			if !found {
				return
			}
			partial.Reset()
			partial.WriteString(rest)
			if line = strings.TrimRight(colour.ReplaceAllString(line, ""), "\r "); line != "" {
				show(line)
				lines = append(lines, line)
				lines = lines[max(0, len(lines)-keptLines):]
			}
		}
	}
	for {
		var m buildMessage
		if err := dec.Decode(&m); err != nil {
			emit("\n")
			if errors.Is(err, io.EOF) {
				return lines, nil
			}
			return lines, fmt.Errorf("message stream: %w", err)
		}
		if m.Stream != "" {
			emit(m.Stream)
		}
		if m.Status != "" {
			emit(strings.TrimSpace(m.ID+" "+m.Status) + "\n")
		}
		if text := cmp.Or(m.Error, m.ErrorDetail.Message); text != "" {
			emit("\n")
			return lines, &APIError{Message: strings.TrimSpace(text)}
		}
	}
}

// contextStream opens the request's context as a stream. The returned stop ends
// the stream; it must be called.
func contextStream(ctx context.Context, r BuildRequest) (c *buildcontext.Context, stream io.Reader, stop func(), err error) {
	c, err = buildcontext.Open(r.Context, r.Dockerfile, r.Ignore...)
	if err != nil {
		return nil, nil, nil, err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(c.WriteTar(ctx, pw)) }()
	return c, pr, func() { pr.CloseWithError(io.ErrClosedPipe) }, nil
}

// finishBuild reads a build's stream to its end.
func (a address) finishBuild(ctx context.Context, r BuildRequest, body io.Reader, p progress.Func) error {
	lines, err := readMessages(body, func(line string) {
		p.Or()(progress.Update{What: "build " + r.Tag, Line: line})
	})
	if err == nil {
		return nil
	}
	var api *APIError
	if ctx.Err() == nil && errors.As(err, &api) {
		return buildFailure(r, api, lines)
	}
	return fmt.Errorf("build %s: %w", r.Tag, a.explain(ctx, err))
}

// What an engine says when a build fails for a reason that is not in the
// Dockerfile. Matched against the engine's own error, not against what the
// steps print: a step may print anything.
var (
	missingBase = regexp.MustCompile(`(?i)manifest unknown|repository does not exist|name unknown|requested access to the resource is denied|did not resolve to an alias|short-name|image not known|no such image|pull access denied|choosing an image from manifest list`)
	noRegistry  = regexp.MustCompile(`(?i)no such host|i/o timeout|connection refused|connection reset|TLS handshake|server misbehaving|network is unreachable|proxyconnect|toomanyrequests|x509:|context deadline exceeded|\bEOF\b|50[234] `)
	pulling     = regexp.MustCompile(`(?i)pinging container registry|initializing source|reading manifest|copying blob|Get "https?://|error creating build container|creating build container|pulling|dial tcp|lookup `)
	badRuntime  = regexp.MustCompile(`(?i)setrlimit|cgroups? in hybrid mode|unable to apply caps|apply caps|error mounting|overlay.*(invalid argument|operation not permitted)|newuidmap|conmon`)
	failedStep  = regexp.MustCompile(`(?i)building at STEP "([^"]+(?:\\"[^"]*)*)"`)
	runsTests   = regexp.MustCompile(`\b(?:go test|(?:npm|yarn|pnpm|cargo|make|mvn|gradlew?) (?:run )?test|pytest|tox|jest)\b`)
	stepLine    = regexp.MustCompile(`(?i)^(?:\[\d+/\d+\] )?STEP \d+(/\d+)?\s*:|^Step \d+/\d+ :`)
)

// buildFailure gives a failed build its class.
func buildFailure(r BuildRequest, api *APIError, lines []string) error {
	last := lines[max(0, len(lines)-shownLines):]
	shown := error(api)
	if len(last) > 0 {
		shown = fmt.Errorf("%w\n    %s", api, strings.Join(last, "\n    "))
	}
	step, output := lastStep(lines)
	if m := failedStep.FindStringSubmatch(api.Message); m != nil {
		step = m[1]
	}
	where := "image " + r.Tag
	if step != "" {
		where += " at " + step
	}
	switch {
	case isFull(api.Message) || isFull(strings.Join(last, "\n")):
		return failure.New(failure.Resources, "no space left while building "+where, "free space on the engine's disk, e.g. mage teardown", shown)
	case pulling.MatchString(api.Message) && noRegistry.MatchString(api.Message):
		return failure.New(failure.Network, "the base of "+where+" cannot be pulled", "check the way to the registry (network, proxy), or have the base image on the engine", shown)
	case missingBase.MatchString(api.Message):
		return failure.New(failure.ImageReference, "the base of "+where+" does not exist, or not for this platform", "correct FROM in the Dockerfile, or have that image on the engine", shown)
	case badRuntime.MatchString(api.Message) || (strings.Contains(api.Message, "exit status") && runtimeComplains(lines)):
		return failure.New(failure.EngineBroken, "the engine cannot run a step of "+where, "mage setup, then mage doctor", shown)
	}
	if strings.Contains(api.Message, "layer not known") {
		e := failure.New(failure.StaleState, "a layer of the build cache of "+where+" was removed meanwhile", "build again", shown)
		e.Retry = failure.RetryNow
		return e
	}
	// What a test cannot reach, it may have been meant not to reach.
	if d, ok := failure.Outside(whatStepSaid(api, output)); ok && (d.Class != failure.Network || !runsTests.MatchString(step)) {
		d.Cause += ", while building " + where
		return &failure.Error{Diagnosis: d, Err: shown}
	}
	return failure.New(failure.TestFailure, where+" does not build", "correct the Dockerfile or what it copies", shown)
}

// lastStep returns the line that announces the last step, empty if there is
// none, and what was printed after it.
func lastStep(lines []string) (step string, output []string) {
	for i := len(lines) - 1; i >= 0; i-- {
		if stepLine.MatchString(lines[i]) {
			return lines[i], lines[i+1:]
		}
	}
	return "", lines
}

var (
	// quoted is the step as the engines repeat it in their error: what a step
	// would print if it failed is not what happened.
	quoted = regexp.MustCompile(`(?s)STEP "(?:[^"\\]|\\.)*"|The command '.*' returned`)
	// retried is how pip and npm announce that they try again; pip counts down
	// to 0.
	retried = regexp.MustCompile(`Retry\(total=[1-9]|\battempt \d+ failed with\b`)
)

// whatStepSaid is what a failed step's cause is to be read from.
func whatStepSaid(api *APIError, output []string) string {
	said := slices.DeleteFunc(slices.Clone(output), retried.MatchString)
	return strings.Join(append(said, quoted.ReplaceAllString(api.Message, "the step returned")), "\n")
}

// runtimeComplains says whether the last lines are the OCI runtime's and not a
// step's.
func runtimeComplains(lines []string) bool {
	for _, line := range lines[max(0, len(lines)-5):] {
		if strings.Contains(line, "error running container: ") && badRuntime.MatchString(line) {
			return true
		}
	}
	return false
}
