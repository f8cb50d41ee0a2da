package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	pollEvery   = 2 * time.Second
	callTimeout = 10 * time.Second
	cniFolder   = "/etc/cni/net.d"
)

// podNetwork joins this node's pods to those of the other nodes until ctx ends:
// a route to every other node's pod range by that node's address, a masquerade
// for what leaves the cluster, and the CNI configuration for this node's own
// range. It is level-triggered: each round asks for the nodes afresh, so a
// round that failed is made good by the next.
func podNetwork(ctx context.Context, log *slog.Logger) error {
	self := os.Getenv("NODE_NAME")
	if self == "" {
		return errors.New("NODE_NAME is not set")
	}
	subnets, err := parsePrefixes(strings.Split(os.Getenv("POD_SUBNET"), ","))
	if err != nil {
		return fmt.Errorf("POD_SUBNET: %w", err)
	}
	api, err := newAPI()
	if err != nil {
		return err
	}
	state := &network{log: log, self: self, subnets: subnets, set: map[netip.Prefix]netip.Addr{}}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := state.round(ctx, api); err != nil && ctx.Err() == nil {
			log.Warn("round failed, the next one tries again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

type network struct {
	log     *slog.Logger
	self    string
	subnets []netip.Prefix
	set     map[netip.Prefix]netip.Addr // the routes this process has set
	masked  bool
}

func (n *network) round(ctx context.Context, api *apiClient) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	nodes, err := api.nodes(ctx)
	if err != nil {
		return err
	}
	own, routes, err := plan(nodes, n.self)
	if err != nil {
		return err
	}
	if err := n.applyRoutes(ctx, routes); err != nil {
		return err
	}
	if err := n.masquerade(ctx); err != nil {
		return err
	}
	// Last: this file is what makes the node ready.
	return writeConflist(cniFolder, own, linkMTU(nodes, n.self))
}

// applyRoutes makes the host's routes equal wanted, touching only those that
// changed since the last round.
func (n *network) applyRoutes(ctx context.Context, wanted map[netip.Prefix]netip.Addr) error {
	for prefix, via := range wanted {
		if n.set[prefix] == via {
			continue
		}
		if err := run1(ctx, "ip", "route", "replace", prefix.String(), "via", via.String()); err != nil {
			return err
		}
		n.set[prefix] = via
		n.log.Info("route set", "range", prefix, "via", via)
	}
	for prefix, via := range n.set {
		if _, ok := wanted[prefix]; ok {
			continue
		}
		if err := run1(ctx, "ip", "route", "del", prefix.String(), "via", via.String()); err != nil {
			n.log.Warn("route of a node that left not removed", "range", prefix, "error", err)
		}
		delete(n.set, prefix)
	}
	return nil
}

// masquerade hides pod addresses from everything outside the cluster, which
// would not know the way back; pods see each other's own addresses. What is for
// a pod that is gone is refused here: by the node's default route it would
// leave the cluster, and whatever answers there would pass for the pod.
func (n *network) masquerade(ctx context.Context) error {
	if n.masked {
		return nil
	}
	for _, s := range n.subnets {
		if err := run1(ctx, "ip", "route", "replace", "unreachable", s.String()); err != nil {
			return err
		}
		tool := "iptables"
		if s.Addr().Is6() {
			tool = "ip6tables"
		}
		rule := []string{
			"POSTROUTING", "-s", s.String(), "!", "-d", s.String(),
			"-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", "MASQUERADE",
		}
		args := append([]string{"-w", "-t", "nat"}, "-C")
		if run1(ctx, tool, append(args, rule...)...) == nil {
			continue
		}
		args[len(args)-1] = "-A"
		if err := run1(ctx, tool, append(args, rule...)...); err != nil {
			return err
		}
		n.log.Info("masquerade set", "range", s)
	}
	n.masked = true
	return nil
}

// linkMTU returns the MTU of the interface that carries the node's address, so
// that a pod's packets fit; 0 leaves the choice to the plugin.
func linkMTU(nodes []node, self string) int {
	var own []netip.Addr
	for _, n := range nodes {
		if n.name == self {
			own = n.addresses
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, l := range links {
		addresses, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			for _, o := range own {
				if o == p.Addr() {
					return l.MTU
				}
			}
		}
	}
	return 0
}

func run1(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
