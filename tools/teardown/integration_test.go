package teardown

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	kind "sigs.k8s.io/kind/pkg/cluster"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
)

// TestRunOnAnEngine stands a half-made cluster of ours, an orphaned volume and
// one image beside a foreign Kind cluster made of the same node image, a foreign
// container and a foreign image, on a real engine.
func TestRunOnAnEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("makes node containers")
	}
	eng := enginetest.Podman(t)
	node := enginetest.NodeImage(t, eng.Name())
	word := fmt.Sprintf("td%d", os.Getpid())
	mine, theirs, network := word+"-mine", word+"-theirs", word+"-net"
	ourTag, theirTag := "localhost/kubernaut-"+word+":1", "localhost/"+word+"-theirs:1"
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	config := filepath.Join(home, ".kube", "config")
	write(t, config, "theirs")

	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), eng.Name(), args...).CombinedOutput(); err != nil {
			t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	t.Cleanup(func() { cleanUp(t, eng, eng.Name(), word) })
	halfMake := func(name, net string) {
		t.Setenv("KIND_EXPERIMENTAL_PODMAN_NETWORK", net)
		err := kind.NewProvider(kind.ProviderWithPodman()).Create(name, kind.CreateWithNodeImage(node), kind.CreateWithRetain(true),
			kind.CreateWithStopBeforeSettingUpKubernetes(true), kind.CreateWithKubeconfigPath(filepath.Join(t.TempDir(), "c")))
		if err != nil {
			t.Fatal(err)
		}
	}
	halfMake(mine, network)
	halfMake(theirs, word+"-other")
	run("create", "--name", word+"-container", node, "true")
	run("volume", "create", "--label", mine+"-worker=true")
	run("tag", node, ourTag)
	run("tag", node, theirTag)

	o := options(t, scoped{Engine: eng, mine: mineBy(word), network: network})
	o.KubeDir, o.Network = filepath.Dir(config), network
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := Run(ctx, o)
	t.Logf("removed %q\nkept %q", r.Removed, r.Kept)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	all, err := eng.Containers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if strings.Contains(c.Name, word) {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	if want := []string{word + "-container", theirs + "-control-plane"}; !slices.Equal(names, want) {
		t.Errorf("containers %v, want %v", names, want)
	}
	if _, err := eng.Image(ctx, theirTag); err != nil {
		t.Errorf("foreign image: %v", err)
	}
	if raw, _ := os.ReadFile(config); string(raw) != "theirs" {
		t.Errorf("~/.kube/config is %q", raw)
	}
	for _, want := range []string{"cluster " + mine, "volume ", "network " + network} {
		if !slices.ContainsFunc(r.Removed, func(l string) bool { return strings.HasPrefix(l, "removed "+want) }) {
			t.Errorf("%q was not removed", want)
		}
	}
	if again, err := Run(ctx, o); err != nil || len(again.Removed) != 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

// cleanUp removes by name what the test made, ours and foreign.
func cleanUp(t *testing.T, eng engine.Engine, provider, word string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := eng.Containers(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, c := range all {
		if strings.Contains(c.Name, word) {
			_ = eng.KillContainer(ctx, c.ID, "KILL") // it may not run
			if err := eng.RemoveContainer(ctx, c.ID, true, true); err != nil {
				t.Error(err)
			}
		}
	}
	volumes, err := eng.Volumes(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, v := range volumes {
		for key := range v.Labels {
			if strings.Contains(key, word) {
				_ = eng.RemoveVolume(ctx, v.Name, true)
			}
		}
	}
	for _, image := range []string{"localhost/kubernaut-" + word + ":1", "localhost/" + word + "-theirs:1"} {
		_ = exec.CommandContext(ctx, provider, "untag", image, image).Run()
	}
	for _, n := range []string{word + "-net", word + "-other"} {
		_ = eng.RemoveNetwork(ctx, n)
	}
}
