package host

import "context"

// Setup makes the host able to run everything: packages (Debian's names; those
// of the node image's build, for one) where Linux packages mean something, and an
// engine that answers. It may install, whatever o.AllowInstall says.
func Setup(ctx context.Context, o Options, packages []string) (Connection, error) {
	o.AllowInstall = true
	h := newHost(o)
	conn, err := h.ensure(ctx)
	if err != nil {
		return conn, err
	}
	if len(packages) > 0 && h.facts.OS == "linux" {
		err = h.installPackages(ctx, packages)
		conn.Changes = h.made
	}
	return conn, err
}
