package load_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// cuts is how many places, spread over the whole transfer, the connection to
// the engine is cut at. It keeps a usual run short; E2E_CUTS=40 in the
// environment, with -timeout=30m, goes through the transfer closely.
const cuts = 6

// proxied opens the engine through Toxiproxy, which speaks TCP only: a
// forwarder leads from there to the engine's socket.
func proxied(t *testing.T) (engine.Engine, *toxiproxy.Proxy) {
	t.Helper()
	address, err := url.Parse(os.Getenv("CONTAINER_HOST"))
	if err != nil || address.Scheme != "unix" {
		t.Skipf("the engine is at %q, not at a socket", address)
	}
	forward, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = forward.Close() })
	go func() {
		for {
			from, err := forward.Accept()
			if err != nil {
				return
			}
			go join(from, address.Path)
		}
	}()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "engine", "127.0.0.1:0", forward.Addr().String())
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	t.Setenv("CONTAINER_HOST", "tcp://"+proxy.Listen)
	e, err := engine.Open(t.Context(), engine.Options{Provider: engine.Podman})
	if err != nil {
		t.Fatal(err)
	}
	return e, proxy
}

func join(from net.Conn, socket string) {
	to, err := net.Dial("unix", socket)
	if err != nil {
		_ = from.Close()
		return
	}
	go func() {
		io.Copy(to, from) //nolint:errcheck // its end is all that matters
		_ = to.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(from, to) //nolint:errcheck // as above
	_, _ = from.Close(), to.Close()
}

// TestCutConnection cuts the connection between us and the engine after N
// bytes. Each time the image must end up proven on every node, or the error
// must name the node and nothing may be left.
func TestCutConnection(t *testing.T) {
	c := newCluster(t, 0)
	over, proxy := proxied(t)
	const size = 24 << 20
	ref := c.ref("cut")
	c.build(ref, []int{size / 3, size * 2 / 3}, []byte{31, 32})
	count := cuts
	if s := os.Getenv("E2E_CUTS"); s != "" {
		fmt.Sscan(s, &count) //nolint:errcheck // the default stays
	}
	proven, refused := 0, 0
	for i := range count {
		if d, ok := t.Deadline(); ok && time.Until(d) < 3*time.Minute {
			t.Logf("out of time after %d of %d cuts: run with -timeout=30m", i, count)
			break
		}
		for _, strategy := range strategiesFor(i) {
			at := int64(size) * int64(i) / int64(count)
			what := fmt.Sprintf("%s cut at %d", strategy, at)
			c.forget(ref)
			toxic := fmt.Sprintf(`{"name":"cut","type":"limit_data","stream":%q,"attributes":{"bytes":%d}}`, direction(strategy, i), at)
			if i%5 == 4 { // stalls without closing
				toxic = `{"name":"cut","type":"timeout","stream":"upstream","toxicity":1,"attributes":{"timeout":0}}`
			}
			if i%5 != 4 {
				add(t, proxy, toxic)
			}
			req := c.request(over, ref)
			req.Strategy, req.Stall = strategy, 8*time.Second
			var once sync.Once
			heal := func() { once.Do(func() { _ = proxy.Toxics.RemoveToxic(context.Background(), "cut") }) }
			note := req.Note
			req.Note = func(e load.Event) {
				note(e)
				if e.Kind == "attempt" && e.Strategy != load.Present && i%5 == 4 && e.Attempt == 1 {
					add(t, proxy, toxic)
					time.AfterFunc(3*time.Second, heal)
				}
				// Every third time the second attempt is cut too.
				if e.Kind == "fail" && (i%3 != 0 || e.Attempt > 1) {
					heal()
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			started := time.Now()
			results, err := load.Load(ctx, req)
			cancel()
			heal()
			switch {
			case err == nil && len(results) == len(c.nodes):
				c.confirm(ref)
				proven++
			case failure.As(err) != nil || strings.Contains(err.Error(), c.nodes[0]) || strings.Contains(err.Error(), ref):
				refused++
				c.clean(ref)
			default:
				t.Errorf("%s: %v", what, err)
			}
			t.Logf("%s: %s, error %v", what, time.Since(started).Round(time.Millisecond), err)
			c.idle()
			if t.Failed() {
				t.Fatalf("stopped at: %s", what)
			}
		}
	}
	t.Logf("%d proven, %d refused cleanly", proven, refused)
}

func strategiesFor(i int) []string {
	return [][]string{{load.Thin}, {load.Stream}, {load.Thin}, {load.Archive}}[i%4 : i%4+1][0]
}

// direction alternates for the streamed export between what we send and what
// we get.
func direction(strategy string, i int) string {
	if strategy != load.Thin && i%8 > 3 {
		return "downstream"
	}
	return "upstream"
}

func add(t *testing.T, proxy *toxiproxy.Proxy, toxic string) {
	t.Helper()
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Error(err)
	}
}

// clean fails the test if a name is left in a node that leads nowhere.
func (c *cluster) clean(ref string) {
	c.t.Helper()
	for _, n := range c.nodes {
		if out := c.run(n, "ctr", "-n", "k8s.io", "images", "ls", "-q", "name=="+ref); strings.TrimSpace(out) != "" {
			c.confirm(ref) // there, so it must be whole
		}
	}
}

// idle fails the test if an import still runs or a file stayed behind.
func (c *cluster) idle() {
	c.t.Helper()
	for _, n := range c.nodes {
		out := c.run(n, "sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep '^ctr .*impor[t]'; done; true")
		if strings.TrimSpace(out) != "" {
			c.t.Errorf("%s still runs %s", n, out)
		}
	}
	left, err := os.ReadDir(c.workdir)
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "kubernaut-e2e-load-") {
			c.t.Errorf("left behind: %s", f.Name())
		}
	}
	if err != nil {
		c.t.Error(err)
	}
}
