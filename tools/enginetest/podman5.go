package enginetest

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// podmanModule is the module that Podman 5 is built from. Its files have other
// names because a folder with a go.mod would be left out of ours.
//
//go:embed podman5/module.mod podman5/module.sum
var podmanModule embed.FS

const (
	podmanPackage = "github.com/containers/podman/v5/cmd/podman"
	// Without them the program needs gpgme and btrfs headers: Podman's
	// installation instructions, "build tags".
	podmanTags = "seccomp exclude_graphdriver_btrfs containers_image_openpgp"
	// podmanBuildTime is enough for two slow cores that have to fetch everything.
	podmanBuildTime = 25 * time.Minute
)

// podmanBuildPackages are Debian's names of what cgo needs there.
var podmanBuildPackages = append([]string{"libseccomp-dev", "pkg-config"}, host.CompilerPackages...)

// podman5 returns the path of a Podman 5 built from its module, and builds it
// the first time.
func podman5(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		Skip(t, "Podman 5 beside another Podman is for root on Linux")
	}
	ctx, cancel := context.WithTimeout(context.Background(), podmanBuildTime)
	defer cancel()
	path, err := buildPodman5(ctx, slog.New(slog.NewTextHandler(writer{t}, nil)), heartbeat(30*time.Second))
	if err != nil {
		t.Fatalf("build Podman 5: %v", err)
	}
	return path
}

// buildPodman5 builds into the user's cache, in a folder named by the inputs. A
// second process waits for the first one's result.
func buildPodman5(ctx context.Context, log *slog.Logger, p progress.Func) (string, error) {
	mod, err := podmanModule.ReadFile("podman5/module.mod")
	if err != nil {
		return "", err
	}
	sum, err := podmanModule.ReadFile("podman5/module.sum")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "kubernaut-e2e", "podman")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(cache, ".lock"))
	if ok, err := lock.TryLockContext(ctx, time.Second); err != nil || !ok {
		return "", fmt.Errorf("wait for another build in %s: %w", cache, errors.Join(err, ctx.Err()))
	}
	defer lock.Unlock() //nolint:errcheck // the file is closed with the process at the latest
	key := sha256.Sum256(slices.Concat(mod, sum, []byte(podmanTags)))
	folder := filepath.Join(cache, fmt.Sprintf("%x", key[:6]))
	program := filepath.Join(folder, "podman")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	o := host.Options{AllowInstall: true, Log: log, Progress: p}
	if _, err := host.InstallPackages(ctx, o, podmanBuildPackages); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work) //nolint:errcheck // beside an error that matters, or empty
	if err := os.WriteFile(filepath.Join(work, "go.mod"), mod, 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(work, "go.sum"), sum, 0o600); err != nil {
		return "", err
	}
	log.Info("building Podman 5, once; this takes minutes", "into", program)
	built := filepath.Join(work, "podman")
	_, err = command.Run(ctx, command.Command{
		Name: "go", Args: []string{"build", "-v", "-trimpath", "-tags", podmanTags, "-o", built, podmanPackage},
		Dir: work, Env: []string{"CGO_ENABLED=1", "GOFLAGS=-buildvcs=false", "GOWORK=off"},
		Lines: func(line string) { p(progress.Update{What: "build Podman 5", Line: line}) },
	})
	if err != nil {
		return "", err
	}
	// One that does not run must not be found by the next test.
	if out, err := exec.CommandContext(ctx, built, "--version").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s --version: %w\n%s", built, err, out)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	return program, os.Rename(built, program)
}
