package containersconf

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
)

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(kv map[string]string) func(string) string { return func(n string) string { return kv[n] } }

func TestLaterFilesWin(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/usr/share/containers/containers.conf", "[containers]\nenv=[\"A=1\"]\npids_limit=10\n[engine]\nruntime=\"crun\"\n")
	put(t, root+"/etc/containers/containers.conf", "[containers]\npids_limit=20\n")
	put(t, root+"/etc/containers/containers.conf.d/10.conf", "[containers]\nenv=[\"B=2\",{append=true}]\n")
	over := put(t, root+"/over.conf", "[engine]\nruntime=\"kata\"\n")
	user := put(t, root+"/home/.config/containers/containers.conf", "[containers]\npids_limit=30\n")
	alone := put(t, root+"/alone.conf", "[engine]\nruntime=\"youki\"\n")
	_ = user

	tests := []struct {
		name    string
		uid     int
		env     map[string]string
		pids    any
		runtime string
		envList []string
	}{
		{"root", 0, map[string]string{"HOME": root + "/home"}, int64(20), "crun", []string{"A=1", "B=2"}},
		{"user", 1000, map[string]string{"HOME": root + "/home"}, int64(30), "crun", []string{"A=1", "B=2"}},
		{"override", 0, map[string]string{"CONTAINERS_CONF_OVERRIDE": over}, int64(20), "kata", []string{"A=1", "B=2"}},
		{"CONTAINERS_CONF replaces all", 1000, map[string]string{"CONTAINERS_CONF": alone}, nil, "youki", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Read(Chain(root, tt.uid, env(tt.env)))
			if err != nil {
				t.Fatal(err)
			}
			if c.get("containers", "pids_limit") != tt.pids || c.get("engine", "runtime") != tt.runtime {
				t.Errorf("got %v", c)
			}
			if got := texts(c.get("containers", "env")); !reflect.DeepEqual(got, tt.envList) {
				t.Errorf("env %q, want %q", got, tt.envList)
			}
		})
	}
}

func TestBrokenFileIsNamed(t *testing.T) {
	f := put(t, t.TempDir()+"/c.conf", "[containers\n")
	if _, err := Read([]string{f}); err == nil || !strings.Contains(err.Error(), f) {
		t.Errorf("got %v, want an error naming %s", err, f)
	}
}

func TestAdapt(t *testing.T) {
	easy := facts.Facts{OS: "linux", CapSysResource: true, NoFile: 1024, NProc: 100, Cgroup: facts.CgroupV2, Systemd: true}
	bounded := easy
	bounded.CapSysResource = false
	rootless := bounded
	rootless.UID = 1000
	hybrid := easy
	hybrid.Cgroup = facts.CgroupHybrid
	noSystemd := easy
	noSystemd.Systemd = false
	mac := facts.Facts{OS: "darwin"}
	tests := []struct {
		name   string
		conf   string
		facts  facts.Facts
		limits []string
		keys   map[string]string // of [engine]
		why    int
	}{
		{name: "easy host", facts: easy},
		{name: "rootless", facts: rootless},
		{name: "macOS", facts: mac},
		{name: "bounded", facts: bounded, limits: []string{"nofile=1024:1024", "nproc=100:100"}, why: 1},
		{name: "bounded, limits fit", conf: `[containers]
default_ulimits=["nofile=512:1024","nproc=50:50"]`, facts: bounded, limits: []string{"nofile=512:1024", "nproc=50:50"}},
		{name: "bounded, one too high, another kept", conf: `[containers]
default_ulimits=["core=0:0","nofile=512:4096","nproc=-1:-1"]`, facts: bounded,
			limits: []string{"core=0:0", "nofile=512:1024", "nproc=100:100"}, why: 1},
		{name: "hybrid", facts: hybrid, keys: map[string]string{"runtime": "runc"}, why: 1},
		{name: "hybrid, crun by path", conf: "[engine]\nruntime=\"/usr/bin/crun\"", facts: hybrid, keys: map[string]string{"runtime": "runc"}, why: 1},
		{name: "hybrid, user's runtime", conf: "[engine]\nruntime=\"kata\"", facts: hybrid, keys: map[string]string{"runtime": "kata"}},
		{name: "no systemd", facts: noSystemd, keys: map[string]string{"cgroup_manager": "cgroupfs", "events_logger": "file"}, why: 2},
		{name: "no systemd, already so", conf: "[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"none\"", facts: noSystemd,
			keys: map[string]string{"events_logger": "none"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Read([]string{put(t, t.TempDir()+"/c.conf", tt.conf)})
			if err != nil {
				t.Fatal(err)
			}
			if why := Adapt(c, tt.facts); len(why) != tt.why {
				t.Errorf("reasons %q, want %d", why, tt.why)
			}
			// What counts is what Podman will read.
			file := filepath.Join(t.TempDir(), "out.conf")
			if err := Write(file, c); err != nil {
				t.Fatal(err)
			}
			if c, err = Read([]string{file}); err != nil {
				t.Fatal(err)
			}
			if got := texts(c.get("containers", "default_ulimits")); !reflect.DeepEqual(got, tt.limits) {
				t.Errorf("limits %q, want %q", got, tt.limits)
			}
			for k, v := range tt.keys {
				if c.get("engine", k) != v {
					t.Errorf("%s = %v, want %s", k, c.get("engine", k), v)
				}
			}
			if again := Adapt(c, tt.facts); len(again) != 0 {
				t.Errorf("a second time: %q", again)
			}
		})
	}
}

func TestSameSeesAChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "containers.conf")
	c := Conf{}
	c.set("engine", "runtime", "runc")
	if err := Write(file, c); err != nil {
		t.Fatal(err)
	}
	if same, err := Same(file, c); err != nil || !same {
		t.Errorf("what was written is not the same: %v", err)
	}
	c.set("engine", "runtime", "crun")
	if same, err := Same(file, c); err != nil || same {
		t.Errorf("a change is not seen: %v", err)
	}
}
