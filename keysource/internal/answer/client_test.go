package answer_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource/internal/answer"
)

// TestHostThatOnlyAccepts holds that a host that accepts connections, and never answers a handshake, keeps none of
// them, nor what waits for them, once the time for a handshake is over.
func TestHostThatOnlyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{}, 1)
		client := answer.Client(nil, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				_, _ = io.Copy(io.Discard, far) // until the client closes
				closed <- struct{}{}
			}()
			return near, nil
		}, 1<<10)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://store.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			t.Fatal("a host that never finishes the handshake has answered")
		}
		select {
		case <-closed:
		case <-time.After(time.Minute): // of the simulated clock
			t.Error("the connection is still open a minute after the call")
		}
	})
}
