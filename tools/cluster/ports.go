package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// portsFree makes sure that every host port the cluster publishes can be had,
// before anything is made. It asks this host: where the engine runs in a
// machine, its ports are forwarded to the same ones here.
func (c Cluster) portsFree(ctx context.Context, p plan, holder func(context.Context, int) string) error {
	for _, hp := range p.ports {
		address := hp.address
		if address == "" {
			address = "0.0.0.0"
		}
		target := net.JoinHostPort(address, strconv.Itoa(hp.port))
		who, err := c.inTheWay(ctx, hp.port, func() error { return tryPort(ctx, hp.protocol, target) }, p, holder)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !inUse(err) {
			continue // free, or for the engine to judge: it may have rights we lack
		}
		if who == "" {
			who = "another program"
		}
		return failure.New(failure.StaleState,
			fmt.Sprintf("port %d, which cluster %q publishes, is taken by %s", hp.port, c.Name, who),
			fmt.Sprintf("end that program, or change hostPort %d in the suite's Kind configuration", hp.port), err)
	}
	return nil
}

const (
	// letsGo is how long an engine may take to let go of a removed container's
	// ports.
	letsGo = 2 * time.Second
	// letsGoAtLast is the same for a node of this cluster whose engine was ended
	// while it stopped the node: conmon goes a minute later.
	letsGoAtLast = 2 * time.Minute
)

// inTheWay waits while only an engine that has not let go holds the port, and
// returns what try said last and who has the port, if that is known.
func (c Cluster) inTheWay(ctx context.Context, port int, try func() error, p plan, holder func(context.Context, int) string) (who string, err error) {
	began, told := time.Now(), ""
	for err = try(); inUse(err); err = try() {
		if since := time.Since(began); since > letsGo {
			if who = c.publisher(ctx, port); who != "" || holder == nil {
				return who, err
			}
			who = holder(ctx, port)
			ours := slices.ContainsFunc(p.nodes, func(node string) bool { return strings.HasSuffix(who, " of container "+node) })
			if !ours || since > letsGoAtLast {
				return who, err
			}
			if who != told {
				c.say(fmt.Sprintf("waiting: port %d is still held by %s, which is gone", port, who))
				told = who
			}
		}
		if pause(ctx, poll) != nil {
			break
		}
	}
	return who, err
}

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

func tryPort(ctx context.Context, protocol v1alpha4.PortMappingProtocol, address string) error {
	var lc net.ListenConfig
	if strings.EqualFold(string(protocol), "udp") {
		l, err := lc.ListenPacket(ctx, "udp", address)
		if err == nil {
			err = l.Close()
		}
		return err
	}
	l, err := lc.Listen(ctx, "tcp", address)
	if err == nil {
		err = l.Close()
	}
	return err
}

// publisher names the container that publishes a port, if one does.
func (c Cluster) publisher(ctx context.Context, port int) string {
	all, err := c.Engine.Containers(ctx)
	if err != nil {
		return ""
	}
	for _, n := range all {
		for _, p := range n.Ports {
			if int(p.Host) == port && n.Running() {
				return fmt.Sprintf("the container %s", n.Name)
			}
		}
	}
	return ""
}
