package host

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
)

func finding(t *testing.T, all []Finding, check string) Finding {
	t.Helper()
	for _, f := range all {
		if f.Check == check {
			return f
		}
	}
	t.Fatalf("no finding %q in %+v", check, all)
	return Finding{}
}

func listenAt(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestPortHolderNamesTheProgram(t *testing.T) {
	port := listenAt(t)
	got, err := PortHolder(t.Context(), port)
	if err != nil || !strings.Contains(got, "host.test") {
		t.Errorf("got %q, %v; want this test's own name", got, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	if got, err := PortHolder(t.Context(), free); err != nil || got != "" {
		t.Errorf("free port: %q, %v", got, err)
	}
	if _, err := PortHolder(t.Context(), 70000); err == nil {
		t.Error("70000 was taken for a port")
	}
}

func TestPortHolderNamesTheContainerOfAConmon(t *testing.T) {
	proc := t.TempDir()
	for _, c := range []struct{ pid, program, line, want string }{
		{"7", "conmon", "/usr/bin/conmon\x00--api-version\x001\x00-c\x00abc\x00-n\x00press-control-plane\x00--exit-dir\x00/x\x00", "conmon (pid 7) of container press-control-plane"},
		{"8", "conmon", "/usr/bin/conmon\x00-n", "conmon (pid 8)"},
		{"9", "nc", "nc\x00-l\x00-n\x00127.0.0.1\x00", "nc (pid 9)"},
	} {
		dir := filepath.Join(proc, c.pid)
		if err := os.MkdirAll(filepath.Join(dir, "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"comm": c.program + "\n", "cmdline": c.line} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("socket:["+c.pid+"]", filepath.Join(dir, "fd", "3")); err != nil {
			t.Fatal(err)
		}
		if got := owner(proc, map[string]bool{c.pid: true}); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestListening(t *testing.T) {
	proc := t.TempDir()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
`
	if err := errorsOf(os.MkdirAll(proc+"/net", 0o755), os.WriteFile(proc+"/net/tcp", []byte(table), 0o600)); err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]map[string]bool{8080: {"111": true}, 40000: {}, 80: {}} {
		if got, err := listening(proc, port); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("port %d: %v, %v, want %v", port, got, err, want)
		}
	}
}

func TestContainersOfBothEngines(t *testing.T) {
	podman, err := podmanContainers(`[{"Names":["n"],"State":"running","Labels":{"kubernaut-e2e":"true"},"Ports":[{"host_ip":"","container_port":30080,"host_port":8081,"range":2,"protocol":"tcp"}]},{"Names":["x"],"State":"exited","Labels":null,"Ports":null}]`)
	if err != nil || len(podman) != 2 || !podman[0].ours() || podman[1].ours() || !reflect.DeepEqual(podman[0].HostPorts, []int{8081, 8082}) {
		t.Errorf("podman: %+v, %v", podman, err)
	}
	docker, err := dockerContainers(`{"Names":"n","State":"running","Labels":"io.x-k8s.kind.cluster=c,kubernaut-e2e=true","Ports":"127.0.0.1:8081->30080/tcp, 9000/tcp, [::]:8082->30081/tcp"}` + "\n")
	if err != nil || len(docker) != 1 || !docker[0].ours() || docker[0].cluster() != "c" || !reflect.DeepEqual(docker[0].HostPorts, []int{8081, 8082}) {
		t.Errorf("docker: %+v, %v", docker, err)
	}
}

// doctorHost has an easy host's files below its root.
func doctorHost(t *testing.T, f facts.Facts, files map[string]string) *doctor {
	t.Helper()
	h, _ := newFake(t, Options{}, f)
	for name, text := range files {
		path := filepath.Join(h.root, name)
		if err := errorsOf(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return &doctor{host: h}
}

func TestKernelChecks(t *testing.T) {
	user := easyHost()
	user.UID = 1000
	v1user := user
	v1user.Cgroup = facts.CgroupV1
	tests := []struct {
		name, check string
		facts       facts.Facts
		files       map[string]string
		want        Status
		remedy      string
	}{
		{"keys left", "kernel keys", user, map[string]string{"proc/key-users": " 1000: 5 5/5 5/200 90/20000\n"}, OK, ""},
		{"keys low", "kernel keys", user, map[string]string{"proc/key-users": " 1000: 150 150/150 150/200 90/20000\n"}, Warn, "kernel.keys.maxkeys="},
		{"keys gone", "kernel keys", user, map[string]string{"proc/key-users": " 1000: 199 199/199 199/200 90/20000\n"}, Block, "kernel.keys.maxkeys="},
		{"no table", "kernel keys", user, map[string]string{"proc/sys/kernel/keys/maxkeys": "200\n"}, OK, ""},
		{"inotify low", "inotify max_user_instances", user, map[string]string{"proc/sys/fs/inotify/max_user_instances": "128\n"}, Warn, "fs.inotify.max_user_instances=512"},
		{"no cgroups", "cgroups", facts.Facts{OS: "linux", Cgroup: facts.CgroupNone}, nil, Block, "mount cgroups"},
		{"rootless on v1", "cgroups", v1user, nil, Warn, "unified_cgroup_hierarchy"},
		{"bounded, nothing done yet", "limits", bareHost(), nil, Warn, "mage setup"},
		{"no modules", "/lib/modules", bareHost(), nil, Warn, "mage setup"},
		{"easy", "limits", easyHost(), nil, OK, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := doctorHost(t, tt.facts, tt.files)
			d.kernel()
			if f := finding(t, d.findings, tt.check); f.Status != tt.want || !strings.Contains(f.Remedy, tt.remedy) {
				t.Errorf("got %+v, want %s with remedy %q", f, tt.want, tt.remedy)
			}
		})
	}
}

func TestPortsAreTold(t *testing.T) {
	port := listenAt(t)
	d := doctorHost(t, easyHost(), nil)
	d.Ports = map[int]string{port: "HAPI"}
	d.ports(t.Context())
	f := finding(t, d.findings, d.findings[0].Check)
	if f.Status != Block || !strings.Contains(f.Detail, "HAPI") || !strings.Contains(f.Detail, "host.test") {
		t.Errorf("taken port: %+v", f)
	}
	d.findings = nil
	d.containers = []container{{Name: "node", Running: true, HostPorts: []int{port}, Labels: map[string]string{"kubernaut-e2e": "true"}}}
	d.ports(t.Context())
	if d.findings[0].Status != OK {
		t.Errorf("our own node's port: %+v", d.findings[0])
	}
	d.findings = nil
	d.containers[0].Labels = nil
	d.ports(t.Context())
	if d.findings[0].Status != Block || !strings.Contains(d.findings[0].Detail, "container node") {
		t.Errorf("somebody else's container: %+v", d.findings[0])
	}
	for listed, want := range map[bool]Status{false: Warn, true: Block} {
		d.findings, d.listed = nil, listed
		d.taken("port", port, "conmon (pid 7)")
		if d.findings[0].Status != want {
			t.Errorf("held by an engine's helper, containers known %v: %+v", listed, d.findings[0])
		}
	}
}

func TestLeftovers(t *testing.T) {
	d := doctorHost(t, easyHost(), nil)
	lock := flock.New(filepath.Join(t.TempDir(), "l"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }()
	d.Locks = []string{lock.Path(), "/nowhere/l"}
	d.containers = []container{{Name: "half", State: "created", Labels: map[string]string{"kubernaut-e2e": "true"}}, {Name: "theirs", State: "exited"}}
	if err := os.WriteFile(filepath.Join(d.RuntimeDir, "podman.pid"), []byte(`{"pid":999999,"start":"1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.leftovers()
	var text strings.Builder
	for _, f := range d.findings {
		text.WriteString(f.Detail + "\n")
	}
	for _, want := range []string{"no longer runs", "container half", "is held"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q missing in\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "theirs") {
		t.Error("a foreign container was called ours")
	}
}

func TestDoctorTellsStoppedFromMissing(t *testing.T) {
	d := doctorHost(t, easyHost(), nil)
	d.engineMissing(d.whyNothing())
	if f := finding(t, d.findings, "engine"); f.Status != Block || !strings.Contains(f.Detail, "no container engine is installed") {
		t.Errorf("nothing installed: %+v", f)
	}
	d.findings = nil
	d.run.(*fakeRunner).programs["podman"] = true
	d.engineMissing(d.whyNothing())
	if f := finding(t, d.findings, "engine"); !strings.Contains(f.Detail, "podman is installed, but no service") {
		t.Errorf("stopped: %+v", f)
	}
}

func TestVersionsThatDoNotFit(t *testing.T) {
	d := doctorHost(t, easyHost(), nil)
	d.run.(*fakeRunner).answers["podman image inspect"] = "arm64\n"
	d.NodeImage = "x/node:1"
	d.versions(context.Background(), Podman, nil, engineInfo{version: "5.6.2", arch: "amd64", cgroup: "v2"})
	if f := finding(t, d.findings, "node image"); f.Status != Block || !strings.Contains(f.Remedy, "amd64") {
		t.Errorf("got %+v", f)
	}
	if !older("v0.31.0", 0, 32) || older("v0.33.0", 0, 32) || older("v1.0.0", 0, 32) || older("(devel)", 0, 32) {
		t.Error("versions are compared wrongly")
	}
}

func TestDoctorOnThisMachine(t *testing.T) {
	o := realPodman(t)
	before := Doctor(t.Context(), o, Checks{})
	if fileExists(o.RuntimeDir) || fileExists(o.StateDir) {
		t.Error("doctor changed something")
	}
	_ = before
	ownService(t, o)
	all := Doctor(t.Context(), o, Checks{Ports: map[int]string{listenAt(t): "a test"}, NodeImage: "localhost/no-such-image:1"})
	for _, check := range []string{"engine", "engine memory", "engine disk", "cgroups", "kernel keys", "architecture", "limits"} {
		if f := finding(t, all, check); f.Status == Block {
			t.Errorf("%+v", f)
		}
	}
	if !Blocked(all) {
		t.Error("a taken port does not block")
	}
	for _, f := range all {
		t.Logf("%-5s %-28s %s", f.Status, f.Check, f.Detail)
		if f.Status != OK && f.Detail == "" {
			t.Errorf("empty finding %+v", f)
		}
	}
}
