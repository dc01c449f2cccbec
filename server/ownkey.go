package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keyvault"
)

// ownKey is a key in a vault of this instance, of which it knows for certain whether it is there. From outside a
// deleted vault looks like one that cannot be reached, and that is no refusal; whoever deletes a vault here means its
// keys too.
//
// What was wrapped names the key as it was addressed on that day, and its source knows the key as it is addressed
// today.
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

// renamed returns ref with the identifier to, where it had from.
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
	return nil // what else there may be is for the vault itself to say
}
