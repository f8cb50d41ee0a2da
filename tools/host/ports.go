package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PortHolder names the program that listens on a TCP port of this host, as
// "name (pid N)", and returns "" if none does. Podman's conmon is named with the
// container for which it holds the port: "conmon (pid N) of container NAME". A
// program of another user may be known to listen without being known by name.
func PortHolder(ctx context.Context, port int) (string, error) {
	if port < 1 || port > 65535 {
		return "", fmt.Errorf("port %d is no port", port)
	}
	inodes, err := listening("/proc", port)
	if err != nil {
		return askLsof(ctx, port) // no /proc: macOS
	}
	if len(inodes) == 0 {
		return "", nil
	}
	return owner("/proc", inodes), nil
}

// listening returns the inodes of the sockets that listen on port. The columns
// are those of proc_pid_net(5): local address, remote address, state, …, inode.
func listening(proc string, port int) (map[string]bool, error) {
	const listen = "0A" // TCP_LISTEN
	suffix := fmt.Sprintf(":%04X", port)
	inodes := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(proc, "net", table))
		if err != nil {
			if table == "tcp6" {
				continue // a kernel without IPv6
			}
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listen && strings.HasSuffix(f[1], suffix) {
				inodes[f[9]] = true
			}
		}
	}
	return inodes, nil
}

// owner finds the process that holds one of the sockets.
func owner(proc string, inodes map[string]bool) string {
	fds, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd"))
	for _, dir := range fds {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // another user's process
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(target, "socket:[")
			if ok && inodes[strings.TrimSuffix(inode, "]")] {
				process := filepath.Dir(dir)
				name, _ := os.ReadFile(filepath.Join(process, "comm"))
				return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(process)) + heldFor(process)
			}
		}
	}
	return "a process of another user"
}

// heldFor says for which container a conmon works (conmon(8), option -n), or
// nothing.
func heldFor(process string) string {
	line, _ := os.ReadFile(filepath.Join(process, "cmdline"))
	args := strings.Split(string(line), "\x00")
	if i := slices.Index(args, "-n"); filepath.Base(args[0]) == "conmon" && i >= 0 && i+1 < len(args) {
		return " of container " + args[i+1]
	}
	return ""
}

func askLsof(caller context.Context, port int) (string, error) {
	ctx, cancel := context.WithTimeout(caller, 10*time.Second)
	defer cancel()
	out, lsofErr := exec.CommandContext(ctx, "lsof", "-nP", "-iTCP:"+strconv.Itoa(port), "-sTCP:LISTEN", "-Fpc").Output()
	var pid, name string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "p"):
			pid = line[1:]
		case strings.HasPrefix(line, "c"):
			name = line[1:]
		}
		if pid != "" && name != "" {
			return fmt.Sprintf("%s (pid %s)", name, pid), nil
		}
	}
	// lsof sees only this user's processes; a connection tells of all.
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "", caller.Err()
	}
	_ = conn.Close()
	if lsofErr != nil {
		return "a process that lsof cannot name", nil
	}
	return "a process of another user", nil
}
