package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// telling are words in a node's journal that name a cause which neither Kind
// nor the API server passes on: a kubelet that never starts only shows as time
// running out.
var telling = []string{
	"too many open files", "no space left on device", "failed to load plugin", "failed to run kubelet",
	"command failed", "out of memory", "exec format error", "failed to allocate", "freezing execution",
}

// withJournal adds to err what the nodes' journals say about why the cluster
// did not come up, so that its cause can be told from its text.
func (c Cluster) withJournal(ctx context.Context, k kindLibrary, err error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	said := make(chan string, 1)
	if _, failed := inBackground(ctx, func() error {
		all, err := k.ListInternalNodes(c.Name)
		var b strings.Builder
		for _, n := range all {
			var out strings.Builder
			cmd := n.Command("journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=3000", "--unit=containerd", "--unit=kubelet")
			if cmd.SetStdout(&out).Run() != nil { // it does not run; what its systemd wrote remains
				err = errors.Join(err, n.SerialLogs(&out))
			}
			for _, line := range tellingLines(out.String()) {
				fmt.Fprintf(&b, "\n%s: %s", n.String(), line)
			}
		}
		b.WriteString(c.systemPods(ctx))
		said <- b.String()
		return err
	}); failed != nil {
		c.Log.Debug("read the nodes' journals", "cluster", c.Name, "error", failed)
	}
	select {
	case text := <-said:
		switch {
		case strings.Contains(strings.ToLower(text), "too many open files"):
			// Each node takes some twenty inotify instances of the one user
			// that all nodes of an engine run as; many systems allow 128.
			return failure.New(failure.Resources, fmt.Sprintf("the engine's host has no inotify instance left for cluster %q", c.Name),
				"sysctl -w fs.inotify.max_user_instances=512 (on the engine's host), or remove other clusters", fmt.Errorf("%w%s", err, text))
		case text != "":
			return fmt.Errorf("%w%s", err, text)
		}
	default:
	}
	return err
}

// tellingLines picks the newest few different lines that hold a telling word.
func tellingLines(journal string) []string {
	const most, longest = 3, 300
	var found []string
	lines := strings.Split(journal, "\n")
	for i := len(lines) - 1; i >= 0 && len(found) < most; i-- {
		for _, word := range telling {
			at := strings.Index(strings.ToLower(lines[i]), word)
			if at < 0 {
				continue
			}
			line := strings.TrimSpace(lines[i])
			if len(line) > longest { // keep the part that tells
				from := max(0, min(at-longest/2, len(line)-longest))
				line = line[from : from+longest]
			}
			if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(strings.ToLower(f), word) }) {
				found = append(found, line)
			}
			break
		}
	}
	return found
}

// systemPods tells of pods of the control plane and its add-ons that are not
// ready, with the last line that each wrote. Cluster DNS waits for kube-proxy,
// so the pod that waits is rarely the one to blame.
func (c Cluster) systemPods(ctx context.Context) string {
	client, err := c.client()
	if err != nil {
		return ""
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return ""
	}
	var b strings.Builder
	for i := range pods.Items {
		p := &pods.Items[i]
		for _, s := range p.Status.ContainerStatuses {
			if !s.Ready {
				fmt.Fprintf(&b, "\n%s: %s", podTrouble(p), lastLine(ctx, client, p, s))
			}
		}
	}
	return b.String()
}

func lastLine(ctx context.Context, client kubernetes.Interface, p *corev1.Pod, s corev1.ContainerStatus) string {
	one := int64(1)
	options := corev1.PodLogOptions{Container: s.Name, TailLines: &one, Previous: s.State.Running == nil && s.RestartCount > 0}
	raw, err := client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &options).DoRaw(ctx)
	if err != nil {
		return "its log cannot be read"
	}
	return strings.TrimSpace(string(raw))
}
