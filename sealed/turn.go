package sealed

import (
	"context"
	"errors"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// keyed makes the caller the only one to change the space's keys, and holds the instance root, until done is called.
func (sp *Space) keyed() (done func()) {
	sp.keying.Lock()
	return sp.keyedLocked()
}

// keyedIn is keyed for a caller that waits for others as long as ctx: they may wait for a vault or a key store.
func (sp *Space) keyedIn(ctx context.Context) (done func(), err error) {
	if err := sp.keying.lockIn(ctx); err != nil {
		return nil, err
	}
	return sp.keyedLocked(), nil
}

func (sp *Space) keyedLocked() (done func()) {
	release := sp.store.root.Hold()
	return func() {
		release()
		sp.keying.Unlock()
	}
}

// turn turns the head of the root container to a generation that the bundle has, and a fresh epoch. It returns the pair
// that has ended. Where another process has turned the keys, or changes them meanwhile, it follows and says ErrChanged.
// keying is held.
func (sp *Space) turn(ctx context.Context, generation uint32, src keysource.Source) (ended format.Pair, err error) {
	ring, fence, err := sp.enter(ctx)
	if err != nil {
		return ended, err
	}
	defer sp.leave(ring)
	defer sp.store.root.Hold()()
	r := reseal{sp: sp, ring: ring.Ring, fence: fence}
	ended, err = sp.store.bundles.Turn(ctx, sp.id, ring.Ring, generation, src,
		func(pair format.Pair, put func(engine.Writer) error) error { return r.commit(ctx, pair, put) })
	if err != nil {
		return ended, sp.overtaken(ctx, ring, err)
	}
	sp.turned(r.sequence, ended)
	return ended, nil
}

// overtaken follows another process that was quicker to change the keys.
func (sp *Space) overtaken(ctx context.Context, ring *openKeys, err error) error {
	if errors.Is(err, keys.ErrTurned) || errors.Is(err, keys.ErrOlder) {
		if err = sp.store.bundles.Follow(ctx, sp.id, ring.Ring); err == nil {
			return ErrChanged
		}
	}
	return sp.notOpen(err)
}

// reseal is the transaction of a turn.
type reseal struct {
	sp       *Space
	ring     *keys.Ring
	fence    uint64
	sequence uint64 // of the root container, before
}

// commit is a keys.Commit.
func (r *reseal) commit(ctx context.Context, pair format.Pair, put func(engine.Writer) error) error {
	return r.sp.writing.Raw(ctx, func(w engine.Writer) error {
		t := tree.NewWriter(r.sp.store.env, r.sp.id, r.ring, w)
		defer t.Finish()
		if err := r.sp.compare(r.ring, w); err != nil {
			return err
		}
		if err := t.OpenRoot(); err != nil {
			return err
		}
		r.sequence = t.RootState().Sequence
		if err := t.Reseal(pair); err != nil {
			return err
		}
		if err := put(w); err != nil {
			return err
		}
		return r.sp.stillOpen(r.fence)
	})
}

// turned notes that what was erased up to a sequence number of the root container is final, and the pair that has
// ended.
func (sp *Space) turned(sequence uint64, ended format.Pair) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.turnedAt, sp.ended = max(sp.turnedAt, sequence), ended
	sp.dirty[rowkey.Root] = true
}

// rewritePages brings every page under a fresh key, folding the nursery rows on the way.
func (sp *Space) rewritePages(ctx context.Context) error {
	var containers []format.ID
	err := sp.view(ctx, func(t *tree.Tx) (err error) {
		containers, err = t.Containers()
		return err
	})
	for _, c := range containers {
		position := format.ID{}
		for more := true; more && err == nil; {
			var goOn format.ID
			err = sp.updateAlone(ctx, func(t *tree.Tx) (err error) {
				goOn, more, err = t.TurnStep(c, position)
				return err
			})
			position = goOn
		}
	}
	return err
}
