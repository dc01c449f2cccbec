package photo_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// The programs that run in sandboxes are those that wasm/README.md tells of.
func TestProgramsAreTheOnesDocumented(t *testing.T) {
	for name, want := range map[string]string{
		"jpeg.wasm.gz": "41b89f07b21101e8847031ecefc517e24763ce3c4890ed916321c729e71f02ca",
		"heif.wasm.gz": "3634a6447ea3915633667f39e01ff540a60f4e2f837a8391d044d76dfd8a0435",
		"avif.wasm.gz": "1ee2423413384d54b3fa4e2882424d60a2a05f5fe7ec573535fdb6b531071a9b",
	} {
		b, err := os.ReadFile(filepath.Join("wasm", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has the hash %s, want %s", name, got, want)
		}
	}
}
