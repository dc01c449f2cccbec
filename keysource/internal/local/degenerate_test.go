package local_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/visage-face/visage/keysource/internal/local"
)

func TestDegenerate(t *testing.T) {
	counting, few := make([]byte, 32), bytes.Repeat([]byte{1, 2, 3, 4, 5, 5, 1, 1, 3, 7}, 4)[:32]
	few[31] = 2
	for i := range counting {
		counting[i] = byte(250 - 3*i)
	}
	changed := make([]byte, 32)
	changed[17] = 1
	for name, key := range map[string][]byte{
		"zeros": make([]byte, 32), "ones": bytes.Repeat([]byte{255}, 32), "two bytes": bytes.Repeat([]byte{1, 2}, 16),
		"five bytes": bytes.Repeat([]byte{1, 2, 3, 4, 5}, 7)[:32],
		"a half":     bytes.Repeat([]byte("0123456789abcdef"), 2),
		"counting":   counting, "zeros and a one": changed, "few": few,
	} {
		if local.Degenerate(key) == "" {
			t.Errorf("%s: %x passes", name, key)
		}
	}
	for range 1000 {
		key := make([]byte, 32)
		rand.Read(key)
		if why := local.Degenerate(key); why != "" {
			t.Errorf("%x %s", key, why)
		}
	}
}
