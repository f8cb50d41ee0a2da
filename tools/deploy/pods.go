package deploy

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// split separates the pods of the newest form from those of older ones. A pod
// that is ending is old: until it has gone, it may still act. One that is over is
// neither: what it says of its containers is past, and its controller has made,
// or makes, another. A Deployment keeps those that were evicted.
func split(pods []corev1.Pod, newest func(*corev1.Pod) bool) (current []corev1.Pod, old int) {
	for i := range pods {
		p := &pods[i]
		switch {
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		case p.DeletionTimestamp == nil && newest(p):
			current = append(current, *p)
		default:
			old++
		}
	}
	return current, old
}

// probation is how long a container without a readiness probe must have run
// before it counts: the cluster calls it ready the moment it starts.
const probation = 3 * time.Second

// steady reports whether every pod is ready and none is on probation. What a
// pod's controller counts may be from before its node was started. A
// container's start is told by its node's clock; where that is wrong, what was
// seen here counts.
func (w waiter) steady(name string, pods []corev1.Pod) bool {
	for i := range pods {
		probed := map[string]bool{}
		for _, c := range pods[i].Spec.Containers {
			probed[c.Name] = c.ReadinessProbe != nil
		}
		for _, s := range pods[i].Status.ContainerStatuses {
			if s.State.Running != nil && !s.Ready {
				return false
			}
			if probed[s.Name] || s.State.Running != nil && time.Since(s.State.Running.StartedAt.Time) > probation {
				continue
			}
			key := fmt.Sprint("steady ", name, pods[i].Name, s.Name, s.RestartCount)
			if first, seen := w.since[key]; !seen || s.State.Running == nil {
				w.since[key] = time.Now()
				return false
			} else if time.Since(first) < probation {
				return false
			}
		}
	}
	return true
}

func running(pods []corev1.Pod) []Pod {
	var all []Pod
	for i := range pods {
		p := &pods[i]
		images := map[string]string{}
		asked := map[string]string{}
		for _, c := range p.Spec.Containers {
			asked[c.Name] = c.Image
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Running != nil {
				images[asked[s.Name]] = s.ImageID
			}
		}
		all = append(all, Pod{Name: p.Name, Node: p.Spec.NodeName, Images: images})
	}
	return all
}
