package sdk_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// stories are the scripts, each an application of one official client.
var stories = []struct{ name, script string }{{"current client", "new.mjs"}, {"legacy client", "old.mjs"}}

// TestOfficialClients runs every story against a real server with a synthetic recogniser: it tests the protocol, and
// needs no networks.
func TestOfficialClients(t *testing.T) {
	t.Parallel()
	for _, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			judge(t, story.script, server.Config{}, madeUp(t))
		})
	}
}

// TestOfficialClientsOnPhotos runs them with the model pack of new stores on real photos: it tests everything together.
func TestOfficialClientsOnPhotos(t *testing.T) {
	t.Parallel()
	pack := filepath.Join(module, "models", "packs", "mobileface")
	if !exists(pack) {
		missing(t, "no model pack; run make setup")
	}
	machine := filepath.Join(runtime.GOOS, map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH])
	libraries,
		err := filepath.Glob(filepath.Join(module, "models", "node_modules", "onnxruntime-node", "bin", "*", machine,
		"libonnxruntime.*"))
	if err != nil || len(libraries) == 0 {
		missing(t, "no ONNX Runtime; run make setup")
	}
	cfg := server.Config{Pack: pack, Library: libraries[0]}
	photos := photographed(t)
	for _, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			judge(t, story.script, cfg, photos)
		})
	}
}

// TestOfficialManagementClients runs the life of a resource under a customer's key with the management clients.
func TestOfficialManagementClients(t *testing.T) {
	t.Parallel()
	judge(t, "manage.mjs", server.Config{AutoApprove: true}, madeUp(t))
}

// judge runs one story against a fresh server.
func judge(t *testing.T, script string, cfg server.Config, photos cast) {
	t.Helper()
	cfg.AllowPrivateURLs = true // the photos are served on loopback
	tell(t, script, placeOf(servertest.Start(t, cfg)), photos)
}
