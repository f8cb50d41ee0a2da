package machine

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// list4 and list5 have the form of Podman 4.9 and 5.6.
const (
	list4 = `[{"Name":"podman-machine-default","Default":true,"Created":"2024-01-10T10:00:00Z","Running":true,"Starting":false,"LastUp":"2024-01-11T10:00:00Z","Stream":"testing","VMType":"qemu","CPUs":4,"Memory":"4294967296","DiskSize":"107374182400","Port":55555,"RemoteUsername":"core","IdentityPath":"/u/.ssh/podman-machine-default","UserModeNetworking":true}]`
	list5 = `[{"Name":"other","Default":false,"Created":"2025-09-01T10:00:00+02:00","Running":false,"Starting":false,"LastUp":"0001-01-01T00:00:00Z","Stream":"","VMType":"applehv","CPUs":2,"Memory":"2147483648","Swap":"0","DiskSize":"10737418240","Port":51001,"RemoteUsername":"core","IdentityPath":"/u/.local/share/containers/podman/machine/machine","UserModeNetworking":true},{"Name":"work","Default":true,"Running":true,"CPUs":6,"Memory":"8589934592","DiskSize":"107374182400"}]`
)

func TestList(t *testing.T) {
	tests := []struct {
		name, out, want string
		memory          int64
	}{
		{"podman 4", list4, "podman-machine-default", 4 << 30},
		{"podman 5", list5, "work", 8 << 30},
		{"none", "[]", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all, err := List(context.Background(), func(context.Context, string, ...string) (string, error) { return tt.out, nil })
			if err != nil {
				t.Fatal(err)
			}
			m := Default(all)
			if tt.want == "" {
				if m != nil {
					t.Errorf("got %+v", m)
				}
				return
			}
			if m == nil || m.Name != tt.want || m.Memory != tt.memory || !m.Running {
				t.Errorf("got %+v", m)
			}
		})
	}
}

// vm is a machine that does what `podman machine` documents.
type vm struct {
	state      string
	containers string // of `podman ps --format json`; empty: the engine does not answer
	root       string // the same of root's engine; empty: it has none
	inside     string // the same asked over `podman machine ssh`
	calls      []string
}

func (v *vm) run(_ context.Context, name string, args ...string) (string, error) {
	call := name + " " + strings.Join(args, " ")
	v.calls = append(v.calls, call)
	answer := func(out string) (string, error) {
		if out == "" {
			return "", errors.New("Cannot connect to Podman")
		}
		return out, nil
	}
	switch {
	case strings.HasPrefix(call, "podman machine inspect"):
		return `[{"Name":"m","State":"` + v.state + `","Rootful":true}]`, nil
	case strings.HasPrefix(call, "podman machine stop"):
		v.state = "stopped"
	case strings.HasPrefix(call, "podman machine start"):
		v.state = "running"
	case strings.HasPrefix(call, "podman machine ssh m sudo"):
		return answer(v.inside)
	case strings.HasPrefix(call, "podman machine ssh"):
		return "[]", nil
	case strings.HasPrefix(call, "podman --connection m ps"):
		return answer(v.containers)
	case strings.HasPrefix(call, "podman --connection m-root ps"):
		return answer(cmp.Or(v.root, "[]"))
	}
	return "", nil
}

func TestRestart(t *testing.T) {
	const ours = `[{"Names":["n"],"Labels":{"kubernaut-e2e":"true"}}]`
	const theirs = `[{"Names":["db"],"Labels":null},{"Names":["n"],"Labels":{"kubernaut-e2e":"true"}}]`
	tests := []struct {
		name     string
		vm       vm
		policy   string
		lastSeen []string
		refused  string // part of the cause; empty: restarted
	}{
		{name: "only ours", vm: vm{state: "running", containers: ours}, policy: Auto},
		{name: "somebody else's", vm: vm{state: "running", containers: theirs}, policy: Auto, refused: "db"},
		{name: "somebody else's in root's engine", vm: vm{state: "running", containers: ours, root: theirs}, policy: Auto, refused: "db"},
		{name: "somebody else's, always", vm: vm{state: "running", containers: theirs}, policy: Always},
		{name: "never", vm: vm{state: "running", containers: ours}, policy: Never, refused: "never"},
		{name: "never, stopped", vm: vm{state: "stopped"}, policy: Never, refused: "never"},
		{name: "stopped: nothing can run in it", vm: vm{state: "stopped"}, policy: Auto},
		{name: "engine dead, asked inside", vm: vm{state: "running", inside: ours}, policy: Auto},
		{name: "engine dead, somebody else's inside", vm: vm{state: "running", inside: theirs}, policy: Auto, refused: "db"},
		{name: "nobody can say", vm: vm{state: "running"}, policy: Auto, refused: "nobody can say"},
		{name: "nobody can say, but none a moment ago", vm: vm{state: "running"}, policy: Auto, lastSeen: []string{}},
		{name: "nobody can say, one a moment ago", vm: vm{state: "running"}, policy: Auto, lastSeen: []string{"db"}, refused: "db"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Restart(context.Background(), tt.vm.run, "m", tt.policy, "kubernaut-e2e", tt.lastSeen)
			calls := strings.Join(tt.vm.calls, "\n")
			if tt.refused == "" {
				if err != nil || tt.vm.state != "running" || !strings.Contains(calls, "machine start m") {
					t.Errorf("%v, state %s after\n%s", err, tt.vm.state, calls)
				}
				return
			}
			e := failure.As(err)
			if e == nil || !strings.Contains(e.Cause, tt.refused) || !strings.Contains(e.Remedy, "E2E_MACHINE_RESTART=always") {
				t.Errorf("got %v, want a refusal with %q", err, tt.refused)
			}
			if strings.Contains(calls, "machine stop") {
				t.Error("the machine was stopped all the same")
			}
		})
	}
}
