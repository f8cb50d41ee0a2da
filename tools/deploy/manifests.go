// Package deploy puts a workload's manifests into a cluster and waits until it
// runs, or says why it does not and whose fault that is.
//
// It knows a cluster only by its kubeconfig. It owns the order of objects, the
// replacement of image names by the references that were loaded, and the
// verdict on a pod that cannot start. It does not build or load images.
package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// object is one object of a manifest, and where it came from.
type object struct {
	*unstructured.Unstructured
	file string
}

func (o object) String() string { return o.GetKind() + " " + o.GetName() }

// read decodes the files in order. A folder stands for its .yaml, .yml and
// .json files by name, without its subfolders.
func read(paths []string) ([]object, error) {
	var all []object
	for _, path := range paths {
		files, err := expand(path)
		if err != nil {
			return nil, failure.New(failure.Configuration, fmt.Sprintf("manifest %q cannot be read", path),
				"correct the path in the suite's manifests", err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				return nil, failure.New(failure.Configuration, fmt.Sprintf("manifest %q cannot be read", f), "correct its permissions", err)
			}
			objects, err := decode(raw)
			if err != nil {
				return nil, failure.New(failure.TestFailure, fmt.Sprintf("manifest %q is not valid", f), "correct the file", err)
			}
			for _, o := range objects {
				all = append(all, object{Unstructured: o, file: f})
			}
		}
	}
	return all, nil
}

func expand(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
			if !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, errors.New("no .yaml, .yml or .json file in this folder")
	}
	return files, nil
}

// decode reads every document of one file; kind List is unfolded.
func decode(raw []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for n := 1; ; n++ {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		u := &unstructured.Unstructured{}
		if err := utilyaml.Unmarshal(doc, &u.Object); err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if len(u.Object) == 0 { // comments only
			continue
		}
		if u.IsList() {
			err := u.EachListItem(func(item runtime.Object) error {
				all = append(all, item.(*unstructured.Unstructured))
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("document %d: %w", n, err)
			}
			continue
		}
		if u.GetAPIVersion() == "" || u.GetKind() == "" || u.GetName() == "" {
			return nil, fmt.Errorf("document %d: apiVersion, kind and metadata.name are required", n)
		}
		all = append(all, u)
	}
}

// order moves what others depend on to the front and keeps the rest as given.
func order(all []object) {
	rank := func(o object) int {
		switch o.GetKind() {
		case "Namespace":
			return 0
		case "CustomResourceDefinition":
			return 1
		case "ServiceAccount", "ConfigMap", "Secret":
			return 2
		}
		return 3
	}
	sort.SliceStable(all, func(i, j int) bool { return rank(all[i]) < rank(all[j]) })
}

// podSpec is the path to the pod spec in an object of this kind; nil: it has none.
func podSpec(kind string) []string {
	switch kind {
	case "Pod":
		return []string{"spec"}
	case "Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job":
		return []string{"spec", "template", "spec"}
	case "CronJob":
		return []string{"spec", "jobTemplate", "spec", "template", "spec"}
	}
	return nil
}

// setImages replaces each container image whose name is a key by its reference,
// with pull policy Never: the reference was loaded and exists in no registry.
// It returns the keys that were used.
func setImages(o object, images map[string]string) ([]string, error) {
	path := podSpec(o.GetKind())
	if path == nil {
		return nil, nil
	}
	var used []string
	for _, list := range []string{"initContainers", "containers"} {
		field := append(append([]string{}, path...), list)
		containers, found, err := unstructured.NestedSlice(o.Object, field...)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		for _, c := range containers {
			container, ok := c.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%s: a container is not an object", strings.Join(field, "."))
			}
			image, _ := container["image"].(string)
			key := imageName(image)
			if ref, ok := images[key]; ok {
				container["image"], container["imagePullPolicy"] = ref, "Never"
				used = append(used, key)
			}
		}
		if err := unstructured.SetNestedSlice(o.Object, containers, field...); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// imageName is an image reference without registry, path, tag and digest:
// localhost/kubernaut-hapi:dev becomes kubernaut-hapi.
func imageName(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	ref = ref[strings.LastIndex(ref, "/")+1:]
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}
