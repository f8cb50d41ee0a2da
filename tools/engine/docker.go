package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

type docker struct {
	address
	log    *slog.Logger
	client *client.Client
}

var _ Engine = (*docker)(nil)

func openDocker(ctx context.Context, log *slog.Logger) (Engine, error) {
	a, err := dockerAddress(os.Getenv)
	if err != nil {
		return nil, err
	}
	options, err := a.dockerOptions()
	if err != nil {
		return nil, err
	}
	c, err := client.NewClientWithOpts(append(options, client.WithAPIVersionNegotiation())...)
	if err != nil {
		return nil, a.lost(err)
	}
	d := &docker{address: a, log: log, client: c}
	if err := d.Ping(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	log.DebugContext(ctx, "engine found", "provider", Docker, "address", a.shown(), "context", a.name)
	return d, nil
}

func (a address) dockerOptions() ([]client.Opt, error) {
	helper, err := connhelper.GetConnectionHelper(a.url)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", a.setting, a.shown(), withoutURL(err))
	}
	if helper != nil {
		return []client.Opt{
			client.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}),
			client.WithHost(helper.Host), client.WithDialContext(helper.Dialer),
		}, nil
	}
	options := []client.Opt{client.WithHost(a.url)}
	if a.tls != "" {
		options = append(options, client.WithTLSClientConfig(
			filepath.Join(a.tls, "ca.pem"), filepath.Join(a.tls, "cert.pem"), filepath.Join(a.tls, "key.pem")))
	}
	return options, nil
}

func (d *docker) Name() string { return Docker }

// failed gives an error of the client its class. The client replaces what
// happened on the wire by a type of its own; the answer's status comes as one
// of errdefs'.
func (d *docker) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err):
		return &APIError{Status: http.StatusNotFound, Message: err.Error()}
	case client.IsErrConnectionFailed(err):
		return d.explain(ctx, errors.Join(d.probe(ctx), err))
	}
	var wire *net.OpError
	if text := err.Error(); strings.Contains(text, "Error response from daemon") && !errors.As(err, &wire) {
		return d.explain(ctx, &APIError{Message: text})
	}
	return d.explain(ctx, err)
}

// probe finds out what a failed connection failed of.
func (d *docker) probe(ctx context.Context) error {
	path, ok := strings.CutPrefix(d.url, "unix://")
	if !ok {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		err = conn.Close()
	}
	return err
}

// limited bounds a request that moves no image data.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerLimit)
}

// do runs one request that moves no image data and names what it was about.
func (d *docker) do(ctx context.Context, what string, f func(context.Context) error) error {
	bounded, cancel := limited(ctx)
	defer cancel()
	if err := f(bounded); err != nil {
		return fmt.Errorf("%s: %w", what, d.failed(ctx, err))
	}
	return nil
}

func (d *docker) Ping(ctx context.Context) error {
	return d.do(ctx, "ping", func(ctx context.Context) error {
		_, err := d.client.Ping(ctx)
		return err
	})
}

func dockerFilter(labels []string) filters.Args {
	f := filters.NewArgs()
	for _, l := range labels {
		f.Add("label", l)
	}
	return f
}

func (d *docker) Info(ctx context.Context) (Info, error) {
	var info Info
	err := d.do(ctx, "info", func(ctx context.Context) error {
		i, err := d.client.Info(ctx)
		if err != nil {
			return err
		}
		v, err := d.client.ServerVersion(ctx)
		if err != nil {
			return err
		}
		info = Info{
			Version: v.Version, APIVersion: v.APIVersion, Address: d.shown(), Remote: d.remote(),
			CgroupVersion: i.CgroupVersion, Arch: v.Arch, OS: i.OSType, Runtime: i.DefaultRuntime,
			StorageDriver: i.Driver, GraphRoot: i.DockerRootDir, MemoryTotal: uint64(max(i.MemTotal, 0)), CPUs: i.NCPU,
			Containers: i.Containers, ContainersRunning: i.ContainersRunning,
		}
		for _, o := range i.SecurityOptions {
			info.Rootless = info.Rootless || strings.Contains(o, "name=rootless")
		}
		for _, c := range v.Components {
			if c.Name == "runc" || c.Name == i.DefaultRuntime {
				info.RuntimeVersion = c.Version
			}
		}
		// Docker Desktop's socket is local, its engine is in a VM.
		info.Machine = strings.Contains(i.OperatingSystem, "Docker Desktop")
		info.Remote = info.Remote || info.Machine
		return nil
	})
	info.localDisk()
	return info, err
}

// HostAddress knows the engine on this host, which takes plain HTTP from its
// loopback alone. Docker Desktop's engine is in a VM whose loopback is not
// ours.
func (d *docker) HostAddress(ctx context.Context) (HostAddress, bool) {
	info, err := d.Info(ctx)
	if err != nil || info.Remote || info.Machine {
		return HostAddress{}, false
	}
	return HostAddress{Dial: "127.0.0.1", Listen: "127.0.0.1"}, true
}
