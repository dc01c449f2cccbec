package custody

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// note is what custody keeps with the keys of a resource, sealed in its bundle: docs/formats/custody.md.
type note struct {
	Format   int        `json:"format"`            // noteFormat
	Key      *binding   `json:"key,omitempty"`     // nil: the service's
	Policy   *Policy    `json:"policy,omitempty"`  // nil: the instance's
	Flow     *flow      `json:"flow,omitempty"`    // a change under way
	Last     *Operation `json:"last,omitempty"`    // how the one before ended
	Held     bool       `json:"held,omitempty"`    // locked by Lock, until Unlock
	Closed   *closure   `json:"closed,omitempty"`  // why it is locked; it never makes anything less locked
	Followed time.Time  `json:"followed,omitzero"` // when it was last taken along to a newer version
}

const noteFormat = 1

// binding is a key and who asks for it.
type binding struct {
	Key visage.KeyRef      `json:"key"` // with a version: that one, for ever; without: followed
	As  visage.PrincipalID `json:"as,omitempty"`
}

// at is the key in one version.
func (b binding) at(version string) visage.KeyRef {
	k := b.Key
	k.Version = version
	return k
}

// to is the key that f goes to, as it is to be asked now: another principal may have taken over since f was read.
func (n *note) to(f flow) *binding {
	if n.Flow != nil && n.Flow.ID == f.ID {
		return n.Flow.To
	}
	return f.To
}

// closure is why a resource is locked, and since when.
type closure struct {
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func decodeNote(raw []byte) (note, error) {
	if len(raw) == 0 {
		return note{Format: noteFormat}, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var n note
	if err := d.Decode(&n); err != nil {
		return note{}, fmt.Errorf("read the note of custody: %w", err)
	}
	if n.Format != noteFormat {
		return note{}, fmt.Errorf("read the note of custody: format %d is not known", n.Format)
	}
	if f := n.Flow; f != nil && (!slices.Contains(kinds, f.Kind) || f.plan().index(f.Step) < 0) {
		return note{}, fmt.Errorf("read the note of custody: step %q of a change of kind %q is not known", f.Step, f.Kind)
	}
	return n, nil
}

// space is what is known of a resource.
type space struct {
	id     sealed.SpaceID
	bundle *sealed.Bundle
	kick   chan struct{} // its flow shall try again now
	watch  *watch        // guarded by Custody.mu

	officer sync.Mutex // held by Lock and Unlock, so that the one that began later counts; taken first
	editing sync.Mutex // held while the note changes; taken before mu
	door    sync.Mutex // held while the space is opened; taken before mu

	mu       sync.Mutex // guards all below
	note     note
	slot     keysource.Ref // what wraps the current data key; zero for the service's
	busy     bool          // a change is being driven, or checked
	ending   chan struct{} // not nil: the change is over once the note says so; closed when busy ends
	held     bool          // locked by Lock; what the note says of it is for the next start
	gone     bool          // suspended: its resource is deleted, and may come back
	shut     bool          // locked here, whatever the reason
	shuts    uint64        // how often it was
	turn     uint64        // rises when it comes under another watch, and when Unlock has its key asked: see verdict
	opening  bool          // somebody is about to open it
	stopLoad context.CancelFunc
	cond     Condition
	since    time.Time
	reason   string
	code     string
	class    class     // how the key answered last; empty: not yet
	lastOK   time.Time // when it answered well last
	next     time.Time // when it is asked next
}

// read reads the keys anew.
func (sp *space) read(ctx context.Context) error {
	sp.editing.Lock()
	defer sp.editing.Unlock()
	keys, err := sp.bundle.Keys(ctx)
	if err != nil {
		return err
	}
	n, err := decodeNote(keys.Note)
	if err != nil {
		return err
	}
	sp.adopt(n, keys)
	sp.mu.Lock()
	sp.held = n.Held
	sp.mu.Unlock()
	return nil
}

func (sp *space) adopt(n note, keys sealed.Keys) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.note, sp.slot = n, keysource.Ref{}
	for _, s := range keys.Slots {
		if s.Current && s.Role == sealed.Customer {
			sp.slot = s.Ref
		}
	}
	if sp.cond == "" {
		sp.cond = ServiceManaged
		if n.Key != nil || sp.slot != (keysource.Ref{}) {
			sp.cond = Unavailable
		}
	}
}

// edit changes the note; it is durable when edit returns nil. fn may run twice.
func (sp *space) edit(ctx context.Context, fn func(*note)) error {
	sp.editing.Lock()
	defer sp.editing.Unlock()
	for {
		keys, err := sp.bundle.Keys(ctx)
		if err != nil {
			return err
		}
		n, err := decodeNote(keys.Note)
		if err != nil {
			return err
		}
		fn(&n)
		raw, err := json.Marshal(n)
		if err != nil {
			return err
		}
		err = sp.bundle.SetNote(ctx, keys.Sequence, raw)
		if errors.Is(err, sealed.ErrChanged) {
			continue // a turn of the keys came between
		}
		if err != nil {
			return fmt.Errorf("keep the note of custody: %w", err)
		}
		sp.adopt(n, keys)
		return nil
	}
}

// now returns a copy of the note, which is not to be changed.
func (sp *space) now() note {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.note
}

// inUse returns the customer's key and the version that wraps; nil when the key is the service's.
func (sp *space) inUse() (*binding, string) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.note.Key, sp.slot.Version
}

// turnNow returns the turn in which a question is asked.
func (sp *space) turnNow() uint64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.turn
}

// policy returns what holds for the resource.
func (c *Custody) policy(sp *space) Policy {
	if p := sp.now().Policy; p != nil {
		return *p
	}
	return c.cfg.Policy
}
