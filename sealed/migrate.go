package sealed

import (
	"context"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/lease"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// NewerError says that a store, a backup or a keyring is of a later format than this program knows, and was left as it
// is.
type NewerError = format.NewerError

// Format is the newest format of a store that this program knows. Stores of every older one open, and have it then.
const Format uint32 = format.Store

// migrations leads from format 0, which stores had before they had a number, to Format: migrations[i] has the number
// i+1. A migration that was released is never changed.
var migrations = []migration{
	{Migration: Migration{
		Number: 1, Name: "record-format", Since: "0.1.0",
		Does: "Writes the format of the store into the instance document; no other row changes.",
	}},
	{Migration: Migration{
		Number: 2, Name: "root-versions", Since: "0.2.0",
		Does: "Lets the root key have versions and protectors that can be removed; no row is rewritten.",
	}},
}

// formatOf reads from an instance document, which may be of a format to come, which format the store has. What every
// future format keeps is this: the row's first bytes, and these two fields.
func formatOf(document []byte) (number uint32, since string, err error) {
	var doc struct {
		Format uint32 `cbor:"5,keyasint"`
		Since  string `cbor:"7,keyasint"`
	}
	if err := cbor.Unmarshal(document, &doc); err != nil {
		return 0, "", fmt.Errorf("%w: %v", format.ErrMalformed, err)
	}
	return doc.Format, doc.Since, nil
}

// admit refuses a store of a later format. It is asked before anything is written, and so before the root key is there
// to authenticate the number: an intruder who raises it keeps the store from opening, as one who removes the row does.
func (c Config) admit(r engine.Reader) error {
	_, err := look(r, c.steps())
	return err
}

// look reads the format of a store, without authenticating it; zero where there is none that can be read. Error: a
// *NewerError.
func look(r engine.Reader, steps []migration) (number uint32, err error) {
	row, ok, err := r.Get(rowkey.OfSpace(format.ID{}, rowkey.Instance))
	if err != nil || !ok {
		return 0, err
	}
	document, err := format.ReadInstance(row)
	if err != nil {
		return 0, nil // openRoot says what is wrong with it
	}
	number, since, err := formatOf(document)
	if err != nil {
		return 0, nil // and here
	}
	if known := uint32(len(steps)); number > known {
		return number, &NewerError{What: "store", Format: number, Known: known, Since: since}
	}
	return number, nil
}

// number reads the format of the store.
func (s *Store) number(r engine.Reader) (uint32, error) { return look(r, s.steps) }

// formats is what leases need to know of formats.
func (s *Store) formats() lease.Formats {
	return lease.Formats{Look: s.number, Adopt: s.format.Store, Knows: uint32(len(s.steps))}
}

// steps returns the migrations that the store knows.
func (c Config) steps() []migration {
	if c.migrations != nil {
		return c.migrations
	}
	return slices.Concat(migrations, further)
}

// since is the first version of the program that knows a format; empty for stores from before there were any, and for
// formats that this program does not know.
func since(steps []migration, number uint32) string {
	if number == 0 || int(number) > len(steps) {
		return ""
	}
	return steps[number-1].Since
}

// formerOf returns the format before one whose migration is rolling; zero for others.
func formerOf(steps []migration, number uint32) uint32 {
	if number == 0 || !steps[number-1].rolling {
		return 0
	}
	return number - 1
}

// migrated is the format up to which all migrations of a store have ended.
func migrated(doc keys.Instance) uint32 {
	if doc.From != 0 {
		return doc.From
	}
	return doc.Number
}

// newest is the format of a store that is made now.
func (s *Store) newest() keys.Format {
	n := uint32(len(s.steps))
	return keys.Format{Number: n, Told: n, Since: since(s.steps, n)}
}

// migrate brings the store to the newest format, one step after the other, while no other process has it open. The
// number moves on when what a step wrote is durable and not before, in a commit of its own, so that a step that was
// interrupted at any point is run again.
func (s *Store) migrate(ctx context.Context, from uint32) error {
	for _, m := range s.steps[from:] {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.report(Event{Kind: StoreMigrating, Format: m.Number, Note: m.Name})
		if err := s.step(ctx, m); err != nil {
			return fmt.Errorf("migrate the store to format %d (%s): %w", m.Number, m.Name, err)
		}
		s.leases.Write(m.Number)
		s.report(Event{Kind: StoreMigrated, Format: m.Number, Note: m.Name})
	}
	return nil
}

func (s *Store) step(ctx context.Context, m migration) error {
	if err := s.rewrite(ctx, m); err != nil {
		return err
	}
	return s.root.Change(ctx, func(doc *keys.Instance) error {
		doc.Number, doc.Since, doc.From = m.Number, m.Since, 0
		return nil
	})
}

// rewrite runs a step.
func (s *Store) rewrite(ctx context.Context, m migration) error {
	if m.run == nil {
		return nil
	}
	if err := s.volumes.Growth(); err != nil { // what is rewritten takes twice its room until the engine tidies up
		return err
	}
	return m.run(ctx, s)
}
