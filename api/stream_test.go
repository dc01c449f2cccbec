package api_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/api"
)

// TestStreams checks that a streamed answer arrives as written, and that a failed one is cut off, so that no client
// accepts it as complete.
func TestStreams(t *testing.T) {
	stream := func(write func(context.Context, io.Writer) error) func(*api.Request) (any, error) {
		return func(*api.Request) (any, error) { return api.Reply{Status: http.StatusOK, Stream: write}, nil }
	}
	s := serve(t, api.Config{Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/whole", Handle: stream(func(_ context.Context, w io.Writer) error {
			for range 1000 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
					return err
				}
			}
			return nil
		})},
		api.Route{Method: "POST", Pattern: "/t/broken", Handle: stream(func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "half of")
			return errors.Join(err, errors.New("the disk is on fire"))
		})},
	)}})
	read := func(path string) (int, error) {
		res, err := s.Client().Post(s.URL+path, "", nil)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d, %s", path, res.StatusCode, res.Header.Get("Content-Type"))
		}
		b, err := io.ReadAll(res.Body)
		return len(b), err
	}
	if n, err := read("/t/whole"); n != 1_000_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := read("/t/broken"); err == nil {
		t.Errorf("got %d bytes and no error", n)
	}
}
