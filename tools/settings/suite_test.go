package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const smallest = `name: small
cluster: small-e2e
kindConfig: kind.yaml
namespace: default
tests: ./test/e2e/small
`

// project makes a root with one suite.
func project(t *testing.T, definition string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "test", "e2e", "small")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{filepath.Join(dir, SuiteFile): definition, filepath.Join(root, "kind.yaml"): ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSmallestSuiteHasDefaults(t *testing.T) {
	s, err := LoadSuite(project(t, smallest), "small")
	if err != nil {
		t.Fatal(err)
	}
	if s.Procs != 2 || s.Timeout.Duration != 20*time.Minute || s.Stall.Duration != 5*time.Minute {
		t.Errorf("procs %d, timeout %s, stall %s", s.Procs, s.Timeout, s.Stall)
	}
}

func TestInvalidSuites(t *testing.T) {
	without := func(field string) string {
		var kept []string
		for _, l := range strings.Split(smallest, "\n") {
			if !strings.HasPrefix(l, field+":") {
				kept = append(kept, l)
			}
		}
		return strings.Join(kept, "\n")
	}
	cases := map[string]struct {
		definition string
		says       []string
	}{
		"no name":            {without("name"), []string{`"name"`}},
		"no cluster":         {without("cluster"), []string{`"cluster"`}},
		"no kindConfig":      {without("kindConfig"), []string{`"kindConfig"`}},
		"no namespace":       {without("namespace"), []string{`"namespace"`}},
		"no tests":           {without("tests"), []string{`"tests"`}},
		"unknown field":      {smallest + "colour: blue\n", []string{"colour"}},
		"not YAML":           {"name: [", []string{SuiteFile}},
		"bad duration":       {smallest + "timeout: soon\n", []string{"soon"}},
		"bad cluster name":   {strings.Replace(smallest, "small-e2e", "Small_E2E", 1), []string{"cluster", "Small_E2E", "lower-case"}},
		"missing Kind file":  {strings.Replace(smallest, "kind.yaml", "other.yaml", 1), []string{"other.yaml", "not there"}},
		"missing manifest":   {smallest + "manifests: [deploy/app.yaml]\n", []string{"deploy/app.yaml", "not there"}},
		"missing context":    {smallest + "images: [{name: app, context: build/app}]\n", []string{"build/app", "not there"}},
		"procs is no number": {smallest + "procs: many\n", []string{"procs"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := LoadSuite(project(t, c.definition), "small")
			checkConfiguration(t, err, append(c.says, SuiteFile)...)
		})
	}
}

func TestUnknownSuiteNamesTheOnesThereAre(t *testing.T) {
	_, err := LoadSuite(project(t, smallest), "other")
	checkConfiguration(t, err, `"other"`, "small")
}

func TestSuites(t *testing.T) {
	root := project(t, smallest)
	if got := Suites(root); len(got) != 1 || got[0] != "small" {
		t.Errorf("got %v", got)
	}
	if got := Suites(t.TempDir()); len(got) != 0 {
		t.Errorf("an empty project has suites: %v", got)
	}
}

// The definitions of this project itself.
func TestSuitesOfThisProject(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, name := range Suites(root) {
		if _, err := LoadSuite(root, name); err != nil {
			t.Error(err)
		}
	}
}

func TestRepository(t *testing.T) {
	if got := (Image{Name: "hapi"}).Repository(); got != "localhost/kubernaut-hapi" {
		t.Error(got)
	}
}
