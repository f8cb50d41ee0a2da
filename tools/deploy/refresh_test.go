package deploy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestOnlyPodsThatComeBackAreDeleted(t *testing.T) {
	yes := true
	pod := func(namespace, name string, owned bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if owned {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "set", Controller: &yes}}
		}
		return p
	}
	client := fake.NewClientset(pod("ours", "made-again", true), pod("ours", "by-hand", false), pod("other", "made-again", true))
	n, err := refresh(t.Context(), client, "ours")
	if err != nil || n != 1 {
		t.Fatalf("%d deleted, %v", n, err)
	}
	left, err := client.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range left.Items {
		if p.Namespace == "ours" && p.Name == "made-again" {
			t.Error("the pod that comes back is still there")
		}
	}
	if len(left.Items) != 2 {
		t.Errorf("%d pods left", len(left.Items))
	}
}
