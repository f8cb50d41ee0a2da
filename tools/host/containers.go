package host

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// container is one container of the engine, ours or not.
type container struct {
	Name, State string
	Running     bool
	Labels      map[string]string
	HostPorts   []int
}

func (c container) ours() bool { return c.Labels[settings.Label] == "true" }

// cluster is Kind's label for the cluster a node belongs to.
func (c container) cluster() string { return c.Labels["io.x-k8s.kind.cluster"] }

// containers lists all of an engine's containers, running or not.
func (h *host) containers(ctx context.Context, provider string, env []string) ([]container, error) {
	args, parse := []string{"ps", "-a", "--no-trunc", "--format", "json"}, podmanContainers
	if provider == Docker {
		args[len(args)-1], parse = "{{json .}}", dockerContainers
	}
	out, err := h.outputEnv(ctx, env, provider, args...)
	if err != nil {
		return nil, err
	}
	return parse(out)
}

func podmanContainers(out string) ([]container, error) {
	var all []struct {
		Names  []string
		State  string
		Labels map[string]string
		Ports  []struct {
			HostPort int `json:"host_port"`
			Range    int `json:"range"`
		}
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, err
	}
	list := make([]container, 0, len(all))
	for _, a := range all {
		c := container{Name: strings.Join(a.Names, "/"), State: a.State, Running: a.State == "running", Labels: a.Labels}
		for _, p := range a.Ports {
			for i := range max(1, p.Range) {
				c.HostPorts = append(c.HostPorts, p.HostPort+i)
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// dockerContainers reads one JSON object a line, in which labels are
// "a=b,c=d" and ports "127.0.0.1:30084->30084/tcp, …".
func dockerContainers(out string) ([]container, error) {
	var list []container
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var a struct{ Names, State, Labels, Ports string }
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return nil, err
		}
		c := container{Name: a.Names, State: a.State, Running: a.State == "running", Labels: map[string]string{}}
		for _, l := range strings.Split(a.Labels, ",") {
			k, v, _ := strings.Cut(l, "=")
			c.Labels[k] = v
		}
		for _, p := range strings.Split(a.Ports, ", ") {
			from, _, published := strings.Cut(p, "->")
			if port, err := strconv.Atoi(from[strings.LastIndex(from, ":")+1:]); published && err == nil {
				c.HostPorts = append(c.HostPorts, port)
			}
		}
		list = append(list, c)
	}
	return list, nil
}
