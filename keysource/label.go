package keysource

import (
	"context"
	"fmt"
)

// Label says what a wrapped key is for. Stores whose algorithms take associated data bind it to the wrapped form, so
// that the store itself refuses to unwrap a key in the place of another one; some write it into their logs as well. It
// holds no secret.
type Label struct {
	Instance   [16]byte // of the service; zero: no label
	Resource   [16]byte // zero: the instance's own root key
	Generation uint64   // of the resource's data key
}

type labelKey struct{}

// WithLabel returns a context whose calls to key sources are about the key that l describes. What was wrapped with a
// label unwraps only with the same one, where the store can hold that.
func WithLabel(ctx context.Context, l Label) context.Context {
	return context.WithValue(ctx, labelKey{}, l)
}

// LabelOf returns the label of a context; zero if there is none.
func LabelOf(ctx context.Context) Label {
	l, _ := ctx.Value(labelKey{}).(Label)
	return l
}

// Bytes returns the label as associated data; nil for no label. Labels that differ have different bytes.
func (l Label) Bytes() []byte {
	if l == (Label{}) {
		return nil
	}
	return fmt.Appendf(nil, "visage/label/v1 %x %x %d", l.Instance, l.Resource, l.Generation)
}
