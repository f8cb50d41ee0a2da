package run

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Result is what a run came to, as it stands in result.json.
type Result struct {
	Name       string          `json:"name"` // suite or target
	Verdict    failure.Verdict `json:"verdict"`
	Step       string          `json:"step,omitempty"` // the step that failed
	Phase      failure.Phase   `json:"phase,omitempty"`
	Class      failure.Class   `json:"class,omitempty"`
	Signature  string          `json:"signature,omitempty"`
	Cause      string          `json:"cause,omitempty"`
	Remedy     string          `json:"remedy,omitempty"`
	Confidence string          `json:"confidence,omitempty"`
	Error      string          `json:"error,omitempty"`
	Attempts   int             `json:"attempts"` // of the step that took most
	Heals      []Heal          `json:"heals"`
	Works      []Work          `json:"works"`
	Steps      []StepResult    `json:"steps"`
	Nodes      []NodeResult    `json:"nodes,omitempty"`
	Started    time.Time       `json:"started"`
	DurationMS int64           `json:"duration_ms"`
	Provider   string          `json:"provider,omitempty"`
	NodeImage  string          `json:"node_image,omitempty"`
}

// Heal is one recovery action and what it came to.
type Heal struct {
	Step   string `json:"step"`
	Action string `json:"action"`
	Effect string `json:"effect"` // what proved that it worked, or why it did not
	OK     bool   `json:"ok"`
}

// Work is something known to work.
type Work struct {
	What     string `json:"what"`
	Evidence string `json:"evidence"`
}

// StepResult is how one step went.
type StepResult struct {
	Name       string `json:"name"`
	State      string `json:"state"` // done, skip, fail, cancelled or not-run
	Attempts   int    `json:"attempts"`
	DurationMS int64  `json:"duration_ms"`
	Detail     string `json:"detail,omitempty"`
	Error      string `json:"error,omitempty"`
}

// NodeResult is how one image got to one node.
type NodeResult struct {
	Node       string `json:"node"`
	Ref        string `json:"ref"`
	Strategy   string `json:"strategy"`
	Bytes      int64  `json:"bytes"`
	DurationMS int64  `json:"duration_ms"`
	Verified   bool   `json:"verified"`
}

// Save writes result.json.
func (r Result) Save(f Folder) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return f.WriteFile("result.json", append(data, '\n'))
}

// collector gathers a result from concurrent steps.
type collector struct {
	mu sync.Mutex
	Result
}

func (c *collector) step(s StepResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Steps = append(c.Steps, s)
	c.Attempts = max(c.Attempts, s.Attempts)
}

func (c *collector) heal(h Heal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Heals = append(c.Heals, h)
}

func (c *collector) outcome(o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Works = append(c.Works, o.Works...)
	c.Nodes = append(c.Nodes, o.Nodes...)
}
