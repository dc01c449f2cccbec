package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keyvault"
)

// ownKey is a key in a vault of this instance, which knows for certain whether the vault exists. To a client, a deleted
// vault looks like one that cannot be reached, which is no refusal; but deleting a vault here revokes its keys.
//
// Wrapped keys are stored with the address that the key had then; its source uses the present address.
type ownKey struct {
	source       keysource.Source
	vaults       *keyvault.Service
	vault        string
	today, named string // the key's identifier without a version
}

// Wrap implements keysource.Source.
func (k ownKey) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if err := k.there(ctx, "wrap"); err != nil {
		return nil, keysource.Ref{}, err
	}
	blob, ref, err := k.source.Wrap(ctx, inner)
	return blob, renamed(ref, k.today, k.named), err
}

// Unwrap implements keysource.Source.
func (k ownKey) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if err := k.there(ctx, "unwrap"); err != nil {
		return nil, err
	}
	return k.source.Unwrap(ctx, renamed(ref, k.named, k.today), blob)
}

// Describe implements keysource.Source.
func (k ownKey) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if err := k.there(ctx, "get"); err != nil {
		return keysource.Description{}, err
	}
	d, err := k.source.Describe(ctx, renamed(ref, k.named, k.today))
	d.Ref = renamed(d.Ref, k.today, k.named)
	return d, err
}

// renamed returns ref with the URI to, if it had from.
func renamed(ref keysource.Ref, from, to string) keysource.Ref {
	if ref.URI == from {
		ref.URI = to
	}
	return ref
}

func (k ownKey) there(ctx context.Context, verb string) error {
	_, err := k.vaults.Vault(ctx, k.vault)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
		return &keysource.Error{
			Class: keysource.ErrDenied, Reason: keysource.Missing,
			Text: fmt.Sprintf("%s: the key vault %s is deleted", verb, k.vault),
		}
	}
	return nil // other failures are left to the vault itself
}
