package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// server holds one object, whose fixed field cannot be changed and whose replicas
// must not be negative, as a stand-in for the API server.
type server struct {
	there   *unstructured.Unstructured
	lingers int // how often the object is still seen after its deletion
	gone    bool
	options string // of the deletion
	made    int
}

func (s *server) react(action clienttesting.Action) (bool, runtime.Object, error) {
	if s.gone {
		if s.lingers--; s.lingers < 0 {
			s.there, s.gone = nil, false
		}
	}
	switch a := action.(type) {
	case clienttesting.PatchActionImpl:
		return s.apply(a)
	case clienttesting.DeleteActionImpl:
		s.gone, s.options = true, string(*a.GetDeleteOptions().PropagationPolicy)
		return true, nil, nil
	}
	if s.there == nil {
		return true, nil, apierrors.NewNotFound(action.GetResource().GroupResource(), "app")
	}
	return true, s.there.DeepCopy(), nil
}

func (s *server) apply(a clienttesting.PatchActionImpl) (bool, runtime.Object, error) {
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal(a.GetPatch(), o); err != nil {
		return true, nil, err
	}
	fixed := func(o *unstructured.Unstructured) string { return o.GetAnnotations()["fixed"] }
	var wrong field.ErrorList
	if o.GetAnnotations()["replicas"] == "-1" {
		wrong = append(wrong, field.Invalid(field.NewPath("spec", "replicas"), -1, "must be greater than or equal to 0"))
	}
	if s.there != nil && fixed(s.there) != fixed(o) {
		wrong = append(wrong, field.Invalid(field.NewPath("spec", "selector"), fixed(o), "field is immutable"))
	}
	if len(wrong) > 0 {
		return true, nil, apierrors.NewInvalid(o.GroupVersionKind().GroupKind(), a.GetName(), wrong)
	}
	if s.there == nil {
		s.made++
		o.SetUID(types.UID(strings.Repeat("u", s.made)))
	} else {
		o.SetUID(s.there.GetUID())
	}
	s.there = o
	return true, o.DeepCopy(), nil
}

// still is a mapper of kinds that never change.
type still struct{ meta.RESTMapper }

func (still) Reset() {}

func thing(kind, fixed, replicas string) object {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": "app"}}}
	o.SetAnnotations(map[string]string{"fixed": fixed, "replicas": replicas})
	return object{Unstructured: o, file: "app.yaml"}
}

// TestWhatMayNotBeChangedIsMadeAnew: an object that an earlier run left is in the
// way, which is no fault of the manifest.
func TestWhatMayNotBeChangedIsMadeAnew(t *testing.T) {
	for name, tt := range map[string]struct {
		kind, fixed, replicas string
		lingers               int
		made                  int           // objects, the one before included
		class                 failure.Class // empty: applied
	}{
		"unchanged":                          {kind: "Service", fixed: "old", made: 1},
		"may be changed":                     {kind: "Service", fixed: "old", replicas: "2", made: 1},
		"may not be changed":                 {kind: "Service", fixed: "new", made: 2},
		"takes a while to go":                {kind: "Service", fixed: "new", lingers: 9, made: 2},
		"does not go":                        {kind: "Service", fixed: "new", lingers: 1 << 30, made: 1, class: failure.StaleState},
		"invalid":                            {kind: "Service", fixed: "old", replicas: "-1", made: 1, class: failure.TestFailure},
		"invalid also when made anew":        {kind: "Service", fixed: "new", replicas: "-1", made: 1, class: failure.TestFailure},
		"a claim, whose data would go":       {kind: "PersistentVolumeClaim", fixed: "new", made: 1, class: failure.StaleState},
		"a namespace":                        {kind: "Namespace", fixed: "new", made: 1, class: failure.StaleState},
		"a definition, whose objects follow": {kind: "CustomResourceDefinition", fixed: "new", made: 1, class: failure.StaleState},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{lingers: tt.lingers}
				client := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
				client.PrependReactor("*", "*", s.react)
				mapper := meta.NewDefaultRESTMapper(nil)
				mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: tt.kind}, meta.RESTScopeRoot)
				var said bytes.Buffer
				a := &applier{dynamic: client, mapper: still{mapper}, log: slog.New(slog.NewTextHandler(&said, nil)), report: progress.Func(nil).Or()}
				put := func(o object) (Object, error) { return a.apply(t.Context(), o) }
				if tt.kind == "CustomResourceDefinition" { // apply waits until one is served
					s.made, s.there = 1, thing(tt.kind, "old", "").Unstructured
				} else if first, err := put(thing(tt.kind, "old", "")); err != nil || !first.Changed {
					t.Fatalf("first: %+v, %v", first, err)
				}
				got, err := put(thing(tt.kind, tt.fixed, tt.replicas))
				if s.made != tt.made {
					t.Errorf("%d objects were made, want %d; %v", s.made, tt.made, err)
				}
				if tt.class != "" {
					if e := failure.As(err); e == nil || e.Class != tt.class || tt.class == failure.StaleState && !strings.Contains(e.Remedy, "teardown") {
						t.Errorf("error %v, want class %s", err, tt.class)
					}
					return
				}
				if err != nil || got.Changed != (name != "unchanged") {
					t.Errorf("%+v, %v", got, err)
				}
				if anew := tt.made > 1; anew && (s.options != "Foreground" || !strings.Contains(said.String(), "app")) {
					t.Errorf("deleted %q, logged %q", s.options, said.String())
				}
			})
		})
	}
}

