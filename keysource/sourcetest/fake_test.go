package sourcetest_test

import (
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
)

func TestFake(t *testing.T) {
	fake := sourcetest.NewFake("one")
	sourcetest.Run(t, sourcetest.Provider{
		Open:  func(testing.TB) keysource.Source { return fake },
		Other: func(testing.TB) keysource.Source { return sourcetest.NewFake("two") },
		Faults: []sourcetest.Fault{{
			Name: "told to fail",
			Source: func(testing.TB) keysource.Source {
				f := sourcetest.NewFake("broken")
				f.Fail(keysource.ErrDenied)
				return f
			},
			Class: keysource.ErrDenied,
			Says:  "refuses",
		}},
	})
}
