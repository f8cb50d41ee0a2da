package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// marker is the ConfigMap in kube-system that says what a cluster was made of.
// Kind gives no way to label node containers, and one in the cluster outlives
// any state folder.
const marker = "kubernaut-e2e"

// unusableError says why a cluster cannot be repaired, only made again.
type unusableError struct{ reason string }

func (e *unusableError) Error() string { return e.reason }

// check asks the API server whether the cluster is the one that p describes and
// is ready. An *unusableError means that it has to be made again; any other
// error may go away.
func (c Cluster) check(ctx context.Context, p plan, spec Spec) (string, error) {
	found, err := c.containers(ctx)
	if err != nil {
		return "", err
	}
	if err := c.pointsAt(found); err != nil {
		return "", err
	}
	client, err := c.client()
	if err != nil {
		return "", err
	}
	version, err := serverVersion(ctx, client)
	if err != nil {
		return "", err
	}
	if want := spec.ExpectedVersion; want != "" && trimV(want) != trimV(version) {
		return "", &unusableError{fmt.Sprintf("it runs Kubernetes %s, %s is asked for", version, want)}
	}
	mark, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, marker, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", &unusableError{"its making was not finished"}
	case err != nil:
		return "", fmt.Errorf("ask what the cluster was made of: %w", err)
	case mark.Data["inputs"] != p.inputs:
		return "", &unusableError{"its node image or Kind configuration has changed"}
	}
	if err := notReady(ctx, client, p.networkLater); err != nil {
		return version, err
	}
	return version, c.outdated(ctx, client, found)
}

var errSilent = errors.New("the API server does not answer")

func trimV(v string) string { return strings.TrimPrefix(v, "v") }

func serverVersion(ctx context.Context, client kubernetes.Interface) (string, error) {
	v, err := client.Discovery().ServerVersion()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errSilent, err)
	}
	return v.GitVersion, nil
}

// mark records in the cluster what it was made of.
func (c Cluster) mark(ctx context.Context, client kubernetes.Interface, p plan) error {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: marker, Namespace: metav1.NamespaceSystem, Labels: map[string]string{marker: "true"}},
		Data:       map[string]string{"inputs": p.inputs, "made": time.Now().UTC().Format(time.RFC3339)},
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	_, err := maps.Create(ctx, cm, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("mark cluster %q: %w", c.Name, err)
	}
	return nil
}

// waitReady polls until the cluster is ready. What is missing is told as it
// changes, and is the error's text when time runs out.
func (c Cluster) waitReady(ctx context.Context, client kubernetes.Interface, p plan, limit time.Duration) error {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		err := notReady(within, client, p.networkLater)
		if err == nil {
			return nil
		}
		if within.Err() == nil {
			if last == nil || last.Error() != err.Error() {
				c.say("waiting: " + err.Error())
			}
			last = err
		}
		if pause(within, poll) == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for cluster %q: %w", c.Name, context.Cause(ctx))
		}
		return failure.New(failure.ClusterUnready, fmt.Sprintf("cluster %q is not ready after %s", c.Name, limit),
			"mage doctor, then run again; the node's journal is in the run's evidence folder", last)
	}
}

// notReady returns what keeps the cluster from being ready: nodes, cluster DNS,
// the default storage class or the default service account, without which no
// pod can be made.
func notReady(ctx context.Context, client kubernetes.Interface, networkLater bool) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if len(nodes.Items) == 0 {
		return errors.New("no node has registered")
	}
	noNetwork := false
	for i := range nodes.Items {
		ready, lacksNetwork, why := nodeReady(&nodes.Items[i])
		if !ready && lacksNetwork && networkLater {
			noNetwork = true
			continue
		}
		if !ready {
			return fmt.Errorf("node %s is not ready: %s", nodes.Items[i].Name, why)
		}
	}
	if !noNetwork { // without a pod network, cluster DNS cannot start
		if err := dnsAvailable(ctx, client); err != nil {
			return err
		}
	}
	if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return fmt.Errorf("default service account: %w", err)
	}
	classes, err := client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list storage classes: %w", err)
	}
	for _, sc := range classes.Items {
		if sc.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return nil
		}
	}
	return errors.New("no default storage class")
}

func nodeReady(n *corev1.Node) (ready, lacksNetwork bool, why string) {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			text := cond.Reason + ": " + cond.Message
			// The kubelet's own words when no CNI configuration is there.
			return cond.Status == corev1.ConditionTrue, strings.Contains(cond.Message, "cni plugin not initialized"), text
		}
	}
	return false, false, "its kubelet has not reported"
}

func dnsAvailable(ctx context.Context, client kubernetes.Interface) error {
	d, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("cluster DNS: %w", err)
	}
	for _, cond := range d.Status.Conditions {
		if cond.Type == appsv1.DeploymentAvailable && cond.Status == corev1.ConditionTrue && d.Status.AvailableReplicas > 0 {
			return dnsReachable(ctx, client)
		}
	}
	why := "no pod yet"
	pods, err := client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil {
		return fmt.Errorf("list pods of cluster DNS: %w", err)
	}
	for i := range pods.Items {
		why = podTrouble(&pods.Items[i])
	}
	return fmt.Errorf("cluster DNS is not available: %s", why)
}

func podTrouble(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil {
			return strings.TrimSuffix(fmt.Sprintf("pod %s is waiting, %s: %s", p.Name, w.Reason, w.Message), ": ")
		}
	}
	for _, cond := range p.Status.Conditions {
		if cond.Status == corev1.ConditionFalse {
			return strings.TrimSuffix(fmt.Sprintf("pod %s, %s: %s", p.Name, cond.Reason, cond.Message), ": ")
		}
	}
	return fmt.Sprintf("pod %s is %s", p.Name, p.Status.Phase)
}