func TestWhatTheServerCallsUnchangeable(t *testing.T) {
	for detail, want := range map[string]bool{
		"field is immutable": true, "field is immutable when `immutable` is set": true, "cannot change roleRef": true,
		"updates to statefulset spec for fields other than 'replicas' are forbidden":  true,
		"spec is immutable after creation except resources.requests for bound claims": true,
		"pod updates may not change fields other than `spec.containers[*].image`":     true,
		"may not change once set":             true,
		"must be greater than or equal to 0":  false,
		"Unsupported value: supported values": false,
	} {
		err := apierrors.NewInvalid(schema.GroupKind{Kind: "X"}, "x", field.ErrorList{field.Forbidden(field.NewPath("spec"), detail)})
		if unchangeable(err) != want {
			t.Errorf("%q: want %v", detail, want)
		}
	}
	if unchangeable(apierrors.NewBadRequest("field is immutable")) {
		t.Error("a request that is not understood is not about the object")
	}
}

func TestWhoseFaultARefusalIs(t *testing.T) {
	namespaces := schema.GroupResource{Resource: "namespaces"}
	for name, c := range map[string]struct {
		err  error
		want failure.Class // empty: left to the text
	}{
		"does not serve yet":                    {apierrors.NewServiceUnavailable("starting"), failure.ClusterUnready},
		"too busy":                              {apierrors.NewTooManyRequests("later", 1), failure.ClusterUnready},
		"knows nobody's rights yet":             {apierrors.NewForbidden(namespaces, "press", errors.New(`User "kubernetes-admin" cannot patch resource "namespaces"`)), failure.ClusterUnready},
		"the same, in a form nobody can read":   {apierrors.NewGenericServerResponse(403, "PATCH", schema.GroupResource{}, "", "unknown", 0, true), failure.ClusterUnready},
		"in a namespace that is being deleted":  {apierrors.NewForbidden(namespaces, "press", errors.New("unable to create new content in namespace press because it is being terminated")), ""},
		"against a policy":                      {apierrors.NewForbidden(namespaces, "press", errors.New("violates PodSecurity \"restricted:latest\"")), ""},
		"invalid":                               {apierrors.NewInvalid(schema.GroupKind{Kind: "Namespace"}, "press", nil), failure.TestFailure},
		"by a webhook that is not there":        {apierrors.NewInternalError(errors.New("failed calling webhook")), ""},
		"by a connection, not by an API server": {errors.New("EOF"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := failure.As((&applier{}).explain(thing("Namespace", "", ""), c.err))
			if got == nil && c.want != "" || got != nil && got.Class != c.want {
				t.Errorf("got %+v, want class %q", got, c.want)
			}
		})
	}
}
