package rules_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// rows gives what stands in backticks in the first cell of every table row of a
// document.
func rows(t *testing.T, name string) map[string]bool {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	out := map[string]bool{}
	for _, l := range strings.Split(string(raw), "\n") {
		if !strings.HasPrefix(l, "| `") {
			continue
		}
		first, _, _ := strings.Cut(l[2:], " | ")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			word, _, _ := strings.Cut(m[1], " ")
			out[word] = true
		}
	}
	return out
}

func TestREADMENamesEverySetting(t *testing.T) {
	have := rows(t, "README.md")
	fields := reflect.TypeFor[settings.Settings]()
	for i := range fields.NumField() {
		if name := fields.Field(i).Tag.Get("env"); !have[name] {
			t.Errorf("README.md has no row for the setting %s", name)
		}
	}
	for _, name := range []string{"CONTAINER_HOST", "CONTAINER_SSHKEY", "DOCKER_HOST"} {
		if !have[name] {
			t.Errorf("README.md has no row for %s, which the engines read", name)
		}
	}
}

func TestREADMENamesEveryTarget(t *testing.T) {
	have := rows(t, "README.md")
	found := 0
	for _, s := range sources(t) {
		if !under(s.path, "magefiles") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() {
				continue
			}
			r := []rune(f.Name.Name)
			r[0] = unicode.ToLower(r[0])
			name := string(r)
			if s.dir() == "magefiles/e2e" {
				name = "e2e:" + name
			}
			found++
			if !have[name] {
				t.Errorf("README.md has no row for the target %s", name)
			}
			if f.Doc == nil {
				t.Errorf("the target %s has no line in mage -l", name)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d targets found", found)
	}
}

func TestREADMENamesEveryExitCode(t *testing.T) {
	have := rows(t, "README.md")
	for _, code := range []string{"0", "1", "2", "75"} {
		if !have[code] {
			t.Errorf("README.md has no row for exit code %s", code)
		}
	}
}

// A make target that nobody can look up, or that calls a target there is none
// of, helps nobody.
func TestMakefileCallsTargetsThereAre(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	have := rows(t, "README.md")
	for _, m := range regexp.MustCompile(`@\$\(MAGE\) ([\w:]+)`).FindAllStringSubmatch(string(raw), -1) {
		if !have[m[1]] {
			t.Errorf("Makefile calls %s, which README.md does not know", m[1])
		}
	}
}

// Relative links of the documents lead somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(documents, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(raw), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", filepath.Base(path), m[1])
			}
		}
	}
}
