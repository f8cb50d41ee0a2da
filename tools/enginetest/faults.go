package enginetest

import (
	"net"
)

// Cut ends every connection at once; new ones are welcome.
func (m *Machine) Cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		_ = c.Close()
	}
	clear(m.conns)
}

// CutAfter lets n more bytes through, both ways and of all connections
// together, as they are on the wire, and cuts then, once. 0 takes it back.
func (m *Machine) CutAfter(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.armed = n, n > 0
}

// CutStream lets the next stream that is opened over SSH (an HTTP connection, or
// the attachment to an exec) send n bytes to the engine, and cuts then.
func (m *Machine) CutStream(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stream = n
}

func (m *Machine) takeStream() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.stream
	m.stream = 0
	return n
}

// Stall holds back every byte from now on, in both directions and of new
// connections too, without closing anything.
func (m *Machine) Stall() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stalled = true
}

// Resume ends Stall; what was held back goes on.
func (m *Machine) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stalled = false
	m.resumed.Broadcast()
}

// Refuse cuts, and listens no longer: connections are refused until Return.
func (m *Machine) Refuse() {
	m.mu.Lock()
	if m.listener != nil {
		_ = m.listener.Close()
		m.listener = nil
	}
	m.mu.Unlock()
	m.Cut()
}

// Return listens again, where it did.
func (m *Machine) Return() {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", m.address)
	if err != nil {
		m.t.Errorf("listen as a machine: %v", err)
		return
	}
	m.listener, m.address = listener, listener.Addr().String()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if conn := m.know(c, listener); conn != nil {
				go m.serve(conn)
			}
		}
	}()
}

// know counts a connection in, unless the machine has left meanwhile.
func (m *Machine) know(c net.Conn, from net.Listener) net.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listener != from {
		_ = c.Close()
		return nil
	}
	m.conns[c] = true
	return &wire{c, m}
}

func (m *Machine) forget(conn net.Conn) {
	_ = conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, conn.(*wire).Conn)
}

// pass waits while the machine is stalled, and returns how many of n bytes may
// go through, and whether the cut comes after them.
func (m *Machine) pass(n int) (allowed int, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.stalled {
		m.resumed.Wait()
	}
	if !m.armed {
		return n, false
	}
	if m.left -= int64(n); m.left > 0 {
		return n, false
	}
	m.armed = false
	return n + int(m.left), true
}

// wire is a connection whose bytes are counted and held back.
type wire struct {
	net.Conn
	m *Machine
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	allowed, cut := w.m.pass(n)
	if cut {
		w.m.Cut()
		return allowed, net.ErrClosed
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	allowed, cut := w.m.pass(len(p))
	if !cut {
		return w.Conn.Write(p)
	}
	n, err := w.Conn.Write(p[:allowed])
	w.m.Cut()
	if err == nil {
		err = net.ErrClosed
	}
	return n, err
}
