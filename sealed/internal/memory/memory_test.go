package memory_test

import (
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/memory"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(*testing.T) enginetest.Place {
		return enginetest.Place{Forgets: true,
			Open: func(testing.TB) (engine.Engine, error) { return memory.New(), nil }}
	})
}
