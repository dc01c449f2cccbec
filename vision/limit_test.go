package vision_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/visage-face/visage/vision"
)

// TestPipelinesShareALimit: while one pipeline processes the only photo allowed, the other waits, and continues
// afterwards.
func TestPipelinesShareALimit(t *testing.T) {
	limit := vision.NewLimit(1)
	one, other := open(t, vision.Config{Limit: limit}), open(t, vision.Config{Limit: limit})
	file := read(t, shared(t, "faces", "Family1-Dad1.jpg"))
	asked := false
	_, err := one.Detect(t.Context(), file, vision.Want{Select: func([]vision.Face) []int {
		asked = true
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if found, err := other.Detect(ctx, file, vision.Want{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two photos were worked on at a time: %v, %v", found, err)
		}
		return nil
	}})
	if err != nil || !asked {
		t.Fatalf("asked: %v, %v", asked, err)
	}
	if found, err := other.Detect(t.Context(), file, vision.Want{}); err != nil || len(found.Faces) != 1 {
		t.Errorf("the other, in its turn: %v, %v", found, err)
	}
}
