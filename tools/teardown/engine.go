package teardown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// imagePrefix begins the name of every image that this project builds.
const imagePrefix = "localhost/kubernaut-"

// engine removes what is on one engine, in the order in which things use each
// other.
func (w *work) engine(ctx context.Context, e Engine) {
	names := w.clusters(ctx, e)
	w.containers(ctx, e)
	w.volumes(ctx, e, names)
	w.images(ctx, e)
	w.networks(ctx, e)
}

// clusters removes this project's Kind clusters and returns the names that are
// free now: of those, and of those remembered.
func (w *work) clusters(ctx context.Context, e Engine) []string {
	nodes, err := e.Containers(ctx, cluster.KindLabel)
	if err != nil {
		w.fail(fmt.Errorf("list clusters of %s: %w", e.Name(), err))
		return nil
	}
	records := map[string]cluster.Record{}
	for _, r := range cluster.Records(w.StateDir) {
		if r.Provider == e.Name() {
			records[r.Name] = r
		}
	}
	count, mine := map[string]int{}, map[string]bool{}
	for _, n := range nodes {
		name := n.Labels[cluster.KindLabel]
		count[name]++
		mine[name] = mine[name] || cluster.Ours(n, w.Network, records[name])
	}
	for name := range records {
		if count[name] == 0 {
			mine[name] = true // a record of a cluster that is gone
		}
	}
	var gone []string
	for _, name := range sorted(mine) {
		if !mine[name] {
			continue
		}
		if err := w.down(ctx, e, name, records[name]); err != nil {
			w.fail(fmt.Errorf("remove cluster %q of %s: %w", name, e.Name(), err))
			continue
		}
		gone = append(gone, name)
		if count[name] > 0 {
			w.removed("cluster %s (%s, %d node containers)", name, e.Name(), count[name])
		}
	}
	return gone
}

func (w *work) down(ctx context.Context, e Engine, name string, rec cluster.Record) error {
	c := cluster.Cluster{Name: name, Provider: e.Name(), Engine: e, StateDir: w.StateDir, Network: w.Network,
		Kubeconfig: rec.Kubeconfig, Log: w.Log, Progress: w.Progress}
	if c.Kubeconfig == "" {
		c.Kubeconfig = filepath.Join(w.KubeDir, name+"-config")
	}
	_, missing := os.Stat(c.Kubeconfig)
	waiting, cancel := context.WithTimeout(ctx, w.LockWait)
	defer cancel()
	lock, err := cluster.Acquire(waiting, w.StateDir, name, w.Progress)
	if err != nil {
		return err
	}
	c.Lock = lock
	if err := c.Down(ctx); err != nil {
		return errors.Join(err, lock.Release())
	}
	if _, err := os.Stat(c.Kubeconfig); missing == nil && errors.Is(err, os.ErrNotExist) {
		w.removed("kubeconfig %s", c.Kubeconfig)
	}
	return lock.Discard()
}

// containers removes those that carry the label themselves. One that only
// inherits it from its image is somebody's use of our image.
func (w *work) containers(ctx context.Context, e Engine) {
	found, err := e.Containers(ctx, settings.Label)
	if err != nil {
		w.fail(fmt.Errorf("list containers of %s: %w", e.Name(), err))
		return
	}
	for _, c := range found {
		what := fmt.Sprintf("container %s (%s)", c.Name, e.Name())
		if c.Labels[cluster.KindLabel] != "" {
			w.keep(what, "a node of cluster "+c.Labels[cluster.KindLabel]+", which this project did not make or could not remove")
			continue
		}
		if image, err := e.Image(ctx, c.ImageID); err == nil && image.Labels[settings.Label] != "" {
			w.keep(what, "made by somebody else from an image of this project")
			continue
		}
		if err := e.RemoveContainer(ctx, c.ID, true, true); err != nil && !errors.Is(err, engine.ErrNotFound) {
			w.fail(fmt.Errorf("remove %s: %w", what, err))
			continue
		}
		w.removed("%s", what)
	}
}

