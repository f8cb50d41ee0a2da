package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// goneLimit is how long a deleted object, with all that depends on it, may take
// to go: pods have 30 seconds to end, unless their manifest says otherwise.
const goneLimit = 90 * time.Second

// holders are the kinds with which data, or objects of others, would go.
var holders = []string{"CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"}

// unchangeable reports whether the API server refuses a change, rather than what
// the object would be. The words are those of validation on update
// (k8s.io/apimachinery/pkg/api/validation, k8s.io/kubernetes/pkg/apis/*/validation).
func unchangeable(err error) bool {
	return apierrors.IsInvalid(err) && slices.ContainsFunc(
		[]string{"immutable", "updates to ", "cannot change roleRef", "may not change", "may not be changed", "may not be updated", "may not add or remove"},
		func(words string) bool { return strings.Contains(err.Error(), words) })
}

// replace deletes an object of an earlier run, waits until it is gone and applies
// it anew: the cluster is this project's own. refused is why it is not changed.
func (a *applier) replace(ctx context.Context, client dynamic.ResourceInterface, before *unstructured.Unstructured, obj object, refused error) (*unstructured.Unstructured, error) {
	const remedy = "mage teardown, then run again"
	if slices.Contains(holders, obj.GetKind()) {
		e := failure.New(failure.StaleState, fmt.Sprintf("%s is there from an earlier run and may not be changed to what is given (%s)", obj, obj.origin()), remedy, refused)
		e.Retry = failure.FailFast
		return nil, e
	}
	a.log.Warn("an object of an earlier run may not be changed; made anew", "object", obj.String(), "namespace", before.GetNamespace(), "why", refused)
	a.report(progress.Update{What: "deploy", Line: "making anew " + obj.String()})
	within, cancel := context.WithTimeoutCause(ctx, goneLimit, failure.New(failure.StaleState,
		fmt.Sprintf("%s, which may not be changed, is still there %s after its deletion", obj, goneLimit), remedy, refused))
	defer cancel()
	if err := deleted(within, client, before); err != nil {
		return nil, fmt.Errorf("delete the %s of an earlier run: %w", obj, err)
	}
	return put(ctx, client, obj)
}

// deleted deletes an object and what depends on it, and returns when it is gone.
func deleted(ctx context.Context, client dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	foreground := metav1.DeletePropagationForeground
	err := client.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &foreground})
	for err == nil {
		var there *unstructured.Unstructured
		if there, err = client.Get(ctx, o.GetName(), metav1.GetOptions{}); err != nil || there.GetUID() != o.GetUID() {
			break
		}
		err = pause(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case apierrors.IsNotFound(err):
		return nil
	}
	return err
}

// origin names where an object is from, for people.
func (o object) origin() string {
	if o.file == "" {
		return "made by the pipeline"
	}
	return o.file
}

// explain says whose fault an object's refusal is: one that the API server
// calls invalid or does not know is the manifest's. One that is no answer yet is
// the cluster's: a server that has just started may not even know who may do
// what, and the kubeconfig here is the cluster's administrator's.
func (a *applier) explain(obj object, err error) error {
	if failure.As(err) != nil {
		return err
	}
	err = fmt.Errorf("apply %s (%s): %w", obj, obj.origin(), err)
	var status apierrors.APIStatus
	refused := errors.As(err, &status) && (status.Status().Code == 400 || status.Status().Code == 422)
	// A wrong type is reported with code 500.
	refused = refused || strings.Contains(err.Error(), "failed to create typed patch object")
	if refused || meta.IsNoMatchError(err) {
		return failure.New(failure.TestFailure, fmt.Sprintf("the cluster refuses %s", obj), "correct "+obj.origin(), err)
	}
	if noAnswerYet(err) {
		return failure.New(failure.ClusterUnready, fmt.Sprintf("the API server does not take %s yet", obj), "mage doctor, then run again", err)
	}
	return err
}

// noAnswerYet reports whether the API server says that it cannot serve, or, in
// the words of its authorizer (k8s.io/apiserver/pkg/endpoints/handlers/responsewriters)
// or in none that client-go can read, that this user may not.
func noAnswerYet(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsForbidden(err) && errors.As(err, &status) && (strings.HasPrefix(status.Status().Message, "unknown") || strings.Contains(err.Error(), `: User "`))
}
