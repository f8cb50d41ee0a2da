package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestBeforeStart(t *testing.T) {
	started := time.Date(2026, 11, 27, 18, 45, 58, 700e6, time.UTC)
	nodes := map[string]time.Time{"press-control-plane": started}
	for _, c := range []struct {
		name  string
		node  string
		state corev1.ContainerState
		want  string // in the error; empty: none
	}{
		{"runs since before", "press-control-plane", runningSince(started.Add(-time.Minute)), "press-control-plane"},
		{"runs since the second of the start", "press-control-plane", runningSince(started.Truncate(time.Second)), ""},
		{"runs since after", "press-control-plane", runningSince(started.Add(8 * time.Second)), ""},
		{"waits", "press-control-plane", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, ""},
		{"ended", "press-control-plane", corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}, ""},
		{"is on a node that is not known", "other", runningSince(started.Add(-time.Minute)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "press", Name: "press-0"},
				Spec:       corev1.PodSpec{NodeName: c.node},
				Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: c.state}}},
			}
			expect(t, beforeStart([]corev1.Pod{pod}, nodes), c.want)
		})
	}
}

func runningSince(at time.Time) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}}
}

func TestFormerAddress(t *testing.T) {
	yes, no := true, false
	pods := []corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "press", Name: "press-0"},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.0.9"}, {IP: "fd00::9"}}},
	}}
	pod := &corev1.ObjectReference{Kind: "Pod", Namespace: "press", Name: "press-0"}
	gone := &corev1.ObjectReference{Kind: "Pod", Namespace: "press", Name: "press-1"}
	for _, c := range []struct {
		name     string
		endpoint discoveryv1.Endpoint
		want     string
	}{
		{"its address", discoveryv1.Endpoint{Addresses: []string{"10.244.0.9"}, TargetRef: pod}, ""},
		{"its other address", discoveryv1.Endpoint{Addresses: []string{"fd00::9"}, TargetRef: pod, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}, ""},
		{"its former address", discoveryv1.Endpoint{Addresses: []string{"10.244.0.2"}, TargetRef: pod}, "10.244.0.2"},
		{"its former address, not used", discoveryv1.Endpoint{Addresses: []string{"10.244.0.2"}, TargetRef: pod, Conditions: discoveryv1.EndpointConditions{Ready: &no}}, ""},
		{"a pod that is gone", discoveryv1.Endpoint{Addresses: []string{"10.244.0.3"}, TargetRef: gone}, "press/press-1"},
		{"no pod", discoveryv1.Endpoint{Addresses: []string{"10.89.0.2"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{c.endpoint}}
			s.Namespace, s.Labels = "press", map[string]string{discoveryv1.LabelServiceName: "press"}
			expect(t, formerAddress([]discoveryv1.EndpointSlice{s}, pods), c.want)
		})
	}
}

// expect wants no error if want is empty, else one with want in it.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}
