package deploy

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Refresh deletes the pods of a namespace that a controller makes again, and
// returns how many. After a node's restart their restart counts and last exits
// tell of the node, and would be taken for crashes of the program.
func Refresh(ctx context.Context, kubeconfig, namespace string) (int, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return 0, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return 0, fmt.Errorf("connect with %q: %w", kubeconfig, err)
	}
	return refresh(ctx, client, namespace)
}

func refresh(ctx context.Context, client kubernetes.Interface, namespace string) (int, error) {
	pods := client.CoreV1().Pods(namespace)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list pods of %s: %w", namespace, err)
	}
	deleted := 0
	now := int64(0) // their containers died with the node
	for i := range list.Items {
		p := &list.Items[i]
		if metav1.GetControllerOf(p) == nil {
			continue
		}
		err := pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			return deleted, fmt.Errorf("delete pod %s/%s: %w", namespace, p.Name, err)
		}
		deleted++
	}
	return deleted, nil
}
