package azure_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
)

// TestHostsThatOnlyAccept holds that a vault, or a token service, that accepts connections and never answers a
// handshake keeps none of them, nor what waits for them, once the time for a handshake is over.
func TestHostsThatOnlyAccept(t *testing.T) {
	for name, call := range map[string]func(*testing.T, func(context.Context, string, string) (net.Conn, error)) error{
		"vault": func(
			t *testing.T, dial func(context.Context, string, string) (net.Conn, error),
		) error {
			src, err := azure.NewVaults(azure.Config{Dial: dial}).Open(
				visage.KeyRef{Vault: "https://contoso.vault.azure.net", Name: "faces"}, credential{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = src.Describe(t.Context(), keysource.Ref{})
			return err
		},
		"token service": func(
			t *testing.T, dial func(context.Context, string, string) (net.Conn, error),
		) error {
			client := azure.LoginClient(nil)
			client.Transport.(*http.Transport).DialContext = dial
			_, _, err := azure.Federated{Client: client, Tenant: "contoso.example", ClientID: "app",
				Assertion: func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil },
			}.Token(t.Context(), "https://vault.azure.net/.default")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := make(chan struct{}, 1)
				err := call(t, func(context.Context, string, string) (net.Conn, error) {
					near, far := net.Pipe()
					go func() {
						_, _ = io.Copy(io.Discard, far) // until the client closes
						closed <- struct{}{}
					}()
					return near, nil
				})
				if err == nil {
					t.Error("a host that never finishes the handshake has answered")
				}
				select {
				case <-closed:
				case <-time.After(time.Minute): // of the simulated clock
					t.Error("the connection is still open a minute after the call")
				}
			})
		})
	}
}
