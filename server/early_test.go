package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
)

// TestRefusedBeforeTheBody sends the heads of long requests that are not allowed, and gets the answer instead of
// permission to send the body.
func TestRefusedBeforeTheBody(t *testing.T) {
	o := newOfficer(t, server.Config{})
	powerless := realm{o.Server, t}.somebody("powerless", "")
	_, port, _ := strings.Cut(strings.TrimPrefix(o.URL, "https://"), ":")
	safe, here := "safe.vault.localhost:"+port, "localhost:"+port
	atVault, atManagement := "Bearer "+powerless("https://vault.localhost:"+port), "Bearer "+powerless(managementPlane)
	config := o.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
	for _, row := range []struct {
		method, path, host, bearer string
		status                     int
	}{
		{"POST", "/keys/restore?api-version=7.4", safe, atVault, 403},
		{"POST", "/keys/restore?api-version=7.4", safe, "", 401},
		{"POST", "/keys/x/create?api-version=7.4", safe, atVault, 403},
		{"PUT", "/keys/x?api-version=7.4", safe, atVault, 403},
		{"PATCH", "/keys/x?api-version=7.4", safe, atVault, 403},
		{"PUT", "/keys/x/rotationpolicy?api-version=7.4", safe, atVault, 403},
		{"POST", "/keys/x/wrapkey?api-version=7.4", safe, atVault, 403},
		{"POST", "/keys/x/1/sign?api-version=7.4", safe, atVault, 403},
		{"PUT", fmt.Sprintf(vaultPath, o.Operator().SubscriptionID, "other"), here, atManagement, 403},
		{"PUT", fmt.Sprintf(vaultPath, o.Operator().SubscriptionID, "other"), here, "", 401},
		{"POST", "/face/v1.0/detect", here, "", 401},
	} {
		t.Run(row.method+" "+row.path+" as "+row.bearer[:min(6, len(row.bearer))], func(t *testing.T) {
			conn, err := tls.Dial("tcp", o.Addr().String(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(
				conn,
				"%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: "+
					"application/json\r\nContent-Length: 60000\r\nExpect: 100-continue\r\n\r\n",
				row.method, row.path, row.host, row.bearer)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != row.status {
				t.Errorf("got %d, want %d without permission to send the body", res.StatusCode, row.status)
			}
		})
	}
}
