package deploy

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func aPod(name, revision string, phase corev1.PodPhase) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"revision": revision}}}
	p.Spec.Containers = []corev1.Container{{Name: "main"}}
	p.Status.Phase = phase
	status := corev1.ContainerStatus{Name: "main", Ready: phase == corev1.PodRunning}
	if phase == corev1.PodRunning {
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now().Add(-time.Hour))}
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	return p
}

// TestFinishedPodsDoNotCount: a Deployment keeps evicted pods, of its newest form
// too; a rollout is complete beside them.
func TestFinishedPodsDoNotCount(t *testing.T) {
	ending := aPod("ending", "2", corev1.PodRunning)
	ending.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	all := []corev1.Pod{
		aPod("runs", "2", corev1.PodRunning), aPod("starts", "2", corev1.PodPending),
		aPod("evicted", "2", corev1.PodFailed), aPod("over", "2", corev1.PodSucceeded),
		aPod("older", "1", corev1.PodRunning), aPod("older-evicted", "1", corev1.PodFailed), ending,
	}
	current, old := split(all, labelled("revision", "2"))
	if len(current) != 2 || current[0].Name != "runs" || current[1].Name != "starts" || old != 2 {
		t.Errorf("current %v, %d old", running(current), old)
	}
	current, _ = split([]corev1.Pod{all[0], all[2], all[3]}, labelled("revision", "2"))
	w := waiter{since: map[string]time.Time{}}
	if got := running(current); !w.steady("app", current) || len(got) != 1 || got[0].Name != "runs" {
		t.Errorf("an evicted pod keeps the rollout from being steady, or is said to run: %v", got)
	}
	current[0].Status.ContainerStatuses[0].Ready = false
	if w.steady("app", current) {
		t.Error("a rollout is steady whose pod is not ready")
	}
}
