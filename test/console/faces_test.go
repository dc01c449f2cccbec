package console_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestFaces walks through the pages about enrolled people, and tries the service, with photos of made-up people.
func TestFaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, people := range map[string][]string{
		"Ada": {"ada"}, "Grace": {"grace"}, "both": {"ada", "grace"}, "nobody": nil,
	} {
		photo := servertest.Photo(len(name), people...)
		if err := os.WriteFile(filepath.Join(dir, name+".png"), photo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	if *screenshots != "" {
		args = append(args, folder(t, *screenshots))
	}
	walk(t, servertest.Start(t, server.Config{}), "faces.mjs", map[string]string{"photos": dir}, args...)
}
