package face_test

import (
	"testing"

	"github.com/visage-face/visage/sealed"
)

func newStore(t testing.TB) *sealed.Store { return sealed.NewStub() }
