package engine

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
)

func (d *docker) Exec(ctx context.Context, container string, r ExecRequest) error {
	return runExec(ctx, d, d.address, container, r)
}

func (d *docker) EndExec(ctx context.Context, lost *LostExec) error { return endExec(ctx, d, lost) }

func (d *docker) execCreate(ctx context.Context, name string, r ExecRequest) (string, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	created, err := d.client.ContainerExecCreate(ctx, name, container.ExecOptions{
		User: r.User, Privileged: r.Privileged, Env: r.Env, Cmd: r.Cmd,
		AttachStdin: r.Stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	return created.ID, d.failed(ctx, err)
}

// execAttach returns with its context; the client obeys that no more once it is
// connected (client/hijack.go).
func (d *docker) execAttach(ctx context.Context, id string) (duplex, error) {
	response, err := obey(ctx, func() (types.HijackedResponse, error) {
		return d.client.ContainerExecAttach(ctx, id, container.ExecAttachOptions{})
	}, func(late types.HijackedResponse) { late.Close() })
	if err != nil {
		return nil, d.failed(ctx, err)
	}
	return &attached{response}, nil
}

func (d *docker) execInspect(ctx context.Context, id string) (execState, error) {
	s, err := d.client.ContainerExecInspect(ctx, id)
	return execState{Running: s.Running, ExitCode: s.ExitCode}, d.failed(ctx, err)
}

type attached struct{ types.HijackedResponse }

func (a *attached) Read(b []byte) (int, error)  { return a.Reader.Read(b) }
func (a *attached) Write(b []byte) (int, error) { return a.Conn.Write(b) }
func (a *attached) Close() error                { return a.Conn.Close() }

// Intact is true: each of Docker's connections stands alone, so that a cut of
// this one is an error of this one.
func (a *attached) Intact() bool { return true }

func (d *docker) Containers(ctx context.Context, labels ...string) ([]Container, error) {
	var containers []Container
	err := d.do(ctx, "list containers", func(ctx context.Context) error {
		list, err := d.client.ContainerList(ctx, container.ListOptions{All: true, Filters: dockerFilter(labels)})
		for _, c := range list {
			containers = append(containers, fromDocker(c))
		}
		return err
	})
	return containers, err
}

func fromDocker(c container.Summary) Container {
	out := Container{
		ID: c.ID, Labels: c.Labels, State: c.State, Status: c.Status, Image: c.Image, ImageID: c.ImageID, Created: time.Unix(c.Created, 0),
	}
	if len(c.Names) > 0 {
		out.Name = strings.TrimPrefix(c.Names[0], "/")
	}
	if c.NetworkSettings != nil {
		for name := range c.NetworkSettings.Networks {
			out.Networks = append(out.Networks, name)
		}
		sort.Strings(out.Networks)
	}
	for _, p := range c.Ports {
		if p.PublicPort != 0 {
			out.Ports = append(out.Ports, Port{HostIP: p.IP, Host: p.PublicPort, Container: p.PrivatePort, Protocol: p.Type})
		}
	}
	for _, m := range c.Mounts {
		out.Mounts = append(out.Mounts, m.Destination)
	}
	return out
}

func (d *docker) Started(ctx context.Context, name string) (at time.Time, err error) {
	err = d.do(ctx, "inspect container "+name, func(ctx context.Context) error {
		c, err := d.client.ContainerInspect(ctx, name)
		if err == nil {
			at, err = time.Parse(time.RFC3339Nano, c.State.StartedAt)
		}
		return err
	})
	return at, err
}

func (d *docker) StartContainer(ctx context.Context, name string) error {
	return d.do(ctx, "start container "+name, func(ctx context.Context) error {
		return d.client.ContainerStart(ctx, name, container.StartOptions{})
	})
}

func (d *docker) StopContainer(ctx context.Context, name string, grace time.Duration) error {
	wait := int(grace.Round(time.Second) / time.Second)
	return d.do(ctx, "stop container "+name, func(ctx context.Context) error {
		return d.client.ContainerStop(ctx, name, container.StopOptions{Timeout: &wait})
	})
}

func (d *docker) KillContainer(ctx context.Context, name, signal string) error {
	return d.do(ctx, "kill container "+name, func(ctx context.Context) error { return d.client.ContainerKill(ctx, name, signal) })
}

func (d *docker) RemoveContainer(ctx context.Context, name string, force, volumes bool) error {
	return d.do(ctx, "remove container "+name, func(ctx context.Context) error {
		return d.client.ContainerRemove(ctx, name, container.RemoveOptions{Force: force, RemoveVolumes: volumes})
	})
}

func (d *docker) Logs(ctx context.Context, name string, lines int, w io.Writer) error {
	options := container.LogsOptions{ShowStdout: true, ShowStderr: true}
	if lines > 0 {
		options.Tail = strconv.Itoa(lines)
	}
	body, err := d.client.ContainerLogs(ctx, name, options)
	if err == nil {
		defer body.Close()
		err = copyLogs(body, w)
	}
	if err != nil {
		return fmt.Errorf("logs of container %s: %w", name, d.failed(ctx, err))
	}
	return nil
}

func (d *docker) Networks(ctx context.Context, labels ...string) ([]Network, error) {
	var networks []Network
	err := d.do(ctx, "list networks", func(ctx context.Context) error {
		list, err := d.client.NetworkList(ctx, network.ListOptions{Filters: dockerFilter(labels)})
		for _, n := range list {
			networks = append(networks, Network{ID: n.ID, Name: n.Name, Labels: n.Labels})
		}
		return err
	})
	return networks, err
}

func (d *docker) RemoveNetwork(ctx context.Context, name string) error {
	return d.do(ctx, "remove network "+name, func(ctx context.Context) error { return d.client.NetworkRemove(ctx, name) })
}

func (d *docker) Volumes(ctx context.Context, labels ...string) ([]Volume, error) {
	var volumes []Volume
	err := d.do(ctx, "list volumes", func(ctx context.Context) error {
		list, err := d.client.VolumeList(ctx, volume.ListOptions{Filters: dockerFilter(labels)})
		for _, v := range list.Volumes {
			volumes = append(volumes, Volume{Name: v.Name, Labels: v.Labels})
		}
		return err
	})
	return volumes, err
}

func (d *docker) RemoveVolume(ctx context.Context, name string, force bool) error {
	return d.do(ctx, "remove volume "+name, func(ctx context.Context) error { return d.client.VolumeRemove(ctx, name, force) })
}
