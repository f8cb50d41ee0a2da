// Package rules_test guards what the compiler does not: which package may
// import which, who may write to the terminal, and that the documents name
// what the code has. It owns no code of its own.
package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/jordigilh/kubernaut-e2e/"
)

// source is one Go file that is no test.
type source struct {
	path    string // slash-separated, relative to the root
	file    *ast.File
	imports []string
}

func (s source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// sources reads every Go file of the project, whatever its build tags, without
// tests, test data and programs that have a module of their own.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "programs") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || d.Name() == "mage_output_file.go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(rel), file: f}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d files: is the root right?", len(out))
	}
	return out
}

// reach gives every package of this project that dir needs, itself included.
func reach(all []source, dir string) map[string]bool {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		for _, s := range all {
			if s.dir() != dir {
				continue
			}
			for _, i := range s.imports {
				if rest, ok := strings.CutPrefix(i, module); ok {
					visit(rest)
				}
			}
		}
	}
	visit(dir)
	return seen
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func TestOnlyMagefilesImportMage(t *testing.T) {
	for _, s := range sources(t) {
		if s.path == "magefile.go" || under(s.path, "magefiles") {
			continue
		}
		for _, i := range s.imports {
			if strings.HasPrefix(i, "github.com/magefile/mage") {
				t.Errorf("%s imports %s", s.path, i)
			}
		}
	}
}

// A target calls one package, which other repositories can call as well.
func TestTargetsCallThePipelineOnly(t *testing.T) {
	for _, s := range sources(t) {
		if !under(s.path, "magefiles") {
			continue
		}
		for _, i := range s.imports {
			if rest, ok := strings.CutPrefix(i, module); ok && rest != "tools/pipeline" && !under(rest, "magefiles") {
				t.Errorf("%s imports %s", s.path, i)
			}
		}
	}
}

// Whatever these packages need must not bring in what they are kept apart from.
func TestPackagesThatStayApart(t *testing.T) {
	all := sources(t)
	for dir, apart := range map[string][]string{
		"tools/load":           {"tools/engine", "tools/cluster", "tools/host", "tools/nodeimage", "tools/pipeline"},
		"tools/engine":         {"tools/host", "tools/cluster", "tools/nodeimage", "tools/pipeline"},
		"tools/cluster":        {"tools/host", "tools/load", "tools/nodeimage", "tools/pipeline"},
		"tools/deploy":         {"tools/engine", "tools/cluster", "tools/host", "tools/pipeline"},
		"tools/suite":          {"tools/engine", "tools/cluster", "tools/host", "tools/pipeline"},
		"tools/failure":        {"tools/engine", "tools/cluster", "tools/host", "tools/run", "tools/report"},
		"tools/run":            {"tools/engine", "tools/cluster", "tools/suite", "tools/report", "tools/pipeline"},
		"tools/report":         {"tools/engine", "tools/cluster", "tools/suite", "tools/pipeline"},
		"test/e2e/aianalysis":  {"tools"},
		"test/workload":        {"tools"},
		"test/unit/aianalysis": {"tools"},
	} {
		for _, s := range all {
			if !under(s.dir(), dir) {
				continue
			}
			for needed := range reach(all, s.dir()) {
				for _, a := range apart {
					if under(needed, a) {
						t.Errorf("%s needs %s", s.dir(), needed)
					}
				}
			}
		}
	}
}

// A suite runs against any cluster that has the workload: its tests know
// neither Kind nor an engine.
func TestSuitesKnowNoEngine(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "test", "e2e", "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			for _, banned := range []string{module + "tools", "sigs.k8s.io/kind", "github.com/containers/podman", "github.com/docker/docker", "os/exec"} {
				if under(p, banned) {
					t.Errorf("%s imports %s", path, p)
				}
			}
		}
	}
}

// enginetest may fail a test; nothing but a test may import it.
func TestEnginetestIsForTests(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains(s.imports, module+"tools/enginetest") {
			t.Errorf("%s imports tools/enginetest", s.path)
		}
	}
}

// Packages return values and errors; what is shown, where, and with which exit
// code is decided in one place. A program in a folder of its own (package main)
// is not part of the package above it.
func TestPackagesPrintNothingAndDoNotExit(t *testing.T) {
	forbidden := map[string][]string{
		"os":  {"Stdout", "Stderr", "Exit"},
		"fmt": {"Print", "Printf", "Println"},
		"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln"},
	}
	for _, s := range sources(t) {
		if !under(s.path, "tools") || s.file.Name.Name == "main" || printers[s.dir()] {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && slices.Contains(forbidden[pkg.Name], sel.Sel.Name) && slices.Contains(s.imports, pkg.Name) {
				t.Errorf("%s uses %s.%s", s.path, pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

// printers may write to the terminal: the first two decide what is shown, the
// third says why a test was skipped even where test output is hidden.
var printers = map[string]bool{"tools/pipeline": true, "tools/report": true, "tools/enginetest": true}

// Every program that is started ends with its context.
func TestProgramsAreStartedWithAContext(t *testing.T) {
	for _, s := range sources(t) {
		if !under(s.path, "tools") && !under(s.path, "magefiles") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "exec" && sel.Sel.Name == "Command" && s.file.Name.Name != "main" && !starters[s.path] {
					t.Errorf("%s calls exec.Command without a context", s.path)
				}
			}
			return true
		})
	}
}

// starters start a daemon that must outlive the context.
var starters = map[string]bool{"tools/host/internal/service/process.go": true, "tools/host/internal/service/service.go": true}

var edge = regexp.MustCompile(`^\s*(\w+) --> (\w+)\s*$`)

// shared are imported nearly everywhere; the diagram leaves them out.
var shared = []string{"failure", "progress", "settings", "command", "enginetest"}

// The diagram of the packages in docs/architecture.md shows what the code does.
func TestArchitectureDiagramIsTrue(t *testing.T) {
	want := map[string]bool{}
	for _, s := range sources(t) {
		from, ok := strings.CutPrefix(s.dir(), "tools/")
		if under(s.path, "magefiles") {
			from, ok = "magefiles", true
		}
		if !ok || strings.HasPrefix(from, "enginetest") {
			continue
		}
		from, _, _ = strings.Cut(from, "/")
		for _, i := range s.imports {
			to, ok := strings.CutPrefix(i, module+"tools/")
			to, _, _ = strings.Cut(to, "/")
			if ok && to != from && !slices.Contains(shared, to) && !slices.Contains(shared, from) {
				want[from+" --> "+to] = true
			}
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, l := range strings.Split(string(raw), "\n") {
		if m := edge.FindStringSubmatch(l); m != nil {
			got[m[1]+" --> "+m[2]] = true
		}
	}
	for _, e := range sorted(want) {
		if !got[e] {
			t.Errorf("the diagram lacks %q", e)
		}
	}
	for _, e := range sorted(got) {
		if !want[e] {
			t.Errorf("the diagram has %q, which the code does not", e)
		}
	}
}

func sorted(set map[string]bool) []string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
