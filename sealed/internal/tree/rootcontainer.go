package tree

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// ErrStale says that the keys were turned before the transaction read them. The transaction is tried again.
var ErrStale = errors.New("the keys were turned meanwhile")

// OpenRoot opens the head of the root container, from which every other key of the transaction follows. It comes before
// all else.
func (t *Tx) OpenRoot() error {
	row, ok, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Head, rowkey.Root, format.ID{}))
	if err != nil {
		return err
	}
	if !ok {
		return t.Corrupt("head", rowkey.Root, format.ID{}, errors.New("the head of the space is missing"))
	}
	if head := t.ring.Head(rowkey.Root, row); head != nil && !t.thorough {
		t.root, t.before = &tree{t: t, container: rowkey.Root, head: head, row: row}, head.Sequence
		return nil
	}
	pair, err := format.PeekPair(row)
	var head *format.Head
	if err == nil && !t.ring.WithRoot(pair,
		func(key []byte) { head, err = format.OpenHead(t.place(rowkey.Root, format.ID{}), key, row) }) {
		return fmt.Errorf("%w: generation %d, epoch %d", ErrStale, pair.Generation, pair.Epoch)
	}
	if err != nil {
		return t.Corrupt("head", rowkey.Root, format.ID{}, err)
	}
	t.ring.KeepHead(rowkey.Root, row, head)
	t.root, t.before = &tree{t: t, container: rowkey.Root, head: head, row: row}, head.Sequence
	return nil
}

// CreateRoot writes the root container that a space begins with: the blinding key is all it holds.
func CreateRoot(w engine.Writer, at format.Place, pair format.Pair, rootKey, hedge, blind []byte) error {
	page := format.NewPage(0, format.ID{}, format.MaxID)
	defer page.Wipe()
	page.Version = 1
	page.Append(format.ID{}, format.Secret{Key: blind, Version: 1})
	head := &format.Head{Pair: pair, Sequence: 1, Height: 1, Root: format.NewSecret(1)}
	defer clear(head.Root.Key)
	err := w.Put(rowkey.Of(at.Space, rowkey.Page, rowkey.Root, page.Upper), format.SealPage(at, head.Root.Key, hedge,
		page))
	if err != nil {
		return err
	}
	return w.Put(rowkey.Of(at.Space, rowkey.Head, rowkey.Root, format.ID{}), format.SealHead(at, rootKey, hedge, head))
}

// RootState is where the root container stands.
type RootState struct {
	Sequence uint64
	Pair     format.Pair // that it is sealed under
	Erased   bool        // erasures wait for a turn
	Row      []byte      // of its head
}

// RootState returns where the root container stands.
func (t *Tx) RootState() RootState {
	return RootState{t.root.head.Sequence, t.root.head.Pair, t.root.head.Erased > 0, t.root.row}
}

// BlindingKey returns the blinding key, an entry of the root container. It is the caller's.
func (t *Tx) BlindingKey() ([]byte, error) {
	secret, ok, err := t.root.entry(format.ID{})
	if err == nil && !ok {
		err = t.Corrupt("key page", rowkey.Root, format.ID{}, errors.New("the blinding key is missing"))
	}
	return secret.Key, err
}
