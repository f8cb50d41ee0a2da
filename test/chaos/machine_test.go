package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// vm stands in for a Podman machine that needs a restart: `podman machine …`
// is answered here, in the words of Podman 5.8 (cmd/podman/machine and
// pkg/machine), every other command by Podman itself.
type vm struct {
	w    *world
	name string
	key  string
	port string
	env  []string // of runs whose machine it is

	mu     sync.Mutex
	state  string // running or stopped
	wedged bool   // it runs, and nothing in it answers
	calls  []string
}

// standInFor is the variable by which this very program, called as podman
// machine, knows whom to ask.
const standInFor = "CHAOS_MACHINE"

// newVM puts the stand-in before podman in PATH and makes the machine the
// default connection.
func newVM(t *testing.T, w *world) *vm {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	v := &vm{w: w, name: "podman-machine-default", state: "running", key: filepath.Join(home, ".local/share/containers/podman/machine/machine")}
	if _, v.port, err = net.SplitHostPort(w.way.addr); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(os.Getenv("CONTAINER_SSHKEY"))
	self, selfErr := os.Executable()
	sock := filepath.Join(dir, "m.sock")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1\" in machine) shift; %s=%s exec %s \"$@\" ;; esac\nexec %s \"$@\"\n", standInFor, sock, self, w.svc.Program)
	if err := errors.Join(err, selfErr, os.MkdirAll(filepath.Dir(v.key), 0o700), os.WriteFile(v.key, key, 0o600),
		os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	address, _ := strings.CutPrefix(w.env[0], "CONTAINER_HOST=")
	// A machine has a connection for its user and one for root; here both lead
	// to the same engine.
	for _, args := range [][]string{{"--default", "--identity", v.key, v.name, address}, {"--identity", v.key, v.name + "-root", address}} {
		add := exec.Command(w.svc.Program, append([]string{"system", "connection", "add"}, args...)...)
		add.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "CONTAINER_HOST=") })
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", add.Args, err, out)
		}
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: v, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	v.env = []string{"PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH"), "CONTAINER_SSHKEY=" + v.key}
	return v
}

// wedge makes everything in the machine deaf, while it goes on running.
func (v *vm) wedge() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wedged = true
	v.w.svc.Kill()
	v.w.way.shut()
	v.w.way.cut()
}

// said is how a call of podman machine ended.
type said struct {
	Out, Err string
	Code     int
}

func (v *vm) ServeHTTP(res http.ResponseWriter, req *http.Request) {
	var args []string
	if err := json.NewDecoder(req.Body).Decode(&args); err != nil {
		http.Error(res, err.Error(), http.StatusBadRequest)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls = append(v.calls, strings.Join(args, " "))
	_ = json.NewEncoder(res).Encode(v.answer(args)) //nolint:contextcheck // a machine that stops does not stop for its caller
}

func (v *vm) answer(args []string) said {
	if slices.Equal(args, []string{"list", "--format", "json"}) {
		return v.show([]map[string]any{{"Name": v.name, "Default": true, "Created": "2025-11-03T09:12:44.1+01:00", "Running": v.state == "running", "Starting": false,
			"LastUp": "2025-12-13T08:01:12.9+01:00", "Stream": "", "VMType": "applehv", "CPUs": 6, "Memory": "8589934592", "Swap": "0", "DiskSize": "107374182400",
			"Port": json.Number(v.port), "RemoteUsername": "core", "IdentityPath": v.key, "UserModeNetworking": true}})
	}
	if len(args) < 2 {
		return said{Err: "Error: missing command 'podman machine COMMAND'\n", Code: 125}
	}
	if args[1] != v.name {
		return said{Err: fmt.Sprintf("Error: %s: VM does not exist\n", args[1]), Code: 125}
	}
	switch args[0] {
	case "inspect":
		return v.show([]map[string]any{{"ConfigDir": map[string]string{"Path": filepath.Dir(v.key)},
			"ConnectionInfo": map[string]any{"PodmanSocket": map[string]string{"Path": v.w.svc.Socket}, "PodmanPipe": nil},
			"Created":        "2025-11-03T09:12:44.1+01:00", "LastUp": "2025-12-13T08:01:12.9+01:00", "Name": v.name,
			"Resources": map[string]any{"CPUs": 6, "DiskSize": 100, "Memory": 8192, "USBs": []string{}},
			"SSHConfig": map[string]any{"IdentityPath": v.key, "Port": json.Number(v.port), "RemoteUsername": "core"},
			"State":     v.state, "UserModeNetworking": true, "Rootful": false, "Rosetta": false}})
	case "stop": // of a stopped one is no error
		if v.state == "running" {
			v.off()
		}
		return said{Out: fmt.Sprintf("Machine %q stopped successfully\n", v.name)}
	case "start":
		begin := fmt.Sprintf("Starting machine %q\n", v.name)
		if v.state == "running" {
			return said{Out: begin, Err: fmt.Sprintf("Error: unable to start %q: already running\n", v.name), Code: 125}
		}
		v.on()
		return said{Out: begin + fmt.Sprintf("Machine %q started successfully\n", v.name)}
	case "ssh":
		return v.inside(args[2:])
	}
	return said{Err: fmt.Sprintf("Error: unrecognized command `podman machine %s`\n", args[0]), Code: 125}
}

func (v *vm) show(value any) said {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "     ")
	if err := e.Encode(value); err != nil {
		return said{Err: err.Error(), Code: 125}
	}
	return said{Out: b.String()}
}

// off ends all that runs in the machine.
func (v *vm) off() {
	v.state = "stopped"
	v.w.svc.Kill()
	v.w.way.shut()
	v.w.way.cut()
	_ = v.w.command("kill", "--all").Run()
}

// on starts the machine. Its containers stay as they are: stopped.
func (v *vm) on() {
	v.state, v.wedged = "running", false
	v.w.svc.Start()
	v.w.way.open()
}

func (v *vm) inside(command []string) said {
	if v.state != "running" {
		return said{Err: fmt.Sprintf("Error: vm %q is not running\n", v.name), Code: 125}
	}
	if v.wedged {
		return said{Err: fmt.Sprintf("ssh: connect to host localhost port %s: Connection refused\n", v.port), Code: 255}
	}
	if len(command) > 0 && command[0] == "sudo" {
		command = command[1:]
	}
	out, err := v.w.command(command[1:]...).Output()
	if err != nil {
		return said{Err: err.Error(), Code: 125}
	}
	return said{Out: string(out)}
}

// standIn is this program called as podman machine.
func standIn(sock string) int {
	client := http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", sock)
	}}}
	args, err := json.Marshal(os.Args[1:])
	if err != nil {
		return 125
	}
	res, err := client.Post("http://machine/", "application/json", bytes.NewReader(args))
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 125
	}
	defer res.Body.Close()
	var s said
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 125
	}
	_, _ = io.WriteString(os.Stdout, s.Out)
	_, _ = io.WriteString(os.Stderr, s.Err)
	return s.Code
}
