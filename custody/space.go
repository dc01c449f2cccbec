package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// space is what is known of a resource.
type space struct {
	id     sealed.SpaceID
	bundle *sealed.Bundle
	wake   chan struct{} // its change shall try again now
	watch  *watch        // guarded by Custody.mu

	adminMu sync.Mutex // see driver.go

	mu       sync.Mutex // guards all below
	state    state
	note     note
	sequence uint64        // of the keys when the note was read
	slot     keysource.Ref // what wraps the current data key; zero for the service's
	busy     bool          // a change is being made, or checked
	ending   chan struct{} // not nil: the change is over once the note says so; closed when busy ends
	stopLoad context.CancelFunc
	queue    []*followUp // transitions whose records wait to be written
	writing  bool        // somebody writes them
	next     time.Time   // when the key is asked next
}

// task is what one transition leaves to be done when mu is free.
type followUp struct {
	drain, rewatch, ask bool
	load                *effect       // for the caller, who has the source
	refused             bool          // there is nothing to be done
	records             []effect      // to be written
	done                chan struct{} // closed when they are; nil: there are none
	err                 error         // of a record that must be written; read after done
}

// read reads the keys.
func (sp *space) read(ctx context.Context) error {
	keys, err := sp.bundle.Keys(ctx)
	if err != nil {
		return err
	}
	n, err := decodeNote(keys.Note)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.adoptLocked(n, keys)
	return nil
}

// adoptLocked takes over what was read or written, unless what is there is newer.
func (sp *space) adoptLocked(n note, keys sealed.Keys) {
	if keys.Sequence < sp.sequence {
		return
	}
	sp.sequence, sp.note, sp.slot = keys.Sequence, n, keysource.Ref{}
	for _, s := range keys.Slots {
		if s.Current && s.Role == sealed.Customer {
			sp.slot = s.Ref
		}
	}
}

// storedLocked is what the note says of the state.
func (sp *space) storedStateLocked() stored {
	s := stored{holder: byService, held: sp.note.Held}
	if sp.note.Key != nil || sp.note.Flow == nil && sp.slot != (keysource.Ref{}) {
		s.holder = byCustomer
	}
	if f := sp.note.Flow; f != nil {
		s.change = undoable
		if f.committed() {
			s.change = committed
		}
	}
	if sp.note.LockCause != nil {
		s.lockCause = *sp.note.LockCause
	}
	return s
}

// store changes the note on disk, and returns it with the keys that it was read with. Of two that succeed the one with
// the higher sequence is the newer.
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
			continue // a turn of the keys came between, or another change of the note
		}
		if err != nil {
			return note{}, keys, fmt.Errorf("keep the note of custody: %w", err)
		}
		return n, keys, nil
	}
}

// now returns a copy of the note, which is not to be changed.
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

// inUse returns the customer's key and the version that wraps; nil when the key is the service's.
func (sp *space) keyInUse() (*binding, string) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.note.Key, sp.slot.Version
}

// claimFlow takes a flow that nobody drives.
func (sp *space) claimFlow() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.note.Flow == nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

// claim takes a space for a change, if there is none. One that everybody sees has ended is none: its rest is waited
// for.
func (sp *space) claim() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for sp.note.Flow == nil && sp.busy && sp.ending != nil {
		rest := sp.ending
		sp.mu.Unlock()
		<-rest
		sp.mu.Lock()
	}
	if sp.note.Flow != nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

// end says that the change is over as soon as the note says so.
func (sp *space) markEnding() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.busy && sp.ending == nil {
		sp.ending = make(chan struct{})
	}
}

func (sp *space) release() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.busy = false
	if sp.ending != nil {
		close(sp.ending)
		sp.ending = nil
	}
}
