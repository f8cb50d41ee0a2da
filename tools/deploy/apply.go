package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// FieldManager owns the fields that Apply sets.
const FieldManager = "kubernaut-e2e"

// Options is what to deploy.
type Options struct {
	Files     []string          // manifests or folders of them, in this order
	Images    map[string]string // image name in the manifests, e.g. kubernaut-hapi, to the loaded reference
	Namespace string            // for namespaced objects that name none; made if no manifest makes it
	Log       *slog.Logger
	Progress  progress.Func
}

// Object is one applied object.
type Object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Changed   bool   `json:"changed"` // false: the cluster had it just so
}

// Applied is what Apply did.
type Applied struct {
	Objects []Object        `json:"objects"`
	images  map[string]bool // references that were loaded
}

// Changed counts the objects that were not in the cluster as given.
func (a Applied) Changed() int {
	n := 0
	for _, o := range a.Objects {
		if o.Changed {
			n++
		}
	}
	return n
}

// Apply brings the objects of o.Files into the cluster by server-side apply.
// Objects that are there as given are not touched; one that an earlier run left
// and that may not be changed to what is given is made anew, unless it holds
// data: that is a failure of class stale-state. Kubeconfig is a file's path.
// On failure what was applied stays; applying again is safe.
func Apply(ctx context.Context, kubeconfig string, o Options) (Applied, error) {
	objects, err := prepare(o)
	if err != nil {
		return Applied{}, err
	}
	a, err := newApplier(kubeconfig, o)
	if err != nil {
		return Applied{}, err
	}
	done := Applied{images: map[string]bool{}}
	for _, ref := range o.Images {
		done.images[ref] = true
	}
	for _, obj := range objects {
		result, err := a.apply(ctx, obj)
		if err != nil {
			return done, err
		}
		done.Objects = append(done.Objects, result)
		if result.Changed {
			o.Progress.Or()(progress.Update{What: "deploy", Line: "applied " + obj.String()})
		}
	}
	return done, nil
}

// prepare reads, completes and orders the objects.
func prepare(o Options) ([]object, error) {
	objects, err := read(o.Files)
	if err != nil {
		return nil, err
	}
	made := false
	for _, obj := range objects {
		if _, err := setImages(obj, o.Images); err != nil {
			return nil, failure.New(failure.TestFailure, fmt.Sprintf("manifest %q: %s is not valid", obj.file, obj), "correct the file", err)
		}
		made = made || obj.GetKind() == "Namespace" && obj.GetName() == o.Namespace
	}
	if o.Namespace != "" && !made {
		ns := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": o.Namespace},
		}}
		objects = append([]object{{Unstructured: ns}}, objects...)
	}
	order(objects)
	return objects, nil
}

type applier struct {
	namespace string
	log       *slog.Logger
	report    progress.Func
	dynamic   dynamic.Interface
	mapper    meta.ResettableRESTMapper
}

func newApplier(kubeconfig string, o Options) (*applier, error) {
	cfg, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &applier{
		namespace: o.Namespace, log: log, report: o.Progress.Or(), dynamic: d,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
	}, nil
}

func (a *applier) apply(ctx context.Context, obj object) (Object, error) {
	result := Object{Kind: obj.GetKind(), Name: obj.GetName()}
	mapping, err := a.mapping(ctx, obj.GroupVersionKind())
	if err != nil {
		return result, a.explain(obj, err)
	}
	var client dynamic.ResourceInterface = a.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if obj.GetNamespace() == "" {
			obj.SetNamespace(a.namespace)
		}
		if obj.GetNamespace() == "" {
			obj.SetNamespace(metav1.NamespaceDefault)
		}
		result.Namespace = obj.GetNamespace()
		client = a.dynamic.Resource(mapping.Resource).Namespace(obj.GetNamespace())
	}
	before, err := client.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		before, err = nil, nil
	}
	if err != nil {
		return result, a.explain(obj, err)
	}
	after, err := put(ctx, client, obj)
	if err != nil && before != nil && unchangeable(err) {
		after, err = a.replace(ctx, client, before, obj, err)
		before = nil
	}
	if err != nil {
		return result, a.explain(obj, err)
	}
	result.Changed = !sameContent(before, after)
	if obj.GetKind() == "CustomResourceDefinition" {
		return result, a.established(ctx, client, obj)
	}
	return result, nil
}

func put(ctx context.Context, client dynamic.ResourceInterface, obj object) (*unstructured.Unstructured, error) {
	return client.Apply(ctx, obj.GetName(), obj.Unstructured, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
}

// sameContent compares what manifests can set. The resource version is no
// measure: it also changes with the record of who manages which field.
func sameContent(a, b *unstructured.Unstructured) bool {
	if a == nil || b == nil {
		return false
	}
	content := func(u *unstructured.Unstructured) map[string]any {
		c := u.DeepCopy().Object
		delete(c, "status")
		unstructured.RemoveNestedField(c, "metadata", "managedFields")
		unstructured.RemoveNestedField(c, "metadata", "resourceVersion")
		return c
	}
	return reflect.DeepEqual(content(a), content(b))
}

// mapping finds the resource of a kind. A kind that is not known is looked for
// again for a while: its definition may have been applied a moment ago.
func (a *applier) mapping(ctx context.Context, gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	const patience = 5 * time.Second
	until := time.Now().Add(patience)
	for {
		m, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err == nil || !meta.IsNoMatchError(err) || time.Now().After(until) {
			return m, err
		}
		a.mapper.Reset()
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// established waits until the API server serves a definition's resources.
func (a *applier) established(ctx context.Context, client dynamic.ResourceInterface, obj object) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		crd, err := client.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if err != nil {
			return a.explain(obj, err)
		}
		conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
		state := map[string]string{}
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok {
				state[fmt.Sprint(m["type"])] = fmt.Sprint(m["status"])
				if m["type"] == "NamesAccepted" && m["status"] == "False" {
					return a.explain(obj, fmt.Errorf("names not accepted: %v", m["message"]))
				}
			}
		}
		if state["Established"] == "True" {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for %s to be established: %w", obj, err)
		}
	}
}
