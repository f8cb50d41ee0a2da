package host

import (
	"context"
	"fmt"
	"regexp"
	"sort"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Status is how much a finding matters.
type Status string

// The statuses. Only Block keeps a run from working.
const (
	OK    Status = "ok"
	Warn  Status = "warn"
	Block Status = "block"
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Detail string `json:"detail"`           // what was seen
	Remedy string `json:"remedy,omitempty"` // a command or a setting; empty when ok
}

// Checks says what Doctor should look at beside the host itself.
type Checks struct {
	Ports     map[int]string // host ports of the suite, and what each is for
	NodeImage string         // reference; empty: not looked at
	Locks     []string       // lock files of this project (flock)
	State     string         // folder of runs; its file system's free space counts
}

// Doctor looks at host, engine, ports and leftovers, and changes nothing. It
// reports what it could not find out as a warning rather than leaving it out.
func Doctor(ctx context.Context, o Options, c Checks) []Finding {
	h := newHost(o)
	d := &doctor{host: h, Checks: c}
	d.tools()
	d.kernel()
	found, err := h.find(ctx, h.wanted())
	switch {
	case err == nil && found != nil:
		conn := h.connect(*found)
		d.engine(ctx, conn)
	case err == nil:
		err = d.whyNothing()
		fallthrough
	default:
		d.engineMissing(err)
	}
	d.leftovers()
	d.ports(ctx)
	d.disk("disk", firstExisting(c.State, h.StateDir, "/"))
	return d.findings
}

// Blocked reports whether one of the findings blocks.
func Blocked(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Block {
			return true
		}
	}
	return false
}

// doctor collects findings.
type doctor struct {
	*host
	Checks
	findings   []Finding
	containers []container // of the engine
	listed     bool        // containers are known
}

func (d *doctor) ok(check, format string, args ...any) {
	d.findings = append(d.findings, Finding{Check: check, Status: OK, Detail: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(status Status, check, detail, remedy string) {
	d.findings = append(d.findings, Finding{Check: check, Status: status, Detail: detail, Remedy: remedy})
}

// whyNothing tells an engine that is there but does not run from none at all.
func (d *doctor) whyNothing() error {
	installed := ""
	for _, p := range d.wanted() {
		if _, err := d.run.LookPath(p); err == nil && installed == "" {
			installed = p
		}
	}
	if installed == "" {
		return failure.New(failure.Configuration, "no container engine is installed", "mage setup", nil)
	}
	return failure.New(failure.EngineConnection, installed+" is installed, but no service of it answers",
		"mage setup starts one (so does every pipeline target)", nil)
}

func (d *doctor) engineMissing(err error) {
	e := failure.As(err)
	if e == nil {
		e = failure.New(failure.EngineConnection, "no engine could be reached", "mage setup", err)
	}
	detail := e.Cause
	if e.Err != nil {
		detail += ": " + e.Err.Error()
	}
	d.bad(Block, "engine", detail, e.Remedy)
}

func (d *doctor) ports(ctx context.Context) {
	numbers := make([]int, 0, len(d.Ports))
	for p := range d.Ports {
		numbers = append(numbers, p)
	}
	sort.Ints(numbers)
	for _, p := range numbers {
		check := fmt.Sprintf("port %d", p)
		if c := d.publisher(p); c != nil {
			if c.ours() {
				d.ok(check, "published by our own %s", c.Name)
			} else {
				d.bad(Block, check, fmt.Sprintf("needed for %s, published by container %s", d.Ports[p], c.Name), "stop that container, or change the port in the suite's Kind configuration")
			}
			continue
		}
		holder, err := PortHolder(ctx, p)
		switch {
		case err != nil:
			d.bad(Warn, check, err.Error(), "see who listens there: ss -ltnp")
		case holder != "":
			d.taken(check, p, holder)
		default:
			d.ok(check, "free for %s", d.Ports[p])
		}
	}
}

// engineHelper is a program by which an engine holds a container's published
// port, also while its service does not run.
var engineHelper = regexp.MustCompile(`^(conmon|rootlessport|docker-proxy|pasta|slirp4netns)\b`)

// taken reports a port that a program holds. Ending an engine's helper would
// take a container's port away, which may be our own cluster's.
func (d *doctor) taken(check string, port int, holder string) {
	if !d.listed && engineHelper.MatchString(holder) {
		d.bad(Warn, check, fmt.Sprintf("needed for %s, published by a container (%s); only the engine can say whose", d.Ports[port], holder), "start the engine, then mage doctor again")
		return
	}
	d.bad(Block, check, fmt.Sprintf("needed for %s, taken by %s", d.Ports[port], holder), "end that program, or change the port in the suite's Kind configuration")
}

func (d *doctor) publisher(port int) *container {
	for i, c := range d.containers {
		for _, p := range c.HostPorts {
			if p == port && c.Running {
				return &d.containers[i]
			}
		}
	}
	return nil
}
