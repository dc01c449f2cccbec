package keys

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"time"

	"github.com/visage-face/visage/sealed/internal/format"
)

// ErrNotProved says that a proof was not made with the current root key for what it is about.
var ErrNotProved = errors.New("the root key did not make this proof")

// Kit calls seal with the current root key, which seal must neither keep nor change, and then notes that a recovery kit
// was made.
func (r *Root) Kit(ctx context.Context, seal func(version uint32, root []byte) error) error {
	done, err := r.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	root := r.Current()
	key := bytes.Clone(root.Key)
	defer clear(key)
	if err := seal(root.Version, key); err != nil {
		return err
	}
	return r.Change(ctx, func(doc *Instance) error {
		if doc.Version != root.Version { // another process has rotated the key, and the kit is of the one before
			return ErrRotating
		}
		doc.Kit = now()
		return nil
	})
}

// Proved checks the proof that a kit was opened, and notes the time. Error: ErrNotProved.
func (r *Root) Proved(ctx context.Context, kit string, at time.Time, proof []byte) error {
	done, err := r.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	root := r.Current()
	if !hmac.Equal(proof, format.RecoveryProof(root.Key, r.Instance, kit, at.Unix())) {
		return ErrNotProved
	}
	return r.Change(ctx, func(doc *Instance) error {
		if doc.Version != root.Version { // another process has rotated the key
			return ErrNotProved
		}
		doc.Proved = now()
		return nil
	})
}
