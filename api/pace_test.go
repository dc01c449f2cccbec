package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/visage-face/visage/api"
)

// TestLeastRate sends bodies that continue slowly and never end.
func TestLeastRate(t *testing.T) {
	s := serve(t, api.Config{
		BodyGrace: 40 * time.Millisecond, BodyRate: 100_000, Planes: []api.Plane{plane(
			api.Route{Method: "POST", Pattern: "/t/read", MaxBody: 1 << 20, Handle: func(r *api.Request) (any, error) {
				b, err := r.ReadBody()
				return len(b), err
			}},
		)},
	})
	for name, head := range map[string]string{
		"known length": "Content-Length: 1000000\r\n\r\n", "chunked": "Transfer-Encoding: chunked\r\n\r\nf4240\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialServer(t, s.Server)
			fmt.Fprint(conn, "POST /t/read HTTP/1.1\r\nHost: x\r\n"+head)
			answered := make(chan *http.Response, 1)
			go func() {
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Error(err)
				}
				answered <- res
			}()
			tick := time.NewTicker(5 * time.Millisecond) // 200 bytes a second
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if _, err := io.WriteString(conn, "x"); err == nil {
						continue
					}
				case res := <-answered:
					if res != nil && res.StatusCode != http.StatusRequestTimeout {
						t.Errorf("got %d, want 408", res.StatusCode)
					}
					return
				case <-t.Context().Done():
					t.Fatal(t.Context().Err())
				}
			}
		})
	}
}
