package arena_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/visage-face/visage/internal/arena"
)

func TestBufferHoldsAndCompares(t *testing.T) {
	b, err := arena.New(40)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	if len(b.Bytes()) != 40 || cap(b.Bytes()) != 40 {
		t.Fatalf("got %d bytes with capacity %d, want 40", len(b.Bytes()), cap(b.Bytes()))
	}
	for i, v := range b.Bytes() {
		if v != 0 {
			t.Fatalf("byte %d of new memory is %d", i, v)
		}
	}
	copy(b.Bytes(), strings.Repeat("k", 40))
	if !b.Equal([]byte(strings.Repeat("k", 40))) {
		t.Error("Equal is false for the same bytes")
	}
	for _, other := range []string{
		"", strings.Repeat("k", 39), strings.Repeat("k", 41), strings.Repeat("k", 39) + "j",
	} {
		if b.Equal([]byte(other)) {
			t.Errorf("Equal is true for %q", other)
		}
	}
}

func TestBufferFreesOnce(t *testing.T) {
	b, err := arena.New(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	b.Free()
	b.Free()
	if b.Bytes() != nil {
		t.Error("memory is still reachable after Free")
	}
}

func TestBufferDoesNotShow(t *testing.T) {
	b, err := arena.New(8)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	copy(b.Bytes(), "hunter22")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", b)
	shown := fmt.Sprintf("%v %+v %#v %s %q", b, b, b, b, b) + log.String()
	if strings.Contains(shown, "hunter") || strings.Contains(shown, "104 117 110") {
		t.Errorf("the secret is visible in %q", shown)
	}
}

func TestNewRefusesNothing(t *testing.T) {
	for _, size := range []int{0, -1} {
		if _, err := arena.New(size); err == nil {
			t.Errorf("New(%d) gave memory", size)
		}
	}
}
