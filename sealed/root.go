package sealed

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
)

// RootKey is the instance root key of an open store: what protects it, and its versions.
type RootKey struct{ store *Store }

// RootKey returns the verbs of the instance root key.
func (s *Store) RootKey() *RootKey { return &RootKey{s} }

// Why a change of the root key or its protectors is refused.
var (
	ErrNoProtector   = keys.ErrNoProtector   // of that name
	ErrLastProtector = keys.ErrLastProtector // no other one opens the root key
	ErrProtected     = keys.ErrProtected     // it wraps the root key already
	ErrDetached      = keys.ErrDetached      // the configuration of this process does not have it
	ErrRotating      = keys.ErrRotating      // the rotation before is not finished
	ErrLastVersion   = keys.ErrLastVersion   // there can be no further version
	ErrNotProved     = keys.ErrNotProved     // the current root key did not make the proof
)

// RootState is how the root key stands.
type RootState struct {
	Version    uint32    // of the key; it grows with every rotation
	Made       time.Time // when this version was made; zero: not known
	Protectors []ProtectorState
	// Exposed says that a copy of the disks of this machine may open the data: a protector is exposed, or one was while
	// this version of the key was current.
	Exposed  bool
	Kit      time.Time // when a recovery kit of this version was made; zero: never
	Proved   time.Time // when one was proved to open this version; zero: never
	Ignored  []string  // configured protectors that are not used, since they were removed
	Rotation Rotation
}

// ProtectorState is how a protector stands.
type ProtectorState struct {
	Name, Kind string
	Entry      string // how the configuration named it when it was added; may be empty
	Exposed    bool
	Attached   bool      // the configuration of this process has it
	Opened     bool      // it opened the root key of this process
	Added      time.Time // zero: not known
	Tested     time.Time // when it last opened the root key; zero: not yet
}

// State says how the root key stands. It asks no protector.
func (r *RootKey) State(ctx context.Context) (RootState, error) {
	s := r.store
	defer s.root.Hold()()
	if s.isClosed() {
		return RootState{}, ErrClosed
	}
	sum, err := s.root.State(ctx)
	if err != nil {
		return RootState{}, fmt.Errorf("read the state of the root key: %w", err)
	}
	state := RootState{Version: sum.Version, Made: sum.Made, Exposed: sum.Exposed, Ignored: sum.Ignored,
		Kit: sum.Kit, Proved: sum.Proved,
		Rotation: s.rotation.state(sum.Rotating)}
	for _, p := range sum.Protectors {
		state.Protectors = append(state.Protectors, ProtectorState(p))
	}
	return state, nil
}

// Add wraps the root key with another protector, after it has proved that it opens what it wraps, and returns the name
// that it has from now on. One that was removed can be added again. The configuration of a later start must name it.
// Errors: ErrProtected, what the source says.
func (r *RootKey) Add(ctx context.Context, p Protector) (name string, err error) {
	err = r.do("add a protector of the root key", func() error {
		name, err = r.store.root.Add(ctx, p)
		return err
	})
	return name, err
}

// Remove takes a protector out for good, also if the configuration of a later start still names it. Another one must
// open the root key at this moment. Errors: ErrNoProtector, ErrLastProtector.
func (r *RootKey) Remove(ctx context.Context, name string) error {
	return r.do("remove a protector of the root key", func() error { return r.store.root.Remove(ctx, name) })
}

// Test asks every protector to open the root key, and returns what each said, by name; nil for one that opens it.
func (r *RootKey) Test(ctx context.Context) (said map[string]error, err error) {
	err = r.do("test the protectors of the root key", func() error {
		said, err = r.store.root.Test(ctx)
		return err
	})
	return said, err
}

// Rotate makes a new root key, which all protectors have to wrap. From then on everything new is sealed under it; Run
// seals what is there anew, while everything goes on, and continues after a restart. Errors: ErrRotating,
// ErrLastVersion, ErrDetached, what a protector says.
func (r *RootKey) Rotate(ctx context.Context) error {
	err := r.do("rotate the root key", func() error { return r.store.root.Rotate(ctx) })
	if err == nil {
		r.store.rotation.wake()
	}
	return err
}

// do runs a change of the root key, which is held meanwhile.
func (r *RootKey) do(what string, change func() error) error {
	s := r.store
	defer s.root.Hold()()
	if s.isClosed() {
		return ErrClosed
	}
	if err := change(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Kit calls seal with the current root key and its version, for a recovery kit. seal must not keep the key.
func (r *RootKey) Kit(ctx context.Context, seal func(version uint32, root []byte) error) error {
	return r.do("make a recovery kit", func() error { return r.store.root.Kit(ctx, seal) })
}

// Proved checks the proof that somebody has opened a recovery kit, and notes when. Error: ErrNotProved.
func (r *RootKey) Proved(ctx context.Context, kit string, at time.Time, proof []byte) error {
	return r.do("prove a recovery kit", func() error { return r.store.root.Proved(ctx, kit, at, proof) })
}

// RecoveryProof is the proof for RootKey.Proved, made with the root key that a recovery kit of an instance has given.
func RecoveryProof(root []byte, instance [16]byte, kit string, at time.Time) []byte {
	return format.RecoveryProof(root, format.ID(instance), kit, at.Unix())
}
