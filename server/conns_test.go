package server_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestStrangersDriveOutTheirOwn opens more connections than allowed from one address while another client works over
// one.
func TestStrangersDriveOutTheirOwn(t *testing.T) {
	const most = 16
	s := servertest.Start(t, server.Config{Connections: most})
	if status, body := detect(t, s, s.Key); status != http.StatusOK {
		t.Fatalf("detect: %d %s", status, body)
	}
	config := s.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
	var strangers []net.Conn
	for range 2 * most {
		c, err := tls.Dial("tcp", s.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		strangers = append(strangers, c)
	}
	if _, err := strangers[0].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the oldest stranger's connection: %v, want it closed", err)
	}
	if status, body := detect(t, s, s.Key); status != http.StatusOK {
		t.Errorf("detect beside them: %d %s", status, body)
	}
	if _, body := call(t, s, http.MethodGet, "/metrics", "", nil); !strings.Contains(body,
		"visage_server_connections_displaced_total") ||
		strings.Contains(body, "visage_server_connections_displaced_total 0") {
		t.Error("no metric counts the displaced connections")
	}
}

// TestSilentConnectionsGoFirst opens connections that send nothing, many more than are displaced in a second, from the
// address of a new client, and from two other addresses that may hold all connections between them.
func TestSilentConnectionsGoFirst(t *testing.T) {
	const most = 16
	for _, c := range []struct {
		name string
		from []string
	}{
		{"from the client's address", []string{"127.0.0.1"}},
		{"from two others", []string{"127.0.0.2", "127.0.0.3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := servertest.Start(t, server.Config{Connections: most})
			config := s.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
			config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
			for _, from := range c.from {
				dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
				for i := range 300 {
					silent, err := dialer.DialContext(t.Context(), "tcp", s.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer silent.Close()
					if i < most/2 && len(c.from) > 1 { // that were answered, so that closing them is limited
						if err := tls.Client(silent, config).HandshakeContext(t.Context()); err != nil {
							t.Fatalf("handshake %d from %s: %v", i, from, err)
						}
					}
				}
			}
			client := http.Client{Transport: s.Client.Transport.(*http.Transport).Clone()}
			defer client.CloseIdleConnections()
			res, err := client.Get(s.URL + "/healthz")
			if err != nil {
				t.Fatalf("a new client: %v", err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("a new client: %d", res.StatusCode)
			}
		})
	}
}

// TestProxiesMayHaveAllConnections opens more connections from a trusted proxy than are allowed from another address.
func TestProxiesMayHaveAllConnections(t *testing.T) {
	const most = 16
	s := servertest.Start(t, server.Config{Connections: most, TrustedProxies: []string{"127.0.0.1"}})
	config := s.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
	var all []net.Conn
	for range most - 2 {
		c, err := tls.Dial("tcp", s.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	for i, c := range all {
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}
