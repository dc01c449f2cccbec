package keys

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Create makes the first keys of a space, and stores its bundle: a data key in the service-managed slot, and an epoch
// key, which is in the key store before. plant stores what else the space begins with, in the same transaction. There
// must be nothing of the space. The root must be held.
func (b *Bundles) Create(ctx context.Context, id format.SpaceID, plant func(engine.Writer, Seedling) error) error {
	space := format.ID(id)
	keys, err := arena.New(3 * format.KeySize) // data key, epoch key, blinding key
	if err != nil {
		return err
	}
	defer keys.Free()
	rand.Read(keys.Bytes()) // never fails: the runtime ends the process instead
	data, epoch, blind := keys.Bytes()[:32], keys.Bytes()[32:64], keys.Bytes()[64:]

	made := format.RandomID()
	number, err := b.firstEpoch(ctx, space)
	if err != nil {
		return err
	}
	first, err := b.putEpoch(ctx, id, number, data, epoch)
	if err != nil {
		return err
	}
	generation := generationDoc{Number: 1, Commitment: format.DataKeyCommitment(data, space, 1)}
	slot := slotDoc{Number: 1, Role: Service, Algorithm: algorithmService}
	slot.Wrapped = b.sealInner(id, generation, &slot, data)
	generation.Slots = []slotDoc{slot}
	doc := Doc{
		Sequence: 1, State: Active, Current: format.Pair{Generation: 1, Epoch: first.Number},
		Generations: []generationDoc{generation}, Epochs: []EpochDoc{first}, Made: made[:],
	}
	row, err := b.seal(id, doc)
	if err != nil {
		return err
	}
	seedling := Seedling{Pair: doc.Current, Root: format.RootKey(data, epoch), Hedge: format.HedgeKey(data, space),
		Blind: blind}
	defer clear(seedling.Root)
	defer clear(seedling.Hedge)
	taken := false
	err = engine.CommitAndWait(ctx, b.engine, space, func(w engine.Writer) error {
		if _, taken, err = w.Get(rowkey.OfSpace(space, rowkey.Bundle)); err != nil {
			return err
		}
		if taken {
			return ErrExists
		}
		if err := plant(w, seedling); err != nil {
			return err
		}
		return w.Put(rowkey.OfSpace(space, rowkey.Bundle), row)
	})
	switch {
	case taken: // another process was quicker
		return errors.Join(err, b.epochs.DestroyEpoch(context.WithoutCancel(ctx), space, first.Number))
	case err != nil:
		return err
	}
	// An earlier attempt that a crash cut off may have left epoch keys behind. Nothing was ever sealed under them,
	// since there was no bundle.
	return b.EndEpochs(ctx, id, first.Number)
}

// Seedling is what the root container of a new space is made of. The keys are wiped when its maker has returned.
type Seedling struct {
	Pair               format.Pair
	Root, Hedge, Blind []byte
}
