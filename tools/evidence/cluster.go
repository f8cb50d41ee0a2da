package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// OfCluster takes the cluster's events and nodes, and of the namespace its
// pods, with the logs of each container and of its previous life.
func OfCluster(kubeconfig, namespace string) []Item {
	with := func(take func(ctx context.Context, c kubernetes.Interface, to *Folder) error) func(context.Context, *Folder) error {
		return func(ctx context.Context, to *Folder) error {
			c, err := client(kubeconfig)
			if err != nil {
				return err
			}
			return take(ctx, c, to)
		}
	}
	return []Item{
		{"cluster events", with(clusterEvents)},
		{"cluster nodes", with(clusterNodes)},
		{"pods of " + namespace, with(func(ctx context.Context, c kubernetes.Interface, to *Folder) error {
			return pods(ctx, c, namespace, to)
		})},
	}
}

func client(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	config.Timeout = 10 * time.Second
	config.QPS, config.Burst = 100, 200
	return kubernetes.NewForConfig(config)
}

func clusterEvents(ctx context.Context, c kubernetes.Interface, to *Folder) error {
	list, err := c.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 2000})
	if err != nil {
		return err
	}
	sort.Slice(list.Items, func(i, j int) bool { return when(list.Items[i]).Before(when(list.Items[j])) })
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, e := range list.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s/%s/%s\t%dx\t%s\n", when(e).UTC().Format(time.RFC3339), e.Type, e.Reason,
			e.Namespace, e.InvolvedObject.Kind, e.InvolvedObject.Name, max(e.Count, 1), e.Message)
	}
	return errors.Join(w.Flush(), to.Write("cluster-events.txt", b.Bytes()))
}

func when(e corev1.Event) time.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

func clusterNodes(ctx context.Context, c kubernetes.Interface, to *Folder) error {
	list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		list.Items[i].ManagedFields = nil
	}
	return writeYAML(to, "cluster-nodes.yaml", list.Items)
}

func writeYAML(to *Folder, name string, v any) error {
	raw, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	return to.Write(name, raw)
}

func pods(ctx context.Context, c kubernetes.Interface, namespace string, to *Folder) error {
	list, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 4, 2, ' ', 0)
	for i := range list.Items {
		p := &list.Items[i]
		p.ManagedFields = nil
		restarts := int32(0)
		for _, s := range p.Status.ContainerStatuses {
			restarts += s.RestartCount
		}
		fmt.Fprintf(w, "%s\t%s\t%d restarts\t%s\t%s\n", p.Name, p.Status.Phase, restarts, p.Spec.NodeName, p.Status.PodIP)
	}
	err = errors.Join(w.Flush(), to.Write("pods.txt", table.Bytes()))
	for i := range list.Items {
		err = errors.Join(err, pod(ctx, c, &list.Items[i], to))
	}
	return err
}

func pod(ctx context.Context, c kubernetes.Interface, p *corev1.Pod, to *Folder) error {
	err := writeYAML(to, "pods/"+p.Name+".yaml", p)
	for _, s := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		err = errors.Join(err, logs(ctx, c, p, s.Name, false, to))
		if s.RestartCount > 0 {
			err = errors.Join(err, logs(ctx, c, p, s.Name, true, to))
		}
	}
	return err
}

// logs keeps what was read even if the stream then breaks.
func logs(ctx context.Context, c kubernetes.Interface, p *corev1.Pod, container string, previous bool, to *Folder) error {
	lines := int64(5000)
	stream, err := c.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
		Container: container, Previous: previous, TailLines: &lines, Timestamps: true,
	}).Stream(ctx)
	if err != nil {
		return fmt.Errorf("logs of %s/%s: %w", p.Name, container, err)
	}
	defer stream.Close()
	raw, err := io.ReadAll(io.LimitReader(stream, 4*fileBytes))
	name := "pods/" + p.Name + "." + container + ".log"
	if previous {
		name = "pods/" + p.Name + "." + container + ".previous.log"
	}
	return errors.Join(err, to.Write(name, raw))
}
