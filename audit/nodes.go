package audit

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// The nodes of the Merkle tree are kept beside the entries, so that a proof reads a few of them and not the whole log.
// A record holds a block of leaves and the roots of the complete subtrees that end with it. All of it follows from the
// entries: what is missing is made from them, and what is wrong shows against the signed root.
const (
	blockLevel  = 4
	blockLeaves = 1 << blockLevel
	nodesMagic  = "VAN\x01"

	// keepAtOnce is how many blocks are made in one go, and maxUnkept how many entries a proof reads at most that are
	// in no block yet: a log of an earlier build is caught up with in the background, in steps.
	keepAtOnce = 256
	maxUnkept  = 2 * keepAtOnce * blockLeaves
)

// ErrCatchingUp says that the nodes of the tree are still being made from the entries of a log of an earlier build.
var ErrCatchingUp = errors.New("the nodes of the tree are still being made from the log: ask again in a while")

// errNodes is a record of nodes that is not that of the entries, or not one at all.
var errNodes = errors.New("the kept nodes of the tree are not those of the entries")

// block is a record of nodes: number n, from 0, has the hashes of the leaves from n·16 on, and the roots of the
// complete subtrees that end with its last leaf: of 16 leaves, then of 32 and so on.
type block struct {
	leaves [blockLeaves]tlog.Hash
	roots  []tlog.Hash
}

// growBlock makes block number n of its leaves, and returns the edge of the tree over all blocks up to it; e is that of
// those before it.
func (e edge) growBlock(n uint64, leaves []tlog.Hash) (block, edge) {
	var b block
	copy(b.leaves[:], leaves)
	root := rootOver(leaves)
	b.roots = append(b.roots, root)
	for size, left := n, len(e); size&1 == 1; size >>= 1 {
		left--
		root = tlog.NodeHash(e[left], root)
		b.roots = append(b.roots, root)
	}
	return b, e.grow(n, b.roots[0])
}

func (b block) encode() []byte {
	out := append([]byte(nodesMagic), byte(len(b.roots)))
	for _, h := range b.leaves {
		out = append(out, h[:]...)
	}
	for _, h := range b.roots {
		out = append(out, h[:]...)
	}
	return out
}

// decodeBlock reads block number n.
func decodeBlock(n uint64, data []byte) (block, error) {
	const header = len(nodesMagic) + 1
	roots := bits.TrailingZeros64(n+1) + 1
	if len(data) != header+(blockLeaves+roots)*tlog.HashSize || string(data[:len(nodesMagic)]) != nodesMagic ||
		int(data[header-1]) != roots {
		return block{}, errNodes
	}
	hashes := make([]tlog.Hash, blockLeaves+roots)
	for i := range hashes {
		hashes[i] = tlog.Hash(data[header+i*tlog.HashSize:][:tlog.HashSize])
	}
	return block{leaves: [blockLeaves]tlog.Hash(hashes), roots: hashes[blockLeaves:]}, nil
}

// tree reads nodes of the tree over the first size entries, for one proof.
type tree struct {
	history *History
	size    uint64
	kept    uint64           // entries that are in blocks
	blocks  map[uint64]block // those that were read
	rest    []tlog.Hash      // leaves from kept on; nil: not read yet
}

func (h *History) tree(ctx context.Context, size uint64) (*tree, error) {
	next, err := h.nodes.Next(ctx)
	if err != nil {
		return nil, brokenNodes(0, err)
	}
	return &tree{history: h, size: size, kept: (next - 1) * blockLeaves, blocks: map[uint64]block{}}, nil
}

// brokenNodes tells damage to nodes, in the block from an entry on, from a store that cannot be read.
func brokenNodes(first uint64, err error) error {
	if errors.Is(err, errNodes) || errors.Is(err, errMissing) {
		return &BrokenError{Sequence: first, Err: err}
	}
	return broken(first, err)
}

// block returns block number n, which is one that is kept.
func (t *tree) block(ctx context.Context, n uint64) (block, error) {
	if b, read := t.blocks[n]; read {
		return b, nil
	}
	data, err := one(ctx, t.history.nodes, n+1)
	if err == nil {
		t.blocks[n], err = decodeBlock(n, data)
	}
	if err != nil {
		return block{}, brokenNodes(n*blockLeaves+1, err)
	}
	return t.blocks[n], nil
}

// one returns one entry of a stream.
func one(ctx context.Context, r reader, number uint64) ([]byte, error) {
	data, err := gather(ctx, r, span{number, 1})
	if err == nil && len(data) == 0 {
		err = errMissing
	}
	if err != nil {
		return nil, err
	}
	return data[0], nil
}

// leaf returns the hash of a leaf that is in no block yet.
func (t *tree) leaf(ctx context.Context, index uint64) (tlog.Hash, error) {
	if t.rest == nil {
		count := t.size - t.kept
		if count > maxUnkept {
			return tlog.Hash{}, ErrCatchingUp
		}
		raw, err := gather(ctx, t.history.entries, span{t.kept + 1, int(count)})
		if err == nil && uint64(len(raw)) < count {
			err = errMissing
		}
		if err != nil {
			return tlog.Hash{}, broken(t.kept+uint64(len(raw))+1, err)
		}
		t.rest = make([]tlog.Hash, count)
		for i, data := range raw {
			t.rest[i] = tlog.RecordHash(data)
		}
	}
	return t.rest[index-t.kept], nil
}

