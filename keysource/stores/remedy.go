package stores

import (
	"github.com/visage-face/visage"
)

// Need is one thing that a resource needs of a store before a key may protect it.
type Need string

// The needs, in their order.
const (
	NeedLogin  Need = "login"  // the identity may log in
	NeedRights Need = "rights" // it may describe, wrap and unwrap with the key
	NeedKey    Need = "key"    // there is such a key
	NeedType   Need = "type"   // it is of a fit type
	// it is protected against deletion, enabled, and allows to wrap and unwrap
	NeedProtection Need = "protection"
	NeedEnabled    Need = "enabled"
	NeedOperations Need = "operations"
)

// Customer is what commands for the holder of a key are filled in with.
type Customer struct {
	Principal visage.PrincipalID // of the resource
	Issuer    string             // the claim "iss" of the tokens that prove it
	KeysURI   string             // where the keys that verify these tokens are published
}

// Remedy returns commands by which the holder of a key gives a resource what it needs, one a line; nil: the kind of the
// store has none, or the store is not configured.
func (s *Set) Remedy(key visage.KeyRef, need Need, c Customer) []string {
	store := s.store(key)
	if store == nil || store.kind.remedy == nil {
		return nil
	}
	return store.kind.remedy(*store, key, need, c)
}
