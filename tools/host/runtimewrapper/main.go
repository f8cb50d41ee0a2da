// Command runtimewrapper is an OCI runtime for hosts with a bounded capability
// set: it removes from a container's configuration the capabilities that the
// host cannot give, and hands over to runc. Without it `docker run --privileged`
// and `docker exec --privileged`, which Kind needs, fail with "unable to apply
// caps".
//
// Package host compiles this one file by itself, so it uses the standard library
// alone. Calls it does not understand reach runc unchanged.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// names are the capabilities by number, from linux/capability.h.
var names = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

func main() {
	err := run(os.Args[1:])
	// The shim shows the runtime's standard error.
	fmt.Fprintln(os.Stderr, "kubernaut-e2e runtime wrapper:", err)
	os.Exit(1)
}

// run returns only if it failed; else this process has become runc.
func run(args []string) error {
	if err := prepare(args); err != nil {
		return err
	}
	runc, err := findRunc()
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", runc, syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ()))
}

// prepare edits the file that a call of `create`, `run` or `exec` is about.
func prepare(args []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	have, err := bounding(string(status))
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(args, "create"), slices.Contains(args, "run"):
		bundle := flag(args, "--bundle", "-b")
		if bundle == "" {
			bundle = "."
		}
		return edit(filepath.Join(bundle, "config.json"), have, "process")
	case slices.Contains(args, "exec"):
		if file := flag(args, "--process", "-p"); file != "" {
			return edit(file, have)
		}
	}
	return nil
}

// bounding reads the bounding set from proc_pid_status(5).
func bounding(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			return strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
		}
	}
	return 0, fmt.Errorf("no CapBnd in /proc/self/status")
}

// flag returns the value of a flag given as "--name value" or "--name=value".
func flag(args []string, forms ...string) string {
	for i, a := range args {
		for _, f := range forms {
			if a == f && i+1 < len(args) {
				return args[i+1]
			}
			if v, ok := strings.CutPrefix(a, f+"="); ok {
				return v
			}
		}
	}
	return ""
}

// edit removes capabilities outside have from the OCI process at path of file
// (runtime-spec, config.md: process.capabilities), and leaves the rest alone.
func edit(file string, have uint64, path ...string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := limit(data, have, path...)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if out == nil {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	tmp := file + ".bounded"
	if err := os.WriteFile(tmp, out, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// limit returns the edited document, or nil if nothing has to change.
func limit(data []byte, have uint64, path ...string) ([]byte, error) {
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber() // ids and limits do not fit into a float64
	var doc map[string]any
	if err := decoder.Decode(&doc); err != nil {
		return nil, err
	}
	at := doc
	for _, p := range path {
		at, _ = at[p].(map[string]any)
	}
	sets, _ := at["capabilities"].(map[string]any)
	changed := false
	for set, v := range sets {
		list, _ := v.([]any)
		kept := slices.DeleteFunc(slices.Clone(list), func(c any) bool {
			name, _ := c.(string)
			n := slices.Index(names, strings.TrimPrefix(name, "CAP_"))
			return n >= 0 && have&(1<<n) == 0
		})
		if len(kept) != len(list) {
			sets[set], changed = kept, true
		}
	}
	if !changed {
		return nil, nil
	}
	return json.Marshal(doc)
}

// findRunc looks on PATH and where Debian keeps it.
func findRunc() (string, error) {
	if path, err := exec.LookPath("runc"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/local/sbin/runc", "/usr/sbin/runc", "/usr/bin/runc"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("runc is not installed")
}
