package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// node is what the network needs to know of a cluster's node.
type node struct {
	name      string
	addresses []netip.Addr   // internal ones
	ranges    []netip.Prefix // of its pods
}

// plan returns this node's own pod ranges and the routes it needs: every other
// node's pod range by that node's address of the same family. A node without a
// range or an address yet is left for a later round; for this node itself that
// is an error.
func plan(nodes []node, self string) ([]netip.Prefix, map[netip.Prefix]netip.Addr, error) {
	var own []netip.Prefix
	routes := map[netip.Prefix]netip.Addr{}
	for _, n := range nodes {
		if n.name == self {
			own = n.ranges
			continue
		}
		for _, r := range n.ranges {
			for _, a := range n.addresses {
				if a.Is4() == r.Addr().Is4() {
					routes[r] = a
					break
				}
			}
		}
	}
	if len(own) == 0 {
		return nil, nil, fmt.Errorf("node %q has no pod range yet", self)
	}
	return own, routes, nil
}

func parsePrefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		if t = strings.TrimSpace(t); t == "" {
			continue
		}
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// conflist is the CNI configuration for one node (CNI specification 0.4.0).
// Addresses are kept below /run, so that a restarted node begins afresh instead
// of leaking those of pods that are gone.
func conflist(own []netip.Prefix, mtu int) ([]byte, error) {
	type m = map[string]any
	var ranges [][]m
	var routes []m
	for _, p := range own {
		ranges = append(ranges, []m{{"subnet": p.String()}})
		if p.Addr().Is4() {
			routes = append(routes, m{"dst": "0.0.0.0/0"})
		} else {
			routes = append(routes, m{"dst": "::/0"})
		}
	}
	ptp := m{
		"type": "ptp", "ipMasq": false,
		"ipam": m{"type": "host-local", "dataDir": "/run/cni-ipam-state", "ranges": ranges, "routes": routes},
	}
	if mtu > 0 {
		ptp["mtu"] = mtu
	}
	return json.MarshalIndent(m{
		"cniVersion": "0.4.0",
		"name":       "kubernaut-e2e",
		"plugins":    []m{ptp, {"type": "portmap", "capabilities": m{"portMappings": true}}},
	}, "", "  ")
}

// writeConflist puts the configuration into folder if it is not there already,
// in one step, because containerd watches the folder.
func writeConflist(folder string, own []netip.Prefix, mtu int) error {
	data, err := conflist(own, mtu)
	if err != nil {
		return err
	}
	path := filepath.Join(folder, "10-kubernaut-e2e.conflist")
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	tmp := filepath.Join(folder, ".10-kubernaut-e2e.tmp")
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("write %q: %w", tmp, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("put %q in place: %w", path, err)
	}
	return nil
}
