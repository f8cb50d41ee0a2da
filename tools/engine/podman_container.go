package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

func (p *podman) Containers(ctx context.Context, labels ...string) ([]Container, error) {
	var list []struct {
		ID       string `json:"Id"`
		Names    []string
		Labels   map[string]string
		State    string
		Status   string
		ExitCode int
		Image    string
		ImageID  string
		Networks []string
		Mounts   []string
		Created  time.Time
		Ports    []struct {
			HostIP        string `json:"host_ip"`
			HostPort      uint16 `json:"host_port"`
			ContainerPort uint16 `json:"container_port"`
			Range         uint16 `json:"range"`
			Protocol      string `json:"protocol"`
		}
	}
	q := labelFilter(labels)
	q.Set("all", "true")
	if err := p.call(ctx, http.MethodGet, "/containers/json", q, nil, &list); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	containers := make([]Container, 0, len(list))
	for _, c := range list {
		out := Container{
			ID: c.ID, Labels: c.Labels, State: c.State, Status: c.Status, ExitCode: c.ExitCode, Image: c.Image,
			ImageID: imageID(c.ImageID), Networks: c.Networks, Mounts: c.Mounts, Created: c.Created,
		}
		if len(c.Names) > 0 {
			out.Name = c.Names[0]
		}
		for _, port := range c.Ports {
			for n := range max(port.Range, 1) {
				out.Ports = append(out.Ports, Port{HostIP: port.HostIP, Host: port.HostPort + n, Container: port.ContainerPort + n, Protocol: port.Protocol})
			}
		}
		containers = append(containers, out)
	}
	return containers, nil
}

// onContainer is a request about one container that answers nothing. Podman
// answers 304 where there is nothing to do.
func (p *podman) onContainer(ctx context.Context, verb, method, container, path string, q url.Values) error {
	if err := p.call(ctx, method, "/containers/"+url.PathEscape(container)+path, q, nil, nil); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, container, err)
	}
	return nil
}

func (p *podman) Started(ctx context.Context, container string) (time.Time, error) {
	var c struct{ State struct{ StartedAt time.Time } }
	if err := p.call(ctx, http.MethodGet, "/containers/"+url.PathEscape(container)+"/json", nil, nil, &c); err != nil {
		return time.Time{}, fmt.Errorf("inspect container %s: %w", container, err)
	}
	return c.State.StartedAt, nil
}

func (p *podman) StartContainer(ctx context.Context, container string) error {
	return p.onContainer(ctx, "start", http.MethodPost, container, "/start", nil)
}

func (p *podman) StopContainer(ctx context.Context, container string, grace time.Duration) error {
	return p.onContainer(ctx, "stop", http.MethodPost, container, "/stop", url.Values{"timeout": {seconds(grace)}})
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Round(time.Second) / time.Second)) }

func (p *podman) KillContainer(ctx context.Context, container, signal string) error {
	return p.onContainer(ctx, "kill", http.MethodPost, container, "/kill", url.Values{"signal": {signal}})
}

func (p *podman) RemoveContainer(ctx context.Context, container string, force, volumes bool) error {
	return p.onContainer(ctx, "remove", http.MethodDelete, container, "", url.Values{"force": {strconv.FormatBool(force)}, "v": {strconv.FormatBool(volumes)}})
}

func (p *podman) Logs(ctx context.Context, container string, lines int, w io.Writer) error {
	q := url.Values{"stdout": {"true"}, "stderr": {"true"}, "follow": {"false"}}
	if lines > 0 {
		q.Set("tail", strconv.Itoa(lines))
	}
	resp, err := p.request(ctx, http.MethodGet, "/containers/"+url.PathEscape(container)+"/logs", q, nil, nil)
	if err == nil {
		defer resp.Body.Close()
		err = copyLogs(resp.Body, w)
	}
	if err != nil {
		return fmt.Errorf("logs of container %s: %w", container, p.failed(ctx, err))
	}
	return nil
}

func (p *podman) Networks(ctx context.Context, labels ...string) ([]Network, error) {
	var list []struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Labels map[string]string
	}
	if err := p.call(ctx, http.MethodGet, "/networks/json", labelFilter(labels), nil, &list); err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	networks := make([]Network, 0, len(list))
	for _, n := range list {
		networks = append(networks, Network{ID: n.ID, Name: n.Name, Labels: n.Labels})
	}
	return networks, nil
}

func (p *podman) RemoveNetwork(ctx context.Context, name string) error {
	if err := p.call(ctx, http.MethodDelete, "/networks/"+url.PathEscape(name), nil, nil, nil); err != nil {
		return fmt.Errorf("remove network %s: %w", name, err)
	}
	return nil
}

func (p *podman) Volumes(ctx context.Context, labels ...string) ([]Volume, error) {
	var list []Volume
	if err := p.call(ctx, http.MethodGet, "/volumes/json", labelFilter(labels), nil, &list); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	return list, nil
}

func (p *podman) RemoveVolume(ctx context.Context, name string, force bool) error {
	if err := p.call(ctx, http.MethodDelete, "/volumes/"+url.PathEscape(name), url.Values{"force": {strconv.FormatBool(force)}}, nil, nil); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

func (p *podman) Info(ctx context.Context) (Info, error) {
	var i struct {
		Host struct {
			Arch, OS, CgroupVersion string
			CPUs                    int
			MemFree, MemTotal       uint64
			OCIRuntime              struct{ Name, Version string }
			Security                struct{ Rootless bool }
		}
		Store struct {
			GraphRoot, GraphDriverName        string
			GraphRootAllocated, GraphRootUsed uint64
			ContainerStore                    struct{ Number, Running int }
		}
		Version struct{ Version, APIVersion string }
	}
	if err := p.call(ctx, http.MethodGet, "/info", nil, nil, &i); err != nil {
		return Info{}, err
	}
	info := Info{
		Version: i.Version.Version, APIVersion: i.Version.APIVersion, Address: p.shown(), Remote: p.remote(), Machine: p.machine,
		Rootless: i.Host.Security.Rootless, CgroupVersion: strings.TrimPrefix(i.Host.CgroupVersion, "v"), Arch: i.Host.Arch, OS: i.Host.OS,
		Runtime: i.Host.OCIRuntime.Name, StorageDriver: i.Store.GraphDriverName, GraphRoot: i.Store.GraphRoot,
		MemoryTotal: i.Host.MemTotal, MemoryFree: i.Host.MemFree, CPUs: i.Host.CPUs,
		Containers: i.Store.ContainerStore.Number, ContainersRunning: i.Store.ContainerStore.Running,
	}
	info.RuntimeVersion, _, _ = strings.Cut(i.Host.OCIRuntime.Version, "\n")
	if i.Store.GraphRootAllocated > i.Store.GraphRootUsed {
		info.DiskTotal, info.DiskFree = i.Store.GraphRootAllocated, i.Store.GraphRootAllocated-i.Store.GraphRootUsed
	}
	info.localDisk()
	return info, nil
}

// HostAddress knows two ways: the engine on this host shares its loopback, and
// a Podman machine has a name for its host (podman-machine's gvproxy, also set
// in containers' /etc/hosts).
func (p *podman) HostAddress(context.Context) (HostAddress, bool) {
	switch {
	case !p.remote(), isLoopback(p.url) && !p.machine:
		return HostAddress{Dial: "127.0.0.1", Listen: "127.0.0.1"}, true
	case p.machine:
		return HostAddress{Dial: "host.containers.internal", Listen: "127.0.0.1"}, true
	}
	return HostAddress{}, false
}
