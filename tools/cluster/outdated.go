package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// outdated returns what the API server still tells of the time before a node
// was started: pods whose containers ended then, and services that lead to
// addresses that pods had then. Until a kubelet and the controllers have caught
// up, which takes ten seconds and more, such pods count as ready and calls to
// such services are lost.
func (c Cluster) outdated(ctx context.Context, client kubernetes.Interface, found []engine.Container) error {
	started := map[string]time.Time{}
	for _, n := range kubernetesNodes(found) {
		at, err := c.Engine.Started(ctx, n.ID)
		if err != nil {
			return fmt.Errorf("ask since when node %s runs: %w", n.Name, err)
		}
		started[n.Name] = at
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	services, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list endpoints of services: %w", err)
	}
	return errors.Join(beforeStart(pods.Items, started), formerAddress(services.Items, pods.Items))
}

// beforeStart names a pod of which the kubelet has not reported since its node
// was started. A node's containers and the node itself are timed by one clock.
func beforeStart(pods []corev1.Pod, started map[string]time.Time) error {
	for _, p := range pods {
		since := started[p.Spec.NodeName].Truncate(time.Second) // as exact as the API's times
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Running != nil && s.State.Running.StartedAt.Time.Before(since) {
				return fmt.Errorf("pod %s/%s has not been heard of since node %s was started", p.Namespace, p.Name, p.Spec.NodeName)
			}
		}
	}
	return nil
}

// formerAddress names a service that leads to an address that its pod does not
// have.
func formerAddress(services []discoveryv1.EndpointSlice, pods []corev1.Pod) error {
	addresses := map[string][]string{}
	for _, p := range pods {
		for _, ip := range p.Status.PodIPs {
			addresses[p.Namespace+"/"+p.Name] = append(addresses[p.Namespace+"/"+p.Name], ip.IP)
		}
	}
	for _, s := range services {
		for _, e := range s.Endpoints {
			if !serves(e) || e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
				continue
			}
			pod := e.TargetRef.Namespace + "/" + e.TargetRef.Name
			for _, a := range e.Addresses {
				if !slices.Contains(addresses[pod], a) {
					return fmt.Errorf("service %s/%s still leads to %s, which pod %s does not have", s.Namespace, s.Labels[discoveryv1.LabelServiceName], a, pod)
				}
			}
		}
	}
	return nil
}

// dnsReachable returns nil if the service of cluster DNS leads to a pod.
func dnsReachable(ctx context.Context, client kubernetes.Interface) error {
	s, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kube-dns"})
	if err != nil {
		return fmt.Errorf("list endpoints of cluster DNS: %w", err)
	}
	for _, slice := range s.Items {
		if slices.ContainsFunc(slice.Endpoints, serves) {
			return nil
		}
	}
	return errors.New("the service of cluster DNS leads to no pod")
}

// serves says whether calls are sent to an endpoint; unset means so
// (k8s.io/api/discovery/v1, EndpointConditions).
func serves(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }
