package facts

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestRead(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("facts of Linux")
	}
	tests := []struct {
		name  string
		files map[string]string
		want  Facts
	}{
		{"bare container", map[string]string{
			"proc/self/status": "Name:\tx\nCapBnd:\t000001fffeffffff\n", "sys/fs/cgroup/unified/cgroup.procs": "", "sys/fs/cgroup/memory/tasks": "",
		}, Facts{Cgroup: CgroupHybrid}},
		{"laptop", map[string]string{
			"proc/self/status": "CapBnd:\t000001ffffffffff\n", "sys/fs/cgroup/cgroup.controllers": "cpu", "run/systemd/system/x": "", "lib/modules/6.1/x": "",
		}, Facts{Cgroup: CgroupV2, CapSysResource: true, Systemd: true, LibModules: true}},
		{"old", map[string]string{"sys/fs/cgroup/memory/tasks": "", "proc/self/status": "CapBnd:\tzz\n"}, Facts{Cgroup: CgroupV1}},
		{"nothing", nil, Facts{Cgroup: CgroupNone}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for f, text := range tt.files {
				path := filepath.Join(root, f)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := Read(root)
			if got.NoFile == 0 || got.NProc == 0 {
				t.Errorf("no limits read: %+v", got)
			}
			got.OS, got.Arch, got.UID, got.NoFile, got.NProc = "", "", 0, 0, 0
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
