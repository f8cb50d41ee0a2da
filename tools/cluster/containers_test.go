package cluster

import (
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// TestWhoseANodeIs: what is deleted hangs on it. The network of this project is
// "mine".
func TestWhoseANodeIs(t *testing.T) {
	unfinished := Record{Name: "a", Provider: "podman"}
	finished := Record{Name: "a", Provider: "podman", Complete: true, Nodes: []string{"known"}}
	for name, tt := range map[string]struct {
		network, id string
		label       bool
		rec         Record
		want        bool
	}{
		"on our network":                               {network: "mine", want: true},
		"on another Podman's network of ours":          {network: "mine-2", want: true},
		"our image, made by hand":                      {network: "kind", label: true},
		"remembered, on the user's network":            {network: "theirs", id: "known", rec: finished, want: true},
		"another of the name, made since":              {network: "kind", id: "other", label: true, rec: finished},
		"unfinished, on our network":                   {network: "mine", rec: unfinished, want: true},
		"unfinished, on the user's network":            {network: "theirs", label: true, rec: unfinished, want: true},
		"made by hand after our making failed":         {network: "kind", rec: unfinished},
		"unfinished, engine does not tell the network": {label: true, rec: unfinished, want: true},
		"by hand, engine does not tell the network":    {rec: unfinished},
	} {
		t.Run(name, func(t *testing.T) {
			n := engine.Container{ID: tt.id, Labels: map[string]string{KindLabel: "a"}}
			if tt.network != "" {
				n.Networks = []string{tt.network}
			}
			if tt.label {
				n.Labels["kubernaut-e2e"] = "true"
			}
			if got := Ours(n, "mine", tt.rec); got != tt.want {
				t.Errorf("ours: %v, want %v", got, tt.want)
			}
		})
	}
}
