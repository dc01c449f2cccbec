package tree

import (
	"bytes"
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// flush writes what the transaction changed of containers: their pages and heads, and with those that got fresh keys
// the root container.
func (t *Tx) flush() error {
	for _, tr := range t.trees {
		if !tr.written {
			continue
		}
		if err := tr.write(); err != nil {
			return err
		}
		t.touched = append(t.touched, tr.container)
		if t.nursery == nil {
			t.nursery = map[format.ID]int{}
		}
		t.nursery[tr.container] = int(tr.head.Rows)
	}
	clear(t.leaves)
	t.leaves = t.leaves[:0]
	if !t.root.written {
		return nil
	}
	return t.root.write()
}

// write writes a container's dirty pages and its head.
func (tr *tree) write() error {
	if tr.top != nil && tr.top.dirty {
		if err := tr.writePages(); err != nil {
			return err
		}
	}
	tr.head.Sequence++
	if tr.container == rowkey.Root {
		return tr.writeRoot()
	}
	if tr.rekey {
		tr.key = format.NewSecret(0).Key
		if err := tr.t.root.set(tr.container, format.Secret{Key: tr.key, Version: tr.head.Sequence}); err != nil {
			return err
		}
		tr.floor = tr.head.Sequence
		tr.t.root.head.Erased += uint64(len(tr.erased))
		for _, id := range tr.erased {
			tr.t.gone = append(tr.t.gone, Ref{tr.container, id})
		}
	}
	at := tr.t.place(tr.container, format.ID{})
	row := format.SealHead(at, tr.key, tr.t.ring.Hedge(), tr.head)
	tr.t.ring.KeepHead(tr.container, row.Bytes(), tr.head)
	err := tr.t.w.Put(rowkey.Of(at.Space, rowkey.Head, tr.container, format.ID{}), row)
	tr.written, tr.rekey, tr.erased, tr.taken = false, false, nil, nil
	tr.wipe()
	return err
}

func (tr *tree) writeRoot() error {
	tr.head.Previous = sha256.Sum256(tr.row)
	at := tr.t.place(rowkey.Root, format.ID{})
	var value format.Sealed
	if !tr.t.ring.WithRoot(tr.head.Pair,
		func(key []byte) { value = format.SealHead(at, key, tr.t.ring.Hedge(), tr.head) }) {
		return ErrStale
	}
	tr.row = value.Bytes()
	tr.written = false
	tr.wipe()
	return tr.t.w.Put(rowkey.Of(at.Space, rowkey.Head, rowkey.Root, format.ID{}), value)
}

// set puts an entry into the root container.
func (tr *tree) set(id format.ID, s format.Secret) error {
	leaf, err := tr.leaf(id)
	if err == nil {
		err = tr.change(leaf)
	}
	if err == nil {
		leaf.page.Set(id, s)
	}
	return err
}

// writePages writes the dirty pages, lowest first, each under a fresh key, and makes the tree higher when the topmost
// has to be split.
func (tr *tree) writePages() error {
	level := tr.top.level
	entries, err := tr.writeNode(tr.top)
	for err == nil && len(entries) > 1 {
		level++
		entries, err = tr.writeParts(level, format.ID{}, format.MaxID, 0, entries)
	}
	if err == nil {
		tr.head.Height, tr.head.Root = level+1, entries[0].secret
	}
	return err
}

// writeNode writes a dirty page and what is dirty below it, and returns the entries of what takes its place.
func (tr *tree) writeNode(n *node) ([]entry, error) {
	if n.level == 0 {
		return tr.writeLeaf(n)
	}
	var below []entry
	for i := range n.page.Len() {
		upper, secret := n.page.At(i)
		k := n.kids[upper]
		if k == nil || !k.dirty {
			below = append(below, entry{upper, secret})
			continue
		}
		written, err := tr.writeNode(k)
		if err != nil {
			return nil, err
		}
		below = append(below, written...)
	}
	return tr.writeParts(n.level, n.lower, n.upper, n.secret.Version, below)
}

// writeLeaf folds the nursery rows of the page's range into it: they are sealed under its key, which ends here.
func (tr *tree) writeLeaf(n *node) ([]entry, error) {
	entries := make([]entry, 0, n.page.Len())
	for i := range n.page.Len() {
		id, secret := n.page.At(i)
		entries = append(entries, entry{id, secret})
	}
	if tr.container == rowkey.Root {
		return tr.writeParts(0, n.lower, n.upper, n.secret.Version, entries)
	}
	folded, err := tr.takeNursery(n)
	defer wipeEntries(folded)
	if err == nil {
		entries, err = tr.merge(entries, folded, n.strict)
	}
	if err != nil {
		return nil, err
	}
	return tr.writeParts(0, n.lower, n.upper, n.secret.Version, entries)
}

// writeParts writes entries as the page of a range or, when they are too many, as several that share it.
func (tr *tree) writeParts(
	level byte, lower, upper format.ID, version uint64, entries []entry,
) (written []entry, err error) {
	n := 1
	if env := tr.t.env; len(entries) > env.PageSlots {
		n = (len(entries) + env.PageFill - 1) / env.PageFill
	}
	for i := range n {
		part := entries[i*len(entries)/n : (i+1)*len(entries)/n]
		page := format.NewPage(level, lower, upper)
		if i < n-1 {
			page.Upper = part[len(part)-1].id
		}
		secret := format.NewSecret(version + 1)
		page.Version = secret.Version
		for _, e := range part {
			page.Append(e.id, e.secret)
		}
		err := tr.putPage(page, secret.Key)
		page.Wipe()
		if err != nil {
			return nil, err
		}
		written = append(written, entry{page.Upper, secret})
		lower = page.Upper
	}
	return written, nil
}

func (tr *tree) putPage(page *format.Page, key []byte) error {
	at := tr.t.place(tr.container, page.Upper)
	return tr.t.w.Put(rowkey.Of(at.Space, rowkey.PageKind(page.Level), tr.container, page.Upper),
		format.SealPage(at, key, tr.t.ring.Hedge(), page))
}

// takeNursery takes the nursery rows of a page's range away, all of them, and returns what they hold: no row and no
// page may stay under the key that ends here, or an older copy of what was sealed under it would open.
func (tr *tree) takeNursery(n *node) (folded []entry, err error) {
	t, space := tr.t, format.ID(tr.t.space)
	from, to := rowkey.Of(space, rowkey.Nursery, tr.container, n.lower),
		append(rowkey.Of(space, rowkey.Nursery, tr.container, n.upper), 0)
	if n.lower != (format.ID{}) {
		from = append(from, 0)
	}
	type nurseryRow struct {
		id     format.ID
		value  []byte
		secret format.Secret
		err    error
		term   []byte // of the head's sum
	}
	var rows []nurseryRow
	for row, err := range rowkey.Scan(t.r, from, to) {
		if err != nil {
			return nil, err
		}
		if _, id := rowkey.Parse(row.Key); !tr.taken[id] {
			rows = append(rows, nurseryRow{id: id, value: bytes.Clone(row.Value)})
		}
	}
	set := t.ring.Set()
	onAllProcessors(len(rows), func(i int) {
		r := &rows[i]
		if r.secret, r.err = format.OpenNursery(t.place(tr.container, r.id), n.secret.Key, r.value); r.err == nil {
			r.term = format.Term(set, tr.container, r.id, format.NurserySalt(r.value))
		}
	})
	for _, r := range rows {
		if r.err == nil {
			folded = append(folded, entry{r.id, r.secret})
		}
	}
	for _, r := range rows {
		if r.err != nil {
			if err := t.Corrupt("nursery row", tr.container, r.id, r.err); n.strict {
				return folded, err
			}
			continue // it stays, and stays damaged; what is erased beside it must go all the same
		}
		if err := t.w.Delete(rowkey.Of(space, rowkey.Nursery, tr.container, r.id)); err != nil {
			return folded, err
		}
		tr.uncountTerm(r.term)
	}
	return folded, nil
}

type entry struct {
	id     format.ID
	secret format.Secret
}

func wipeEntries(list []entry) {
	for _, e := range list {
		clear(e.secret.Key)
	}
}

// merge joins a page's entries with nursery rows, which outrank them, in the order of ids.
func (tr *tree) merge(page, folded []entry, strict bool) ([]entry, error) {
	out := make([]entry, 0, len(page)+len(folded))
	for len(page) > 0 || len(folded) > 0 {
		order := 1
		if len(page) > 0 {
			order = -1
			if len(folded) > 0 {
				order = bytes.Compare(page[0].id[:], folded[0].id[:])
			}
		}
		switch {
		case order < 0:
			out, page = append(out, page[0]), page[1:]
		case order > 0:
			out, folded = append(out, folded[0]), folded[1:]
		default:
			if folded[0].secret.Version <= page[0].secret.Version {
				err := tr.t.Corrupt("nursery row", tr.container, folded[0].id,
					errOldRow(folded[0].secret.Version, page[0].secret.Version))
				if strict {
					return nil, err
				}
				// the page knows better, and the head's sum keeps telling
				folded[0].secret, page[0].secret = page[0].secret, folded[0].secret
			}
			out, page, folded = append(out, folded[0]), page[1:], folded[1:]
		}
	}
	return out, nil
}

// End writes all that is to be written at the end of a transaction.
func (t *Tx) End() error {
	if err := t.flush(); err != nil {
		return err
	}
	if t.root.head.Sequence != t.before {
		t.touched = append(t.touched, rowkey.Root)
	}
	return nil
}

// onAllProcessors calls work with every number below n. A goroutine more is worth it for some of them only.
func onAllProcessors(n int, work func(i int)) {
	const worth = 4
	var workers sync.WaitGroup
	var next atomic.Int64
	all := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			work(i)
		}
	}
	for range min(runtime.GOMAXPROCS(0), (n+worth-1)/worth) - 1 {
		workers.Go(all)
	}
	defer workers.Wait() // be it a panic that ends the work here
	all()
}
