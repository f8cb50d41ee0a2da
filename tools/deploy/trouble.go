package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// grace is how long a trouble that may pass is watched before it counts: a
// mount or a place on a node often comes a moment later.
const grace = 20 * time.Second

// passing wraps a trouble that is not yet final.
type passing struct{ trouble *failure.Error }

func (p passing) Error() string { return p.trouble.Error() }
func (p passing) Unwrap() error { return p.trouble }

func final(err error) bool {
	var p passing
	return !errors.As(err, &p)
}

// judge says in one line where a rollout stands, and why it fails if it does.
func (w waiter) judge(ctx context.Context, name string, r rollout, pods []corev1.Pod, old int) (string, error) {
	for i := range pods {
		if err := w.pod(ctx, &pods[i]); err != nil {
			return err.Cause, w.lasting(pods[i].Name+err.Cause, err)
		}
	}
	if r.trouble != "" {
		err := failure.New(failure.TestFailure, name+" cannot make its pods: "+r.trouble, "correct its manifest", nil)
		return err.Cause, w.lasting(name, err)
	}
	if r.complete && old > 0 {
		return fmt.Sprintf("%d pod(s) of an older form still end", old), nil
	}
	for i := range pods {
		for _, s := range pods[i].Status.ContainerStatuses {
			if s.State.Running != nil && !s.Ready {
				return fmt.Sprintf("%s; container %s of pod %s runs but is not ready", r.progress, s.Name, pods[i].Name), nil
			}
			if s.State.Waiting != nil {
				return fmt.Sprintf("%s; container %s of pod %s: %s", r.progress, s.Name, pods[i].Name, s.State.Waiting.Reason), nil
			}
		}
	}
	return r.progress, nil
}

// lasting makes a trouble final at once if its class says that waiting is
// useless, else after the grace.
func (w waiter) lasting(key string, err *failure.Error) error {
	if err.Signature == immediate {
		return err
	}
	first, seen := w.since[key]
	if !seen {
		w.since[key] = time.Now()
		return passing{err}
	}
	if time.Since(first) < grace {
		return passing{err}
	}
	return err
}

// immediate marks, as the diagnosis' signature, a trouble that cannot pass.
const immediate = "workload-cannot-start"

func now(class failure.Class, cause, remedy string, err error) *failure.Error {
	e := failure.New(class, cause, remedy, err)
	e.Signature = immediate
	return e
}

// pod says why a pod cannot start; nil if nothing speaks against it.
func (w waiter) pod(ctx context.Context, p *corev1.Pod) *failure.Error {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			class, remedy := failure.ClusterUnready, "mage doctor"
			if strings.Contains(c.Message, "Insufficient") {
				class, remedy = failure.Resources, "give the engine more CPU or memory, or lower the requests in the manifest"
			}
			return failure.New(class, fmt.Sprintf("pod %s finds no node: %s", p.Name, c.Message), remedy, nil)
		}
	}
	images := map[string]string{}
	for _, c := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
		images[c.Name] = c.Image
	}
	for _, s := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		if err := w.container(ctx, p, s, images[s.Name]); err != nil {
			return err
		}
	}
	return nil
}

