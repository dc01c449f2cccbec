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

// TestStrangersDriveOutTheirOwn opens more connections than there may be from one address while somebody works over one.
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
	if _, body := call(t, s, http.MethodGet, "/metrics", "", nil); !strings.Contains(body, "visage_server_connections_displaced_total") ||
		strings.Contains(body, "visage_server_connections_displaced_total 0") {
		t.Error("no metric tells of the displaced connections")
	}
}
