package keys

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// MaxSlots is how many keys can wrap one data key at the same time.
const MaxSlots = 3

// unwrap opens the data key of a generation with the first of its slots that src does not leave to another one, see
// ErrOtherSlot.
func (b *Bundles) unwrap(
	ctx context.Context, dst []byte, id format.SpaceID, g generationDoc, src keysource.Source,
) error {
	for _, slot := range g.Slots {
		inner := slot.Wrapped
		if slot.Role != Service {
			if src == nil {
				continue
			}
			var err error
			if inner, err = src.Unwrap(b.about(ctx, id, g), keysource.Ref{URI: slot.URI, Version: slot.Version},
				slot.Wrapped); errors.Is(err, ErrOtherSlot) {
				continue
			} else if err != nil {
				return err
			}
		}
		return b.openInner(dst, id, g, slot, inner)
	}
	return fmt.Errorf("%w: no slot of the space can be opened without its key source", ErrLocked)
}

// wrapNext makes the next generation of a space out of a data key, with a slot for every source.
func (b *Bundles) wrapNext(
	ctx context.Context, id format.SpaceID, doc Doc, data []byte, to []keysource.Source,
) (generationDoc, error) {
	g := generationDoc{Number: doc.nextGeneration()}
	g.Commitment = format.DataKeyCommitment(data, format.ID(id), g.Number)
	slots, err := b.wrapSlots(ctx, id, g, 1, data, to)
	if err != nil {
		return generationDoc{}, fmt.Errorf("wrap data key of generation %d: %w", g.Number, err)
	}
	g.Slots = slots
	return g, nil
}

// nextGeneration returns a number that no generation of the bundle has.
func (d *Doc) nextGeneration() uint32 {
	number := uint32(1)
	for _, g := range d.Generations {
		number = max(number, g.Number+1)
	}
	return number
}

// NextLabel returns the label of the data key that Wrap makes next for a bundle.
func (b *Bundles) NextLabel(id format.SpaceID, doc Doc) keysource.Label {
	return b.label(id, doc.nextGeneration())
}

func (b *Bundles) label(id format.SpaceID, generation uint32) keysource.Label {
	return keysource.Label{Instance: b.root.Instance, Resource: id, Generation: uint64(generation)}
}

// wrapSlots makes a slot for every source, numbered from first on. No two may have the same key: the second would
// protect against nothing.
func (b *Bundles) wrapSlots(
	ctx context.Context, id format.SpaceID, g generationDoc, first uint32, data []byte, to []keysource.Source,
) (slots []slotDoc, err error) {
	if len(to) == 0 || len(to) > MaxSlots {
		return nil, fmt.Errorf("%d keys for one data key: 1 to %d are possible", len(to), MaxSlots)
	}
	for _, src := range to {
		slot, err := b.wrapSlot(ctx, id, g, first, data, src)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(slots, func(other slotDoc) bool { return other.URI == slot.URI }) {
			return nil, fmt.Errorf("key %q wraps the data key already", slot.URI)
		}
		slots, first = append(slots, slot), first+1
	}
	return slots, nil
}

// wrapSlot makes a slot for a data key and proves that it opens again.
func (b *Bundles) wrapSlot(
	ctx context.Context, id format.SpaceID, g generationDoc, number uint32, data []byte, src keysource.Source,
) (slotDoc, error) {
	slot := slotDoc{Number: number, Role: Service, Algorithm: algorithmService}
	if src == nil {
		slot.Wrapped = b.sealInner(id, g, &slot, data)
		return slot, nil
	}
	// The inner seal binds the exact key, so the key is asked for its name first; whether it was that key that wrapped
	// is checked afterwards.
	key, err := src.Describe(ctx, keysource.Ref{})
	if err != nil {
		return slotDoc{}, err
	}
	slot.Role, slot.URI, slot.Version, slot.Algorithm = Customer, key.Ref.URI, key.Ref.Version, key.Algorithm
	inner := b.sealInner(id, g, &slot, data)
	ctx = b.about(ctx, id, g)
	if slot.Wrapped, err = wrapAndCompare(ctx, src, key.Ref, inner); err != nil {
		return slotDoc{}, err
	}
	random := make([]byte, format.KeySize)
	rand.Read(random) // never fails: the runtime ends the process instead
	slot.ProbeSum = format.ProbeSum(random, format.ID(id), g.Number)
	if slot.Probe, err = wrapAndCompare(ctx, src, key.Ref, random); err != nil {
		return slotDoc{}, fmt.Errorf("the probe: %w", err)
	}
	return slot, nil
}

// about returns a context for calls that are about the data key of a generation. What was wrapped stays bound to it in
// stores that can hold that; the seal inside holds it everywhere.
func (b *Bundles) about(ctx context.Context, id format.SpaceID, g generationDoc) context.Context {
	return keysource.WithLabel(ctx, b.label(id, g.Number))
}

func wrapAndCompare(ctx context.Context, src keysource.Source, want keysource.Ref, inner []byte) ([]byte, error) {
	blob, ref, err := src.Wrap(ctx, inner)
	if err != nil {
		return nil, err
	}
	if ref != want {
		return nil, fmt.Errorf("%w: version %s was asked for, version %s has wrapped", keysource.ErrWrong, want.Version,
			ref.Version)
	}
	back, err := src.Unwrap(ctx, ref, blob)
	if err != nil {
		return nil, fmt.Errorf("unwrap what was just wrapped: %w", err)
	}
	if !hmac.Equal(back, inner) {
		return nil, fmt.Errorf("%w: what was just wrapped unwraps to something else", keysource.ErrWrong)
	}
	return blob, nil
}

func probe(ctx context.Context, src keysource.Source, id format.SpaceID, g generationDoc, slot slotDoc) error {
	random, err := src.Unwrap(ctx, keysource.Ref{URI: slot.URI, Version: slot.Version}, slot.Probe)
	if err != nil {
		return err
	}
	if len(random) == 0 || !hmac.Equal(format.ProbeSum(random, format.ID(id), g.Number), slot.ProbeSum) {
		return fmt.Errorf("%w: the probe unwraps to something else", keysource.ErrWrong)
	}
	return nil
}

// Probe asks src for the probe of the slot that a key has in a generation of a bundle, and compares it. An empty uri
// stands for the first slot of a customer.
func (b *Bundles) Probe(
	ctx context.Context, id format.SpaceID, doc Doc, generation uint32, uri string, src keysource.Source,
) error {
	for _, g := range doc.Generations {
		for _, slot := range g.Slots {
			if g.Number == generation && slot.Role == Customer && (uri == "" || slot.URI == uri) {
				return probe(b.about(ctx, id, g), src, id, g, slot)
			}
		}
	}
	return errors.New("probe: the space is not under this customer's key")
}
