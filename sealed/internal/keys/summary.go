package keys

import (
	"context"
	"fmt"
	"slices"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Slot is one wrapping of one generation of a space's data key.
type Slot struct {
	Generation uint32
	Role       Role
	Ref        keysource.Ref // zero for Service
	Current    bool          // what is written now is sealed under this generation
}

// Standing is how a space's keys stand.
type Standing struct {
	Sequence uint64 // grows with every change
	Slots    []Slot
	Turning  bool   // keys other than the current ones are still alive: Turn or Retire has work to do
	Note     []byte // kept by SetNote for the caller that changes keys
}

// Standing says how the keys of a bundle stand.
func (d *Doc) Standing() Standing {
	k := Standing{Sequence: d.Sequence, Turning: len(d.Generations) > 1 || len(d.Epochs) > 1, Note: d.Note}
	for _, g := range d.Generations {
		for _, sd := range g.Slots {
			k.Slots = append(k.Slots, Slot{
				Generation: g.Number, Role: sd.Role, Ref: keysource.Ref{URI: sd.URI, Version: sd.Version},
				Current: g.Number == d.Current.Generation,
			})
		}
	}
	return k
}

// SetNote keeps a note in a bundle, if its sequence number is still the given one; else ErrChanged. The root must be
// held.
func (b *Bundles) SetNote(ctx context.Context, id format.SpaceID, sequence uint64, note []byte) error {
	return b.Change(ctx, id, func(doc *Doc) error {
		if doc.Sequence != sequence {
			return ErrChanged
		}
		doc.Note = note
		return nil
	})
}

// Discard takes out a generation that nothing was ever sealed under. The current one is refused, and so is one that a
// turn has begun with. The root must be held.
func (b *Bundles) Discard(ctx context.Context, id format.SpaceID, generation uint32) error {
	return b.Change(ctx, id, func(doc *Doc) error {
		if doc.Current.Generation == generation || doc.Turning {
			return fmt.Errorf("discard generation %d: it is in use", generation)
		}
		doc.Generations = slices.DeleteFunc(doc.Generations,
			func(g generationDoc) bool { return g.Number == generation })
		return nil
	})
}
