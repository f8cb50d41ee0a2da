package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/deploy"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/hapi"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
	"github.com/jordigilh/kubernaut-e2e/tools/suite"
)

// stall is the longest time a step may show nothing. Every step reports at
// least every few seconds while it moves.
const stall = 5 * time.Minute

// removalStall is stall for what only removes: an engine that answers has ended
// and removed a container long before.
const removalStall = 90 * time.Second

// outputs is the folder of what is compiled and staged. Its name is this
// project's alone: a teardown removes it, and E2E_STATE may be a folder in which
// people keep other things.
func (s *session) outputs() string { return filepath.Join(s.settings.State, "kubernaut-e2e-build") }

// buildStep makes one image of the workload present in the engine.
func (s *session) buildStep(image settings.Image) run.Step {
	return run.Step{Name: "build-" + image.Name, Phase: failure.Build, Budget: 30 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			built, err := hapi.Ensure(ctx, s.engine, hapi.Request{Root: s.root, Work: s.outputs(),
				Image: s.withSettings(image), Platform: "linux/" + s.info.Arch}, report)
			if err != nil {
				return run.Outcome{}, err
			}
			s.mu.Lock()
			s.images[image.Name] = built
			s.mu.Unlock()
			return run.Outcome{Skipped: !built.Built, Detail: built.Ref,
				Works: []run.Work{{What: "the image of " + image.Name + " is built", Evidence: built.Ref + " is " + built.ID}}}, nil
		}}
}

// withSettings applies the HAPI_ settings to the image they are for.
func (s *session) withSettings(image settings.Image) settings.Image {
	if image.Name != "hapi" {
		return image
	}
	if s.settings.HAPIContext != "" {
		image.Context, image.Program, image.Args = s.settings.HAPIContext, "", nil
	}
	if s.settings.HAPIDockerfile != "" {
		image.Dockerfile = s.settings.HAPIDockerfile
	}
	if s.settings.HAPIPayloadMB > 0 {
		args := map[string]string{"PAYLOAD_MB": strconv.Itoa(s.settings.HAPIPayloadMB)}
		for k, v := range image.Args {
			if k != "PAYLOAD_MB" {
				args[k] = v
			}
		}
		image.Args = args
	}
	return image
}

// compileStep compiles the suite while the cluster starts.
func (s *session) compileStep(def settings.Suite) run.Step {
	return run.Step{Name: "compile", Phase: failure.Build, Budget: 15 * time.Minute, Stall: 10 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			if err := s.suiteBuild(def).Compile(ctx, report); err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: def.Tests, Works: []run.Work{{What: "the suite compiles", Evidence: def.Tests}}}, nil
		}}
}

func (s *session) suiteBuild(def settings.Suite) suite.Build {
	return suite.Build{Root: s.root, Dir: filepath.Join(s.outputs(), "suites"), Package: def.Tests}
}

// deployStep applies the workload and waits until it runs.
func (s *session) deployStep(def settings.Suite) run.Step {
	return run.Step{Name: "deploy", Phase: failure.Deploy, Budget: 10 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			refs := map[string]string{}
			for name, image := range s.built() {
				refs["kubernaut-"+name] = image.Ref
			}
			var files []string
			for _, m := range def.Manifests {
				files = append(files, filepath.Join(s.root, m))
			}
			kubeconfig := s.cluster(def).Kubeconfig
			applied, err := deploy.Apply(ctx, kubeconfig, deploy.Options{Files: files, Images: refs, Namespace: def.Namespace, Log: s.log, Progress: report})
			if err != nil {
				return run.Outcome{}, err
			}
			pods, err := deploy.Wait(ctx, kubeconfig, applied, deploy.WaitOptions{Progress: report})
			if err != nil {
				return run.Outcome{}, err
			}
			detail := fmt.Sprintf("%d objects, %d changed, %d pods run", len(applied.Objects), applied.Changed(), len(pods))
			return run.Outcome{Skipped: applied.Changed() == 0, Detail: detail, Works: []run.Work{{What: "the workload runs", Evidence: detail}}}, nil
		}}
}

// suiteStep runs the suite.
func (s *session) suiteStep(def settings.Suite) run.Step {
	return run.Step{Name: "suite", Phase: failure.Suite, Budget: def.Timeout.Duration + time.Minute, Stall: def.Stall.Duration,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			env := map[string]string{"KUBECONFIG": s.cluster(def).Kubeconfig}
			for k, v := range def.Env {
				env[k] = v
			}
			procs := def.Procs
			if s.settings.TestProcs > 0 {
				procs = s.settings.TestProcs
			}
			sum, err := suite.Run{Build: s.suiteBuild(def), Output: s.folder.Path, Env: env, Procs: procs, Timeout: def.Timeout.Duration,
				Label: s.settings.GinkgoLabel, Focus: s.settings.GinkgoFocus, Lines: s.console.Verbatim}.Do(ctx, report)
			if errors.Is(err, suite.ErrNoReport) {
				if full := s.fullDisk(ctx); full != "" {
					return run.Outcome{}, failure.New(failure.Resources, "the suite's report could not be written, the disk is full: "+full,
						"df -h shows it; free space there, mage teardown frees what this project holds", err)
				}
			}
			if err != nil {
				return run.Outcome{}, err
			}
			detail := fmt.Sprintf("%d of %d specs passed, %d skipped", sum.Passed, sum.Ran, sum.Skipped)
			return run.Outcome{Detail: detail, Works: []run.Work{{What: "the suite passes", Evidence: detail}}}, nil
		}}
}
