package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// space is what custody knows about one resource.
type space struct {
	id     sealed.SpaceID
	bundle *sealed.Bundle
	again  func(refused bool) // has Run look at what other processes have changed
	wake   chan struct{}      // wakes the goroutine of its change
	ask    chan struct{}      // has the goroutine beside it ask the keys at once

	// guarded by Custody.mu
	watches  []*watch    // of its keys, the first one first; none during a change
	failOver *time.Timer // has the other keys asked when they may serve; nil: none is set
	search   bool        // a key was reported as changed while it had no watch

	adminMu sync.Mutex // see effects.go

	mu       sync.Mutex // guards the fields below
	state    state
	note     note
	sequence uint64             // of the keys when the note was read
	slots    []keysource.Ref    // the key versions that wrap the data key; none: the service's
	busy     bool               // a goroutine has claimed the space for a change
	missed   bool               // another process has changed the note, or locked the data, meanwhile
	refused  bool               // and the store refuses the data here
	held     *sealed.Claim      // of that goroutine, among all processes; nil: it has none
	ending   chan struct{}      // not nil: claim waits, since the change is about to end; closed by release
	stopLoad context.CancelFunc // ends the loading of keys under way; nil: none
	queue    []*followUp        // transitions with records to be written, in order
	writing  bool               // a goroutine writes the queue
}

// followUp holds the effects of one transition that are carried out without mu.
type followUp struct {
	drain, updateWatch, ask bool
	lockAll                 bool          // other processes are to lock the data too
	lockAgain               bool          // and to look again when the records are written
	askOthers               time.Time     // when the other keys are to be asked; zero: no more than they are
	load                    *effect       // carried out by the caller
	refused                 bool          // the command is refused
	records                 []effect      // to be audited, stored and logged
	done                    chan struct{} // closed when the records are written; nil: there are none
	err                     error         // of a required record; read after done
}

// stored reads the stored note, and the keys that wrap the data key.
func (sp *space) stored(ctx context.Context) (n note, keys sealed.Keys, err error) {
	if keys, err = sp.bundle.Keys(ctx); err == nil {
		n, err = decodeNote(keys.Note)
	}
	return n, keys, err
}

// read takes over what is stored.
func (sp *space) read(ctx context.Context) error {
	n, keys, err := sp.stored(ctx)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.adoptNoteLocked(n, keys)
	return nil
}

// adoptNoteLocked replaces the note by one that was read or stored, unless the present one is newer. sp.mu is held.
func (sp *space) adoptNoteLocked(n note, keys sealed.Keys) {
	if keys.Sequence < sp.sequence {
		return
	}
	sp.sequence, sp.note, sp.slots = keys.Sequence, n, nil
	for _, s := range keys.Slots {
		if s.Current && s.Role == sealed.Customer {
			sp.slots = append(sp.slots, s.Ref)
		}
	}
}

// versionLocked returns the version of a key that wraps the data key; empty: none does. sp.mu is held.
func (sp *space) versionLocked(key visage.KeyRef) string {
	for _, ref := range sp.slots {
		if ref.URI == key.Unversioned() {
			return ref.Version
		}
	}
	return ""
}

// storesLocked returns the keys of all stores, the first one first. sp.mu is held.
func (sp *space) storesLocked() (all []storeKey) {
	for _, b := range sp.note.bindings() {
		all = append(all, storeKey{b, sp.versionLocked(b.Key)})
	}
	return all
}

// stores returns the keys of all stores, the first one first; none: the service's key protects the data.
func (sp *space) stores() []storeKey {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.storesLocked()
}

// storedStateLocked returns the stored part of the state. sp.mu is held.
func (sp *space) storedStateLocked() stored {
	s := stored{holder: byService, ownerLocked: sp.note.OwnerLocked, stores: len(sp.note.bindings()),
		refusedBy: sp.note.RefusedBy}
	if sp.note.Key != nil || sp.note.Flow == nil && sp.slots != nil {
		s.holder = byCustomer
	}
	if f := sp.note.Flow; f != nil {
		s.change = reversible
		if f.committed() {
			s.change = committed
		}
	}
	if sp.note.LockCause != nil {
		s.lockCause = *sp.note.LockCause
	}
	return s
}

// storeNote changes the stored note, and returns it with the keys that it was read with. Of two stored notes, the one
// with the higher sequence is newer.
func (sp *space) storeNote(ctx context.Context, fn func(*note)) (note, sealed.Keys, error) {
	for {
		keys, err := sp.bundle.Keys(ctx)
		if err != nil {
			return note{}, keys, err
		}
		n, err := decodeNote(keys.Note)
		if err != nil {
			return note{}, keys, err
		}
		fn(&n)
		raw, err := json.Marshal(n)
		if err != nil {
			return note{}, keys, err
		}
		err = sp.bundle.SetNote(ctx, keys.Sequence, raw)
		if errors.Is(err, sealed.ErrChanged) {
			continue // the keys or the note have changed since
		}
		if err != nil {
			return note{}, keys, fmt.Errorf("store the note of custody: %w", err)
		}
		return n, keys, nil
	}
}

// noteNow returns a copy of the note. What it points to must not be changed.
func (sp *space) noteNow() note {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.note
}

// stateNow returns the state.
func (sp *space) stateNow() state {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.state
}

// keyInUse returns the customer's first key and its version that wraps the data key, if its store has versions; nil:
// the service's key.
func (sp *space) keyInUse() (*binding, string) {
	return sp.keyOf(0)
}

// keyOf returns the key of a store, 0 the first, and its version that wraps the data key; nil: there is none.
func (sp *space) keyOf(store int) (*binding, string) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	all := sp.storesLocked()
	if store >= len(all) {
		return nil, ""
	}
	return &all[store].binding, all[store].Version
}

// claimFlow claims the space for a flow that no goroutine works on.
func (sp *space) claimFlow() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.note.Flow == nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

// claim claims the space for a new change. It fails while another change is under way, but waits for one that has ended
// for every reader of the state and has only its records left to write.
func (sp *space) claim(ctx context.Context) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for sp.note.Flow == nil && sp.busy && sp.ending != nil {
		ended := sp.ending
		sp.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		sp.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
	if sp.note.Flow != nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

// markEnding announces that the change ends with the next stored note.
func (sp *space) markEnding() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.busy && sp.ending == nil {
		sp.ending = make(chan struct{})
	}
}

// lost returns the error of a claim that another process may have by now.
func (sp *space) lost() error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.held == nil || sp.held.Context().Err() == nil {
		return nil
	}
	return context.Cause(sp.held.Context())
}

// release ends a claim.
func (sp *space) release() {
	sp.mu.Lock()
	held := sp.held
	sp.held = nil
	sp.mu.Unlock()
	if held != nil {
		held.Release()
	}
	sp.mu.Lock()
	missed, refused := sp.missed, sp.refused
	sp.busy, sp.missed, sp.refused = false, false, false
	if sp.ending != nil {
		close(sp.ending)
		sp.ending = nil
	}
	sp.mu.Unlock()
	if missed {
		sp.again(refused)
	}
}
