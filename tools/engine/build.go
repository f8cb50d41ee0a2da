package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/engine/buildcontext"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// keptLines is how much of a failed build's output its error shows.
const keptLines = 20

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
	stepLine    = regexp.MustCompile(`(?i)^STEP \d+(/\d+)?\s*:|^Step \d+/\d+ :`)
)

// buildFailure gives a failed build its class.
func buildFailure(r BuildRequest, api *APIError, lines []string) error {
	all := strings.Join(lines, "\n")
	shown := error(api)
	if len(lines) > 0 {
		shown = fmt.Errorf("%w\n    %s", api, strings.Join(lines, "\n    "))
	}
	step := ""
	if m := failedStep.FindStringSubmatch(api.Message); m != nil {
		step = m[1]
	}
	for i := len(lines) - 1; step == "" && i >= 0; i-- {
		if stepLine.MatchString(lines[i]) {
			step = lines[i]
		}
	}
	where := "image " + r.Tag
	if step != "" {
		where += " at " + step
	}
	switch {
	case isFull(api.Message) || isFull(all):
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
	return failure.New(failure.TestFailure, where+" does not build", "correct the Dockerfile or what it copies", shown)
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
