package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Pod is a running pod of the workload, as the cluster reports it.
type Pod struct {
	Name   string            `json:"name"`
	Node   string            `json:"node"`
	Images map[string]string `json:"images"` // reference to the image ID that the node runs for it
}

// WaitOptions bounds a wait.
type WaitOptions struct {
	Timeout  time.Duration // for all rollouts together; 0: 3 minutes
	Progress progress.Func
}

// Wait returns once every Deployment, DaemonSet and StatefulSet of applied runs
// in its newest form and nothing of an older one is left, with the pods that
// run. It returns early when a pod cannot start and waiting will not change
// that: an error of class test-failure if the container itself fails, with its
// last lines; other classes if its image or the cluster is to blame.
func Wait(ctx context.Context, kubeconfig string, applied Applied, o WaitOptions) ([]Pod, error) {
	cfg, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	w := waiter{client: client, loaded: applied.images, report: o.Progress.Or(), since: map[string]time.Time{}}
	limit := o.Timeout
	if limit <= 0 {
		limit = 3 * time.Minute
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var pods []Pod
	for _, obj := range applied.Objects {
		if obj.Kind != "Deployment" && obj.Kind != "DaemonSet" && obj.Kind != "StatefulSet" {
			continue
		}
		found, err := w.rollout(ctx, within, obj, limit)
		if err != nil {
			return pods, err
		}
		pods = append(pods, found...)
	}
	return pods, nil
}

type waiter struct {
	client kubernetes.Interface
	loaded map[string]bool
	report progress.Func
	since  map[string]time.Time // first sight of a trouble that may pass
}

// rollout is one workload's state, the same for the three kinds.
type rollout struct {
	complete bool
	progress string // e.g. "1 of 2 pods available"
	trouble  string // what the workload's controller says keeps it from making pods
	selector *metav1.LabelSelector
	newest   func(*corev1.Pod) bool
}

func (w waiter) rollout(ctx, within context.Context, obj Object, limit time.Duration) ([]Pod, error) {
	name := strings.ToLower(obj.Kind) + " " + obj.Namespace + "/" + obj.Name
	last, failed := "", error(nil)
	for {
		r, err := w.look(within, obj)
		var pods []corev1.Pod
		if err == nil {
			pods, err = w.pods(within, obj.Namespace, r.selector)
		}
		if err != nil && within.Err() == nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		if err == nil {
			current, old := split(pods, r.newest)
			if r.complete && old == 0 && w.steady(name, current) {
				return running(current), nil
			}
			var now string
			now, failed = w.judge(within, name, r, current, old)
			if failed != nil && final(failed) {
				return nil, failed
			}
			if now != last {
				w.report(progress.Update{What: "deploy", Line: name + ": " + now})
				last = now
			}
		}
		if pause(within) == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for %s (%s): %w", name, last, context.Cause(ctx))
		}
		return nil, w.tooLate(name, limit, last, failed)
	}
}

func (w waiter) look(ctx context.Context, obj Object) (rollout, error) {
	apps := w.client.AppsV1()
	switch obj.Kind {
	case "Deployment":
		d, err := apps.Deployments(obj.Namespace).Get(ctx, obj.Name, metav1.GetOptions{})
		if err != nil {
			return rollout{}, err
		}
		return w.deployment(ctx, d)
	case "StatefulSet":
		s, err := apps.StatefulSets(obj.Namespace).Get(ctx, obj.Name, metav1.GetOptions{})
		if err != nil {
			return rollout{}, err
		}
		want := replicas(s.Spec.Replicas)
		return rollout{
			complete: s.Status.ObservedGeneration >= s.Generation && s.Status.UpdatedReplicas == want &&
				s.Status.AvailableReplicas == want && s.Status.Replicas == want,
			progress: fmt.Sprintf("%d of %d pods available", s.Status.AvailableReplicas, want),
			selector: s.Spec.Selector,
			newest:   labelled(appsv1.ControllerRevisionHashLabelKey, s.Status.UpdateRevision),
		}, nil
	default:
		d, err := apps.DaemonSets(obj.Namespace).Get(ctx, obj.Name, metav1.GetOptions{})
		if err != nil {
			return rollout{}, err
		}
		want := d.Status.DesiredNumberScheduled
		return rollout{
			complete: d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedNumberScheduled == want &&
				d.Status.NumberAvailable == want,
			progress: fmt.Sprintf("%d of %d pods available", d.Status.NumberAvailable, want),
			selector: d.Spec.Selector,
			newest:   labelled("pod-template-generation", d.Annotations["deprecated.daemonset.template.generation"]),
		}, nil
	}
}

// deployment finds the newest ReplicaSet by the revision both carry
// (k8s.io/kubectl's rollout status does the same).
func (w waiter) deployment(ctx context.Context, d *appsv1.Deployment) (rollout, error) {
	const revision = "deployment.kubernetes.io/revision"
	want := replicas(d.Spec.Replicas)
	r := rollout{
		complete: d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == want &&
			d.Status.AvailableReplicas == want && d.Status.Replicas == want,
		progress: fmt.Sprintf("%d of %d pods available", d.Status.AvailableReplicas, want),
		selector: d.Spec.Selector,
		newest:   func(*corev1.Pod) bool { return false },
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			r.trouble = c.Reason + ": " + c.Message
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return r, err
	}
	sets, err := w.client.AppsV1().ReplicaSets(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return r, err
	}
	for i := range sets.Items {
		s := &sets.Items[i]
		if metav1.IsControlledBy(s, d) && s.Annotations[revision] == d.Annotations[revision] && d.Status.ObservedGeneration >= d.Generation {
			r.newest = func(p *corev1.Pod) bool { return metav1.IsControlledBy(p, s) }
		}
	}
	return r, nil
}

func (w waiter) pods(ctx context.Context, namespace string, ls *metav1.LabelSelector) ([]corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(ls)
	if err != nil {
		return nil, err
	}
	list, err := w.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func labelled(key, value string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return value != "" && p.Labels[key] == value }
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