func (w waiter) container(ctx context.Context, p *corev1.Pod, s corev1.ContainerStatus, image string) *failure.Error {
	who := fmt.Sprintf("container %s of pod %s", s.Name, p.Name)
	if t := s.LastTerminationState.Terminated; t != nil && !s.Ready && crashed(s) {
		return w.crash(ctx, p, s, t)
	}
	if s.State.Waiting == nil {
		return nil
	}
	reason, message := s.State.Waiting.Reason, s.State.Waiting.Message
	said := errors.New(strings.TrimSuffix(reason+": "+message, ": "))
	switch reason {
	case "ErrImageNeverPull":
		if w.loaded[image] {
			return now(failure.StaleState, fmt.Sprintf("image %s is not on node %s any more", image, p.Spec.NodeName), "mage loadImage "+image, said)
		}
		return now(failure.ImageReference, fmt.Sprintf("image %s of %s is on no node and may not be pulled", image, who),
			"add it to the suite's images, or correct the manifest", said)
	case "InvalidImageName":
		return now(failure.ImageReference, fmt.Sprintf("image %s of %s is not a reference", image, who), "correct the manifest", said)
	case "ErrImagePull", "ImagePullBackOff":
		class, remedy := failure.Network, "check the way to the registry, or add the image to the suite's images"
		for _, wrong := range []string{"not found", "manifest unknown", "unauthorized", "denied"} {
			if strings.Contains(message, wrong) {
				class, remedy = failure.ImageReference, "correct the image in the manifest"
			}
		}
		return failure.New(class, fmt.Sprintf("image %s of %s cannot be pulled", image, who), remedy, said)
	case "CreateContainerConfigError":
		return failure.New(failure.TestFailure, who+" cannot be configured", "correct its manifest", said)
	case "CreateContainerError", "RunContainerError":
		if strings.Contains(message, "exec format error") {
			return now(failure.ImageReference, fmt.Sprintf("image %s is for another architecture than node %s", image, p.Spec.NodeName), "build it for the node's platform", said)
		}
		if strings.Contains(message, "executable file not found") || strings.Contains(message, "no such file or directory") {
			return now(failure.TestFailure, who+" has no such program to start", "correct the image's entry point or the manifest's command", said)
		}
		return failure.New(failure.Unknown, who+" cannot be made", "mage doctor", said)
	}
	return nil
}

// crashed reports whether a container failed often enough that it will again:
// the kubelet restarts it at once after the first end, and waits (and says
// CrashLoopBackOff) after the second.
func crashed(s corev1.ContainerStatus) bool {
	return s.RestartCount >= 2 || s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
}

func (w waiter) crash(ctx context.Context, p *corev1.Pod, s corev1.ContainerStatus, t *corev1.ContainerStateTerminated) *failure.Error {
	tail := w.tail(ctx, p, s.Name)
	how := fmt.Sprintf("exit code %d", t.ExitCode)
	remedy := "correct the program; its last lines are above"
	switch {
	case strings.Contains(tail+t.Message, "exec format error"):
		return now(failure.ImageReference, fmt.Sprintf("container %s of pod %s is for another architecture than node %s", s.Name, p.Name, p.Spec.NodeName),
			"build the image for the node's platform", errors.New(tail+t.Message))
	case t.Reason == "OOMKilled":
		how, remedy = "killed for using more memory than its limit", "raise resources.limits.memory in its manifest, or use less"
	case strings.Contains(t.Message, "Liveness") || strings.Contains(t.Message, "liveness"):
		how = "its liveness probe fails"
	}
	said := strings.TrimSpace(t.Message + "\n" + tail)
	return now(failure.TestFailure, fmt.Sprintf("container %s of pod %s crashes at start (%s, %d restarts)", s.Name, p.Name, how, s.RestartCount),
		remedy, errors.New(said))
}

// logsLost is what the kubelet answers instead of a log whose container it has
// just removed, and not as an error.
const logsLost = "unable to retrieve container logs"

// tail returns the last lines of a run of a container that crashed. The run
// before this one may be cleared away while it is asked for.
func (w waiter) tail(ctx context.Context, p *corev1.Pod, container string) string {
	lines := int64(20)
	for _, previous := range []bool{true, false, true} {
		raw, err := w.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
			Container: container, Previous: previous, TailLines: &lines,
		}).DoRaw(ctx)
		if err == nil && len(raw) > 0 && !strings.HasPrefix(string(raw), logsLost) {
			return strings.TrimSpace(string(raw))
		}
	}
	return "(it wrote nothing)"
}

// tooLate is the verdict when time ran out with nothing final seen. A container
// that runs and is not ready speaks against the workload, but not surely.
func (w waiter) tooLate(name string, limit time.Duration, last string, seen error) error {
	cause := fmt.Sprintf("%s is not ready after %s", name, limit)
	if e := failure.As(seen); e != nil {
		return failure.New(e.Class, cause, e.Remedy, errors.New(e.Cause))
	}
	e := failure.New(failure.ClusterUnready, cause, "mage doctor, then run again; the pods' state is in the run's evidence folder", errors.New(last))
	if strings.Contains(last, "runs but is not ready") {
		e.Class, e.Remedy, e.Retry = failure.TestFailure, "see its readiness probe and its log in the run's evidence folder", failure.FailFast
	}
	e.Confidence = "medium"
	return e
}