// volumes removes labelled ones, and those that Kind made for nodes of removed
// clusters: it labels them with the node's name, and leaves them when it is
// ended between making a volume and its container.
func (w *work) volumes(ctx context.Context, e Engine, clusters []string) {
	all, err := e.Volumes(ctx)
	if err != nil {
		w.fail(fmt.Errorf("list volumes of %s: %w", e.Name(), err))
		return
	}
	for _, v := range all {
		if !volumeIsOurs(v, clusters) {
			continue
		}
		what := fmt.Sprintf("volume %s (%s)", v.Name, e.Name())
		if err := e.RemoveVolume(ctx, v.Name, false); err != nil && !errors.Is(err, engine.ErrNotFound) {
			w.fail(fmt.Errorf("remove %s: %w", what, err))
			continue
		}
		w.removed("%s", what)
	}
}

var nodeSuffix = regexp.MustCompile(`-(control-plane|worker)[0-9]*$`)

// volumeIsOurs says whether a volume is this project's. Kind labels a node's with
// the node's name alone: it belongs to a cluster of ours that is gone, or to one
// that has our name, as those of tests have, which leave no record when they are
// killed.
func volumeIsOurs(v engine.Volume, clusters []string) bool {
	if v.Labels[settings.Label] != "" {
		return true
	}
	for key := range v.Labels {
		suffix := nodeSuffix.FindString(key)
		name := strings.TrimSuffix(key, suffix)
		if suffix != "" && (slices.Contains(clusters, name) || cluster.OursByName(name, settings.Label)) {
			return true
		}
	}
	return false
}

// images removes this project's references, and images of ours that have none.
func (w *work) images(ctx context.Context, e Engine) {
	found, err := e.Images(ctx, settings.Label)
	if err != nil {
		w.fail(fmt.Errorf("list images of %s: %w", e.Name(), err))
		return
	}
	used, err := imagesInUse(ctx, e)
	if err != nil {
		w.fail(fmt.Errorf("list containers of %s: %w", e.Name(), err))
		return
	}
	for _, i := range found {
		refs := i.Tags
		if len(refs) == 0 {
			refs = []string{i.ID}
		}
		for _, ref := range refs {
			what := fmt.Sprintf("image %s (%s)", ref, e.Name())
			if len(i.Tags) > 0 && !strings.HasPrefix(ref, imagePrefix) {
				w.keep(what, "not named by this project; it was made from one of its images")
				continue
			}
			if user := used[i.ID]; user != "" {
				w.keep(what, "container "+user+" uses it")
				continue
			}
			if err := e.RemoveImage(ctx, ref, false); err != nil && !errors.Is(err, engine.ErrNotFound) {
				if len(i.Tags) == 0 { // a layer that some other image is built on
					w.keep(what, err.Error())
					continue
				}
				w.fail(fmt.Errorf("remove %s: %w", what, err))
				continue
			}
			w.removed("%s", what)
		}
	}
}

func imagesInUse(ctx context.Context, e Engine) (map[string]string, error) {
	all, err := e.Containers(ctx)
	used := map[string]string{}
	for _, c := range all {
		used[c.ImageID] = c.Name
	}
	return used, err
}

func (w *work) networks(ctx context.Context, e Engine) {
	all, err := e.Networks(ctx)
	if err != nil {
		w.fail(fmt.Errorf("list networks of %s: %w", e.Name(), err))
		return
	}
	containers, err := e.Containers(ctx)
	if err != nil {
		w.fail(fmt.Errorf("list containers of %s: %w", e.Name(), err))
		return
	}
	for _, n := range all {
		if !cluster.OursByName(n.Name, w.Network) && n.Labels[settings.Label] == "" {
			continue
		}
		what := fmt.Sprintf("network %s (%s)", n.Name, e.Name())
		if user := slices.IndexFunc(containers, func(c engine.Container) bool { return slices.Contains(c.Networks, n.Name) }); user >= 0 {
			w.keep(what, "container "+containers[user].Name+" is on it")
			continue
		}
		if err := e.RemoveNetwork(ctx, n.Name); err != nil && !errors.Is(err, engine.ErrNotFound) {
			w.fail(fmt.Errorf("remove %s: %w", what, err))
			continue
		}
		w.removed("%s", what)
	}
}

func sorted(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
