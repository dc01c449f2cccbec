package custody_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"sync/atomic"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// customerKey is a key in a customer's vault, without the vault and the network.
type customerKey struct {
	ref      keysource.Ref
	rsa      *rsa.PrivateKey
	disabled atomic.Bool
}

func (k *customerKey) ready() error {
	if k.disabled.Load() {
		return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Disabled, Text: "the key is disabled"}
	}
	return nil
}

// Wrap implements keysource.Source.
func (k *customerKey) Wrap(_ context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if err := k.ready(); err != nil {
		return nil, keysource.Ref{}, err
	}
	blob, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &k.rsa.PublicKey, inner, nil)
	return blob, k.ref, err
}

// Unwrap implements keysource.Source.
func (k *customerKey) Unwrap(_ context.Context, _ keysource.Ref, blob []byte) ([]byte, error) {
	if err := k.ready(); err != nil {
		return nil, err
	}
	inner, err := rsa.DecryptOAEP(sha256.New(), nil, k.rsa, blob, nil)
	if err != nil {
		return nil, &keysource.Error{Class: keysource.ErrWrong, Text: "wrapped by another key"}
	}
	return inner, nil
}

// Describe implements keysource.Source. Recovery includes soft delete and purge protection: keys without them are
// refused.
func (k *customerKey) Describe(context.Context, keysource.Ref) (keysource.Description, error) {
	return keysource.Description{
		Ref: k.ref, Algorithm: "RSA-OAEP-256", Enabled: !k.disabled.Load(), KeyType: "RSA", Bits: 2048,
		Operations: []string{"wrapKey", "unwrapKey"}, Recovery: "Recoverable",
	}, nil
}

// Encrypt the data of a resource with a customer's key, and see it locked when the customer revokes the key.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "root", Kind: "memory", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	resource := sealed.SpaceID{1}
	if err := store.Spaces().Create(ctx, resource); err != nil {
		log.Fatal(err)
	}
	events, err := audit.Open(ctx, audit.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}

	name := visage.KeyRef{
		Vault: "https://hotel.vault.example", Name: "guests", Version: "0123456789abcdef0123456789abcdef",
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	key := &customerKey{ref: keysource.Ref{URI: name.Unversioned(), Version: name.Version}, rsa: private}
	keys, err := custody.New(ctx, custody.Config{
		Store: store,
		Audit: events,
		Open: func(context.Context, visage.KeyRef, visage.PrincipalID) (keysource.Source, error) {
			return key, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- keys.Run(ctx) }() // polls every customer's key

	if _, err := keys.Enable(ctx, resource, name, "the identity of the resource"); err != nil {
		log.Fatal(err)
	}
	read := func() error { return store.Space(resource).View(ctx, func(sealed.Reader) error { return nil }) }
	fmt.Println("enabled:", read())

	// The customer disables the key. A refusal takes effect when the key has refused twice, two seconds apart.
	lease := store.Space(resource).Lease()
	key.disabled.Store(true)
	keys.Recheck(name) // the built-in vault reports every change; other vaults are polled
	<-lease.Done()
	fmt.Println("locked:", errors.Is(read(), sealed.ErrLocked))
	state, err := keys.Status(ctx, resource)
	fmt.Println(state.Condition, state.Code, err)

	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// enabled: <nil>
	// locked: true
	// revoked EncryptionKeyRevoked <nil>
}
