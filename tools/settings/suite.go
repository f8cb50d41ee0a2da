package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// SuiteFile is the name of a suite's definition in its folder.
const SuiteFile = "suite.yaml"

// Suite is one E2E suite as data. Paths are relative to the project's root.
type Suite struct {
	Name       string            `json:"name"`       // e.g. aianalysis
	Cluster    string            `json:"cluster"`    // Kind cluster name
	KindConfig string            `json:"kindConfig"` // any Kind v1alpha4 file
	Images     []Image           `json:"images"`
	Manifests  []string          `json:"manifests"` // files or folders, applied in this order
	Namespace  string            `json:"namespace"` // where the workload runs
	Tests      string            `json:"tests"`     // Ginkgo package, e.g. ./test/e2e/aianalysis
	Unit       string            `json:"unit"`      // go test pattern that shows the code is sound without a cluster
	Procs      int               `json:"procs"`     // parallel Ginkgo processes
	Timeout    Duration          `json:"timeout"`   // of the whole suite
	Stall      Duration          `json:"stall"`     // longest silence of the suite
	Env        map[string]string `json:"env"`       // given to the suite: URLs of the workload
}

// Image is one image of the workload.
type Image struct {
	Name       string            `json:"name"`       // service; the manifests' container image kubernaut-NAME is replaced
	Context    string            `json:"context"`    // build context folder
	Dockerfile string            `json:"dockerfile"` // relative to the context; empty: Dockerfile
	Program    string            `json:"program"`    // Go main package compiled into the context as NAME before the build; empty: none
	Args       map[string]string `json:"args"`       // build arguments
	Labels     map[string]string `json:"labels"`     // extra image labels
}

// Repository is the image's name without a tag.
func (i Image) Repository() string { return "localhost/kubernaut-" + i.Name }

// Duration is a time.Duration written as "20m" in YAML.
type Duration struct{ time.Duration }

// UnmarshalJSON reads a Go duration string.
func (d *Duration) UnmarshalJSON(b []byte) error {
	v, err := time.ParseDuration(strings.Trim(string(b), `"`))
	if err != nil {
		return err
	}
	d.Duration = v
	return nil
}

// LoadSuite reads and validates test/e2e/NAME/suite.yaml below root.
func LoadSuite(root, name string) (Suite, error) {
	path := filepath.Join(root, "test", "e2e", name, SuiteFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return Suite{}, failure.New(failure.Configuration, fmt.Sprintf("suite %q has no definition", name),
			"create "+filepath.Join("test", "e2e", name, SuiteFile)+others(root), err)
	}
	s := Suite{Procs: 2, Timeout: Duration{20 * time.Minute}, Stall: Duration{5 * time.Minute}}
	if err := yaml.UnmarshalStrict(raw, &s); err != nil {
		return s, failure.New(failure.Configuration, path+" is not a suite definition", "correct the field it names", err)
	}
	return s, s.validate(root, path)
}

func (s Suite) validate(root, path string) error {
	required := map[string]string{"name": s.Name, "cluster": s.Cluster, "kindConfig": s.KindConfig, "tests": s.Tests, "namespace": s.Namespace}
	for _, field := range []string{"name", "cluster", "kindConfig", "tests", "namespace"} {
		if required[field] == "" {
			return failure.New(failure.Configuration, fmt.Sprintf("%s: field %q is missing", path, field), "set it", nil)
		}
	}
	if err := ValidateClusterName(path+": cluster", s.Cluster); err != nil {
		return err
	}
	files := append([]string{s.KindConfig}, s.Manifests...)
	for _, i := range s.Images {
		files = append(files, i.Context)
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(root, f)); err != nil {
			return failure.New(failure.Configuration, fmt.Sprintf("%s names %q, which is not there", path, f), "correct the path", err)
		}
	}
	return nil
}

func others(root string) string {
	if names := Suites(root); len(names) > 0 {
		return ", or name one of: " + strings.Join(names, ", ")
	}
	return ""
}

// Suites lists the names of the suites below root, sorted.
func Suites(root string) []string {
	found, _ := filepath.Glob(filepath.Join(root, "test", "e2e", "*", SuiteFile))
	names := make([]string, 0, len(found))
	for _, f := range found {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	sort.Strings(names)
	return names
}