// node returns the root of the complete subtree of 2^level leaves that is the n-th of its level.
func (t *tree) node(ctx context.Context, level int, n uint64) (tlog.Hash, error) {
	end := (n + 1) << level // the leaf behind its last
	if end <= t.kept && (level == 0 || level >= blockLevel) {
		b, err := t.block(ctx, (end-1)/blockLeaves)
		switch {
		case err != nil:
			return tlog.Hash{}, err
		case level == 0:
			return b.leaves[n%blockLeaves], nil
		}
		return b.roots[level-blockLevel], nil
	}
	if level == 0 {
		return t.leaf(ctx, n)
	}
	left, err := t.node(ctx, level-1, 2*n)
	if err != nil {
		return tlog.Hash{}, err
	}
	right, err := t.node(ctx, level-1, 2*n+1)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.NodeHash(left, right), nil
}

// path is the audit path of a leaf (RFC 6962 §2.1.1), the hash nearest to it first.
func (t *tree) path(ctx context.Context, index uint64) ([][]byte, error) {
	proof, err := tlog.ProveRecord(int64(t.size), int64(index),
		tlog.HashReaderFunc(func(stored []int64) ([]tlog.Hash, error) {
			hashes := make([]tlog.Hash, len(stored))
			for i, s := range stored {
				level, n := tlog.SplitStoredHashIndex(s)
				var err error
				if hashes[i], err = t.node(ctx, level, uint64(n)); err != nil {
					return nil, err
				}
			}
			return hashes, nil
		}))
	if err != nil {
		return nil, err
	}
	path := make([][]byte, len(proof))
	for i, h := range proof {
		path[i] = h[:]
	}
	return path, nil
}

// keeper is what a Log knows of the nodes that are kept.
type keeper struct {
	known  bool
	blocks uint64
	edge   edge // of the tree whose leaves are the roots of blocks
}

// keepNodes makes the blocks of nodes of what is on disk and has none yet, a step of them, and reports whether there
// are more. A crash between entries and their nodes leaves nodes out, and they are made the next time.
func (l *Log) keepNodes(ctx context.Context) (more bool, err error) {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	defer func() {
		if err != nil {
			l.keeper = keeper{} // what is on disk is looked at anew
			l.metrics.failed.WithLabelValues("nodes").Inc()
			err = fmt.Errorf("keep the nodes of the tree: %w", err)
		}
	}()
	next, err := l.entries.Next(ctx)
	if err != nil {
		return false, err
	}
	k := l.keeper
	if !k.known {
		if k, err = l.openKeeper(ctx, next-1); err != nil {
			return false, err
		}
	}
	whole := (next - 1) / blockLeaves
	count := min(whole-k.blocks, keepAtOnce)
	if count == 0 {
		l.keeper = k
		return false, nil
	}
	raw, err := gather(ctx, l.entries, span{k.blocks*blockLeaves + 1, int(count * blockLeaves)})
	if err == nil && uint64(len(raw)) < count*blockLeaves {
		err = errMissing
	}
	if err != nil {
		return false, err
	}
	records := make([][]byte, count)
	after := keeper{known: true, blocks: k.blocks, edge: k.edge}
	for i := range records {
		leaves := make([]tlog.Hash, blockLeaves)
		for j := range leaves {
			leaves[j] = tlog.RecordHash(raw[i*blockLeaves+j])
		}
		var b block
		b, after.edge = after.edge.growBlock(after.blocks, leaves)
		after.blocks++
		records[i] = b.encode()
	}
	err = l.nodes.Append(ctx, func(first uint64) ([][]byte, error) {
		if first != k.blocks+1 {
			return nil, errForeign
		}
		return records, nil
	})
	if errors.Is(err, errForeign) && l.shared { // another process has kept them
		l.keeper = keeper{}
		return true, nil
	}
	if err != nil {
		return false, err
	}
	l.keeper = after
	return after.blocks < whole, nil
}

// openKeeper reads where the kept nodes end.
func (l *Log) openKeeper(ctx context.Context, entries uint64) (keeper, error) {
	t, err := l.tree(ctx, 0)
	if err != nil {
		return keeper{}, err
	}
	if t.kept > entries {
		return keeper{}, fmt.Errorf("%w: they go beyond them", errNodes)
	}
	k := keeper{known: true, blocks: t.kept / blockLeaves}
	for level := bits.Len64(k.blocks) - 1; level >= 0; level-- {
		if k.blocks>>level&1 == 0 {
			continue
		}
		root, err := t.node(ctx, level+blockLevel, k.blocks>>level-1)
		if err != nil {
			return keeper{}, err
		}
		k.edge = append(k.edge, root)
	}
	return k, nil
}
