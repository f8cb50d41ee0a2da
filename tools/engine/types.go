package engine

import (
	"io"
	"time"
)

// Info describes an engine and the host or machine it runs on.
type Info struct {
	Version           string
	APIVersion        string
	Address           string // URL of its API, without a password
	Remote            bool   // not on this host, or behind SSH
	Machine           bool   // in a Podman machine
	Rootless          bool
	CgroupVersion     string // "1" or "2"
	Arch              string // as Go names it
	OS                string
	Runtime           string // name of the OCI runtime
	RuntimeVersion    string
	StorageDriver     string
	GraphRoot         string // on the engine's host
	DiskFree          uint64 // bytes at GraphRoot; 0 if unknown
	DiskTotal         uint64 // bytes; 0 if unknown
	MemoryTotal       uint64 // bytes
	MemoryFree        uint64 // bytes; 0 if unknown
	CPUs              int
	Containers        int
	ContainersRunning int // of everybody, not only ours
}

// HostAddress is a way from the engine back to this process.
type HostAddress struct {
	Dial   string // host by which the engine reaches us
	Listen string // address to listen on, no wider than that takes
}

// Image is an image of the engine.
type Image struct {
	ID      string // "sha256:…": the digest of the image's config. With Docker's containerd image store: of its manifest
	Tags    []string
	Digests []string // NAME@sha256:… of manifests
	Size    int64    // bytes, unpacked
	OS      string
	Arch    string
	Labels  map[string]string
	Layers  []string // diff IDs, base first
	Created time.Time
}

// BuildRequest is one image build.
type BuildRequest struct {
	Context    string            // folder
	Dockerfile string            // absolute or relative to Context; empty: Containerfile or Dockerfile
	Tag        string            // reference that the image gets
	Args       map[string]string // build arguments
	Labels     map[string]string // added to the image
	Platform   string            // os/arch; empty: the engine's own
	NoCache    bool
	Ignore     []string // patterns added to the ignore file's
}

// ExecRequest is a command to run in a container.
type ExecRequest struct {
	Cmd        []string
	Env        []string // KEY=VALUE
	User       string
	Stdin      io.Reader // nil: none. Closed at its end, so that the command sees the end
	Stdout     io.Writer // nil: discarded
	Stderr     io.Writer // nil: discarded
	Privileged bool
}

// Container is a container of the engine.
type Container struct {
	ID       string
	Name     string
	Labels   map[string]string
	State    string // created, running, paused, exited …
	Status   string // for people
	ExitCode int    // of an exited container; 0 with Docker, which does not list it
	Image    string
	ImageID  string
	Networks []string
	Ports    []Port
	Mounts   []string // destinations
	Created  time.Time
}

// Running says whether the container runs.
func (c Container) Running() bool { return c.State == "running" }

// Port is a published port.
type Port struct {
	HostIP    string // empty: every address
	Host      uint16
	Container uint16
	Protocol  string
}

// Network is a network of the engine.
type Network struct {
	ID     string
	Name   string
	Labels map[string]string
}

// Volume is a volume of the engine.
type Volume struct {
	Name   string
	Labels map[string]string
}
