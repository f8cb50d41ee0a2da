package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrepareOrdersAndCompletes(t *testing.T) {
	path := file(t, "all.yaml", `# a comment only
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: s}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: x.y.z}
`)
	objects, err := prepare(Options{Files: []string{path}, Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.String())
	}
	want := []string{"Namespace ns", "CustomResourceDefinition x.y.z", "ConfigMap c", "Deployment d", "Service s"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPrepareRefuses(t *testing.T) {
	tests := []struct {
		name, path, want string
		class            failure.Class
	}{
		{"no file", filepath.Join(t.TempDir(), "none.yaml"), "none.yaml", failure.Configuration},
		{"empty folder", t.TempDir(), "no .yaml", failure.Configuration},
		{"torn", file(t, "torn.yaml", "kind: ["), "torn.yaml", failure.TestFailure},
		{"no name", file(t, "anon.yaml", "apiVersion: v1\nkind: Pod\n"), "metadata.name", failure.TestFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := prepare(Options{Files: []string{tt.path}})
			if e := failure.As(err); e == nil || e.Class != tt.class || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want class %s with %q", err, tt.class, tt.want)
			}
		})
	}
}

func TestSetImages(t *testing.T) {
	const ref = "localhost/kubernaut-hapi:abc"
	tests := map[string]bool{
		"kubernaut-hapi": true, "kubernaut-hapi:dev": true, "localhost/kubernaut-hapi:x": true,
		"registry:5000/team/kubernaut-hapi": true, "kubernaut-hapi@sha256:00": true,
		"kubernaut-hapi2": false, "hapi": false, "kubernaut-hapi/other": false,
	}
	for image, replaced := range tests {
		o := object{Unstructured: &unstructured.Unstructured{Object: map[string]any{"kind": "Deployment", "spec": map[string]any{
			"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": image}}}}}}}}
		if _, err := setImages(o, map[string]string{"kubernaut-hapi": ref}); err != nil {
			t.Fatal(err)
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		c := list[0].(map[string]any)
		if (c["image"] == ref) != replaced || (c["imagePullPolicy"] == "Never") != replaced {
			t.Errorf("%s became %v", image, c)
		}
	}
}
