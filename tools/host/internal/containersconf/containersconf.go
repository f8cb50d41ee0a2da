// Package containersconf composes a containers.conf of this project's own: what
// the user's files say, plus the few keys without which no container can run on
// this host. It never writes to the user's or the system's files.
//
// The format and the order of the files are containers.conf(5)'s.
package containersconf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
)

// Conf is a decoded containers.conf.
type Conf map[string]any

// header stands at the top of every file this package writes.
const header = "# Made by kubernaut-e2e for this host; `teardown` removes it. Edits are lost.\n"

// Chain lists the files Podman would read, in order: a later one wins.
// getenv is the caller's environment; root is "/" but in tests.
// CONTAINERS_CONF replaces all other files; CONTAINERS_CONF_OVERRIDE comes last.
func Chain(root string, uid int, getenv func(string) string) []string {
	var files []string
	if own := getenv("CONTAINERS_CONF"); own != "" {
		files = append(files, own)
	} else {
		files = append(files, filepath.Join(root, "usr/share/containers/containers.conf"))
		files = append(files, withDropIns(filepath.Join(root, "etc/containers/containers.conf"))...)
		if uid != 0 {
			dir := getenv("XDG_CONFIG_HOME")
			if dir == "" {
				dir = filepath.Join(getenv("HOME"), ".config")
			}
			files = append(files, withDropIns(filepath.Join(dir, "containers/containers.conf"))...)
		}
	}
	if last := getenv("CONTAINERS_CONF_OVERRIDE"); last != "" {
		files = append(files, last)
	}
	return files
}

func withDropIns(file string) []string {
	more, _ := filepath.Glob(filepath.Join(file+".d", "*.conf")) // sorted by name
	return append([]string{file}, more...)
}

// Read merges the files; missing ones are skipped.
func Read(files []string) (Conf, error) {
	all := Conf{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read engine configuration: %w", err)
		}
		one := Conf{}
		if err := toml.Unmarshal(data, &one); err != nil {
			return nil, fmt.Errorf("engine configuration %s: %w", f, err)
		}
		merge(all, one)
	}
	return all, nil
}

// merge puts src over dst: tables key by key, anything else as a whole, arrays
// that carry Podman 5's {append=true} marker at the end of what is there.
func merge(dst, src map[string]any) {
	for k, v := range src {
		switch v := v.(type) {
		case map[string]any:
			if old, ok := dst[k].(map[string]any); ok {
				merge(old, v)
				continue
			}
			dst[k] = maps.Clone(v)
		case []any:
			list, add := unmark(v)
			if old, ok := dst[k].([]any); ok && add {
				list = append(slices.Clone(old), list...)
			}
			dst[k] = list
		default:
			dst[k] = v
		}
	}
}

func unmark(list []any) (plain []any, add bool) {
	plain = []any{}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			add, _ = m["append"].(bool)
			continue
		}
		plain = append(plain, e)
	}
	return plain, add
}

// Same says whether file is what Write would make of c.
func Same(file string, c Conf) (bool, error) {
	text, err := encode(c)
	if err != nil {
		return false, err
	}
	have, err := os.ReadFile(file)
	return err == nil && string(have) == text, nil
}

func encode(c Conf) (string, error) {
	var b strings.Builder
	b.WriteString(header)
	if err := toml.NewEncoder(&b).Encode(c); err != nil {
		return "", fmt.Errorf("encode engine configuration: %w", err)
	}
	return b.String(), nil
}

// Write puts c into file, mode 0600, replacing it as a whole.
func Write(file string, c Conf) error {
	text, err := encode(c)
	if err != nil {
		return err
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write engine configuration: %w", err)
	}
	return os.Rename(tmp, file)
}

// Adapt changes c so that containers can run on a host of these facts and
// returns why, one sentence for each change. No sentence, no change.
func Adapt(c Conf, f facts.Facts) []string {
	if f.OS != "linux" {
		return nil
	}
	var why []string
	if f.UID == 0 && !f.CapSysResource {
		if limits, changed := boundLimits(texts(c.get("containers", "default_ulimits")), f); changed {
			c.set("containers", "default_ulimits", limits)
			why = append(why, "default_ulimits "+strings.Join(limits, " ")+": without CAP_SYS_RESOURCE nothing may raise a limit above the host's")
		}
	}
	if runtime, _ := c.get("engine", "runtime").(string); f.Cgroup == facts.CgroupHybrid && (runtime == "" || filepath.Base(runtime) == "crun") {
		c.set("engine", "runtime", "runc")
		why = append(why, "runtime runc: crun refuses hybrid cgroups")
	}
	if !f.Systemd {
		if m, _ := c.get("engine", "cgroup_manager").(string); m != "cgroupfs" {
			c.set("engine", "cgroup_manager", "cgroupfs")
			why = append(why, "cgroup_manager cgroupfs: systemd does not run here")
		}
		if l, _ := c.get("engine", "events_logger").(string); l != "file" && l != "none" {
			c.set("engine", "events_logger", "file")
			why = append(why, "events_logger file: no journal runs here")
		}
	}
	return why
}

func (c Conf) get(table, key string) any {
	t, _ := c[table].(map[string]any)
	return t[key]
}

func (c Conf) set(table, key string, value any) {
	t, ok := c[table].(map[string]any)
	if !ok {
		t = map[string]any{}
		c[table] = t
	}
	t[key] = value
}

func texts(v any) []string {
	var out []string
	switch v := v.(type) {
	case []string:
		return slices.Clone(v)
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}
