// Package programs holds the sources of what a node image consists of: one
// folder per program with its pinned module file, and the manifests Kind
// applies. It builds nothing.
//
// A module file is named module.mod here because a folder with a go.mod would
// be a module of its own, which go:embed cannot see into.
package programs

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed */module.mod */module.sum */*.go manifests
var files embed.FS

// Hash identifies the content of a folder: hex SHA-256 over the names and
// bytes of what [Write] would write.
func Hash(folder string) (string, error) {
	sum := sha256.New()
	err := each(folder, func(name string, data []byte) error {
		fmt.Fprintf(sum, "%s %d\n", name, len(data))
		sum.Write(data)
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// Write puts a folder's files into dir, module files under the names Go knows
// them by, tests left out. It returns the names of the Go files.
func Write(folder, dir string) (sources []string, err error) {
	err = each(folder, func(name string, data []byte) error {
		if strings.HasSuffix(name, ".go") {
			sources = append(sources, name)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write source %q: %w", path, err)
		}
		return nil
	})
	return sources, err
}

// Read returns one file, for example "manifests/default-cni.yaml".
func Read(path string) ([]byte, error) { return files.ReadFile(path) }

// each visits a folder's files in the order of their names.
func each(folder string, visit func(name string, data []byte) error) error {
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		return fmt.Errorf("read sources of %q: %w", folder, err)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := files.ReadFile(folder + "/" + name)
		if err != nil {
			return fmt.Errorf("read source %q of %q: %w", name, folder, err)
		}
		switch name {
		case "module.mod":
			name = "go.mod"
		case "module.sum":
			name = "go.sum"
		}
		if err := visit(name, data); err != nil {
			return err
		}
	}
	return nil
}
