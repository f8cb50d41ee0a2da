package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// Mark is the name of the kubeconfig extension that says a file is this
// project's. kubectl keeps extensions when it edits a file.
const Mark = "kubernaut-e2e"

// exportKubeconfig fetches the credentials from the control plane and puts
// them where nothing but this cluster's are kept. What somebody else had there
// is moved aside.
func (c Cluster) exportKubeconfig(ctx context.Context) error {
	k, err := c.library()
	if err != nil {
		return err
	}
	text := make(chan string, 1)
	if _, err := inBackground(ctx, func() error {
		s, err := k.KubeConfig(c.Name, false)
		text <- s
		return kindError(err)
	}); err != nil {
		return fmt.Errorf("fetch the kubeconfig of cluster %q: %w", c.Name, err)
	}
	cfg, err := clientcmd.Load([]byte(<-text))
	if err != nil {
		return fmt.Errorf("read the kubeconfig of cluster %q: %w", c.Name, err)
	}
	for _, cl := range cfg.Clusters {
		cl.Extensions = map[string]runtime.Object{Mark: &runtime.Unknown{
			Raw: []byte(`{"cluster":` + strconv.Quote(c.Name) + `}`), ContentType: runtime.ContentTypeJSON,
		}}
	}
	raw, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("encode the kubeconfig of cluster %q: %w", c.Name, err)
	}
	if err := c.spareForeign(); err != nil {
		return err
	}
	if err := writeFile(c.Kubeconfig, raw); err != nil {
		return fmt.Errorf("write the kubeconfig of cluster %q: %w", c.Name, err)
	}
	return nil
}

// IsOurs reports whether the kubeconfig at path was written by this package.
func IsOurs(path string) bool {
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil || len(cfg.Clusters) == 0 {
		return false
	}
	for _, cl := range cfg.Clusters {
		if _, ok := cl.Extensions[Mark]; !ok {
			return false
		}
	}
	return true
}

// replaceable reports whether what is at the kubeconfig's path may go: a file
// that bears our mark, or one that holds no cluster and whose path a record of
// this cluster names, which is ours corrupted.
func (c Cluster) replaceable() bool {
	if IsOurs(c.Kubeconfig) {
		return true
	}
	rec, _ := c.readRecord()
	cfg, err := clientcmd.LoadFromFile(c.Kubeconfig)
	return rec.Kubeconfig == c.Kubeconfig && (err != nil || len(cfg.Clusters) == 0)
}

// spareForeign moves a kubeconfig that is not ours aside, and never over
// another one: users name their files as we do, and ours will be deleted.
func (c Cluster) spareForeign() error {
	if _, err := os.Lstat(c.Kubeconfig); err != nil || c.replaceable() {
		return nil // what else is wrong with the path shows in the write
	}
	aside := c.Kubeconfig + ".moved-aside"
	for i := 2; ; i++ {
		if _, err := os.Lstat(aside); err != nil {
			break
		}
		aside = fmt.Sprintf("%s.moved-aside-%d", c.Kubeconfig, i)
	}
	if err := os.Rename(c.Kubeconfig, aside); err != nil {
		return fmt.Errorf("move a kubeconfig that is not of cluster %q aside: %w", c.Name, err)
	}
	c.Log.Warn("a kubeconfig that this project did not write was in the way; moved aside",
		"cluster", c.Name, "file", c.Kubeconfig, "aside", aside)
	return nil
}

// client connects with this cluster's kubeconfig and with nothing else; it
// sends nothing yet.
func (c Cluster) client() (kubernetes.Interface, error) {
	cfg, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s cannot be used: %w", c.Kubeconfig, err)
	}
	rest, err := clientcmd.NewDefaultClientConfig(*cfg, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s cannot be used: %w", c.Kubeconfig, err)
	}
	rest.Timeout = 5 * time.Second
	rest.QPS, rest.Burst = 100, 200
	return kubernetes.NewForConfig(rest)
}

// pointsAt makes sure that the kubeconfig leads to one of these containers,
// and not to a cluster of the same name on the other engine.
func (c Cluster) pointsAt(found []engine.Container) error {
	cfg, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig %s cannot be used: %w", c.Kubeconfig, err)
	}
	var published []int
	for _, n := range found {
		for _, p := range n.Ports {
			published = append(published, int(p.Host))
		}
	}
	if len(published) == 0 { // the engine does not tell
		return nil
	}
	for name, cl := range cfg.Clusters {
		server, err := url.Parse(cl.Server)
		if err != nil {
			return fmt.Errorf("kubeconfig %s: server of %q: %w", c.Kubeconfig, name, err)
		}
		port, err := strconv.Atoi(server.Port())
		if err != nil || !slices.Contains(published, port) {
			return fmt.Errorf("kubeconfig %s leads to %s, which is not this cluster", c.Kubeconfig, cl.Server)
		}
	}
	return nil
}

// writeFile replaces path in one step, readable by this user only. A reader
// sees the old content or the new, and never a part.
func writeFile(path string, raw []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600 by contract of os.CreateTemp
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
