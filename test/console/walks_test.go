package console_test

import (
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestWalks runs every walk, each against a server of its own.
func TestWalks(t *testing.T) {
	for _, w := range []struct {
		script string
		cfg    server.Config
	}{
		{"frame.mjs", server.Config{}}, {"script.mjs", server.Config{}},
	} {
		t.Run(w.script, func(t *testing.T) {
			t.Parallel()
			walk(t, servertest.Start(t, w.cfg), w.script, nil)
		})
	}
}
