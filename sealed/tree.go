package sealed

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
)

// tree is a container as one transaction sees it: its head, and as much of its pages as was needed. docs/erasure.md says why it has this shape.
type tree struct {
	t         *txn
	container format.ID
	head      *format.Head
	key       []byte // what the head is sealed under; nil in the root container, whose pair says it
	floor     uint64 // the sequence number that the root container knows
	row       []byte // in the root container: the head's row as it was read
	top       *node  // nil until it is needed
	written   bool   // the head has to be written
	rekey     bool   // under a fresh key: something of the container was erased, or the container is new
	erased    []format.ID
}

// node is a page in its place: under its parent, or its container's head.
type node struct {
	parent       *node
	level        byte
	lower, upper format.ID
	secret       format.Secret // the page's key and version
	stored       bool          // there is a row
	page         *format.Page  // nil until it is opened
	own          bool          // page is this transaction's: it may be changed, and is wiped at the end
	dirty        bool
	strict       bool // a nursery row that does not open is an error; else it stays behind
	kids         map[format.ID]*node
}

// errStale says that the root was turned under a transaction that has not begun: it begins anew.
var errStale = errors.New("the keys were turned meanwhile")

func freshSecret(version uint64) format.Secret {
	s := format.Secret{Key: make([]byte, format.KeySize), Version: version}
	rand.Read(s.Key) // never fails: the runtime ends the process instead
	return s
}

// openRoot opens the head of the root container, from which every other key of the transaction follows. It comes before all else.
func (t *txn) openRoot() error {
	row, ok, err := t.r.Get(rowKey(format.ID(t.sp.id), rowHead, rootContainer, format.ID{}))
	if err != nil {
		return err
	}
	if !ok {
		return t.corrupt("head", rootContainer, format.ID{}, errors.New("the head of the space is missing"))
	}
	if head := t.ring.head(rootContainer, row); head != nil && !t.thorough {
		t.root = &tree{t: t, container: rootContainer, head: head, row: row}
		return nil
	}
	pair, err := format.PeekPair(row)
	var head *format.Head
	if err == nil && !t.ring.withRoot(pair, func(key []byte) { head, err = format.OpenHead(t.place(rootContainer, format.ID{}), key, row) }) {
		return fmt.Errorf("%w: generation %d, epoch %d", errStale, pair.Generation, pair.Epoch)
	}
	if err != nil {
		return t.corrupt("head", rootContainer, format.ID{}, err)
	}
	t.ring.keepHead(rootContainer, row, head)
	t.root = &tree{t: t, container: rootContainer, head: head, row: row}
	return nil
}

// tree returns a container's tree; nil when there is no such container.
func (t *txn) tree(container format.ID) (*tree, error) {
	if tr, ok := t.trees[container]; ok {
		return tr, nil
	}
	tr, err := t.openTree(container)
	if err == nil && tr != nil {
		t.keepTree(tr)
	}
	return tr, err
}

func (t *txn) keepTree(tr *tree) {
	if t.trees == nil {
		t.trees = map[format.ID]*tree{}
	}
	t.trees[tr.container] = tr
}

// openTree opens a container's head; nil when there is no such container.
func (t *txn) openTree(container format.ID) (*tree, error) {
	known, ok, err := t.root.entry(container)
	if err != nil || !ok {
		return nil, err
	}
	row, ok, err := t.r.Get(rowKey(format.ID(t.sp.id), rowHead, container, format.ID{}))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, t.corrupt("head", container, format.ID{}, errors.New("the head of the container is missing"))
	}
	head := t.ring.head(container, row)
	if head == nil || t.thorough {
		if head, err = format.OpenHead(t.place(container, format.ID{}), known.Key, row); err == nil {
			t.ring.keepHead(container, row, head)
		}
	}
	if err == nil && head.Sequence < known.Version {
		err = fmt.Errorf("%w: state %d of the container, where %d was seen: an older one was put back", format.ErrNotAuthentic, head.Sequence, known.Version)
	}
	if err != nil {
		return nil, t.corrupt("head", container, format.ID{}, err)
	}
	return &tree{t: t, container: container, head: head, key: known.Key, floor: known.Version}, nil
}

// newTree begins a container.
func (t *txn) newTree(container format.ID) *tree {
	tr := &tree{t: t, container: container, head: &format.Head{Root: freshSecret(0)}, written: true, rekey: true}
	t.keepTree(tr)
	return tr
}

// entry returns a copy of the secret that the container's pages hold for an id.
func (tr *tree) entry(id format.ID) (format.Secret, bool, error) {
	leaf, err := tr.leaf(id)
	if err == nil {
		err = tr.open(leaf)
	}
	if err != nil {
		return format.Secret{}, false, err
	}
	s, ok := leaf.page.Lookup(id)
	return cloneSecret(s), ok, nil
}

// leaf returns the lowest page that covers id, not opened.
func (tr *tree) leaf(id format.ID) (*node, error) {
	n := tr.topNode()
	for n.level > 0 {
		if err := tr.open(n); err != nil {
			return nil, err
		}
		i := n.page.Find(id)
		if i == n.page.Len() {
			return nil, tr.t.corrupt("key page", tr.container, n.upper, errors.New("the page covers less than it must"))
		}
		n = n.kid(i)
	}
	return n, nil
}

func (tr *tree) topNode() *node {
	if tr.top == nil {
		h := tr.head
		tr.top = &node{upper: format.MaxID, secret: cloneSecret(h.Root), stored: h.Height > 0}
		if h.Height > 0 {
			tr.top.level = h.Height - 1
		}
	}
	return tr.top
}

func (n *node) kid(i int) *node {
	upper, secret := n.page.At(i)
	if k, ok := n.kids[upper]; ok {
		return k
	}
	lower := n.lower
	if i > 0 {
		lower, _ = n.page.At(i - 1)
	}
	k := &node{parent: n, level: n.level - 1, lower: lower, upper: upper, secret: cloneSecret(secret), stored: true}
	if n.kids == nil {
		n.kids = map[format.ID]*node{}
	}
	n.kids[upper] = k
	return k
}

// open opens a node's page. Pages above the lowest level, and those of the root container, are kept open by the keyring.
func (tr *tree) open(n *node) error {
	if n.page != nil {
		return nil
	}
	if !n.stored {
		n.page, n.own = format.NewPage(n.level, n.lower, n.upper), true
		return nil
	}
	kept := (n.level > 0 || tr.container == rootContainer) && !tr.t.thorough
	if kept {
		if n.page = tr.t.ring.page(n.secret); n.page != nil {
			return nil
		}
	}
	page, err := tr.t.readPage(tr.container, n)
	if err != nil {
		return err
	}
	n.page, n.own = page, !kept
	if kept {
		tr.t.ring.keep(n.secret, page)
	} else if n.level == 0 && tr.container != rootContainer {
		tr.t.opened(n)
	}
	return nil
}

// readPage reads and opens a page.
func (t *txn) readPage(container format.ID, n *node) (*format.Page, error) {
	value, ok, err := t.r.Get(rowKey(format.ID(t.sp.id), pageRow(n.level), container, n.upper))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, t.corrupt("key page", container, n.upper, errors.New("the page is missing"))
	}
	page, err := format.OpenPage(t.place(container, n.upper), n.level, n.lower, n.upper, n.secret.Key, n.secret.Version, value)
	if err == nil && n.level > 0 && (page.Len() == 0 || lastID(page) != n.upper) {
		page.Wipe()
		err = fmt.Errorf("%w: the page covers less than it must", format.ErrMalformed)
	}
	if err != nil {
		return nil, t.corrupt("key page", container, n.upper, err)
	}
	return page, nil
}

func lastID(page *format.Page) format.ID {
	id, _ := page.At(page.Len() - 1)
	return id
}

// maxOpened bounds the lowest pages that a transaction keeps open: 14 KiB each.
const maxOpened = 64

// opened remembers a page that was opened for reading, and closes those before when there are many.
func (t *txn) opened(n *node) {
	if len(t.leaves) >= maxOpened {
		for _, old := range t.leaves {
			if !old.dirty {
				old.close()
			}
		}
		t.leaves = t.leaves[:0]
	}
	t.leaves = append(t.leaves, n)
}

func (n *node) close() {
	if n.page != nil && n.own {
		n.page.Wipe()
	}
	n.page, n.own = nil, false
}

// change marks a node's page, and those above it, as to be rewritten under a fresh key.
func (tr *tree) change(n *node) error {
	for at := n; at != nil && !at.dirty; at = at.parent {
		if err := tr.open(at); err != nil {
			return err
		}
		if !at.own {
			at.page, at.own = at.page.Clone(), true
		}
		at.dirty = true
	}
	tr.written = true
	return nil
}

// wipe closes what the transaction opened.
func (tr *tree) wipe() {
	if tr.top != nil {
		tr.top.wipe()
	}
	tr.top = nil
}

func (n *node) wipe() {
	for _, k := range n.kids {
		k.wipe()
	}
	n.close()
	clear(n.secret.Key)
}

// flush writes what the transaction changed of containers: their pages and heads, and with those that got fresh keys the root container.
func (t *txn) flush() error {
	for _, tr := range t.trees {
		if !tr.written {
			continue
		}
		if err := tr.write(); err != nil {
			return err
		}
		t.touched = append(t.touched, tr.container)
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
	if tr.container == rootContainer {
		return tr.writeRoot()
	}
	if tr.rekey {
		tr.key = freshSecret(0).Key
		if err := tr.t.root.set(tr.container, format.Secret{Key: tr.key, Version: tr.head.Sequence}); err != nil {
			return err
		}
		tr.floor = tr.head.Sequence
		tr.t.root.head.Erased += uint64(len(tr.erased))
		for _, id := range tr.erased {
			tr.t.gone = append(tr.t.gone, erasedID{tr.container, id})
		}
	}
	at := tr.t.place(tr.container, format.ID{})
	row := format.SealHead(at, tr.key, tr.t.ring.hedge(), tr.head)
	tr.t.ring.keepHead(tr.container, row.Bytes(), tr.head)
	err := tr.t.w.Put(rowKey(at.Space, rowHead, tr.container, format.ID{}), row)
	tr.written, tr.rekey, tr.erased = false, false, nil
	tr.wipe()
	return err
}

func (tr *tree) writeRoot() error {
	tr.head.Previous = sha256.Sum256(tr.row)
	at := tr.t.place(rootContainer, format.ID{})
	var value format.Sealed
	if !tr.t.ring.withRoot(tr.head.Pair, func(key []byte) { value = format.SealHead(at, key, tr.t.ring.hedge(), tr.head) }) {
		return errStale
	}
	tr.row = value.Bytes()
	tr.written = false
	tr.wipe()
	return tr.t.w.Put(rowKey(at.Space, rowHead, rootContainer, format.ID{}), value)
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

// writePages writes the dirty pages, lowest first, each under a fresh key, and makes the tree higher when the topmost has to be split.
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
	if tr.container == rootContainer {
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
func (tr *tree) writeParts(level byte, lower, upper format.ID, version uint64, entries []entry) (written []entry, err error) {
	n := 1
	if s := tr.t.sp.store; len(entries) > s.pageSlots {
		n = (len(entries) + s.pageFill - 1) / s.pageFill
	}
	for i := range n {
		part := entries[i*len(entries)/n : (i+1)*len(entries)/n]
		page := format.NewPage(level, lower, upper)
		if i < n-1 {
			page.Upper = part[len(part)-1].id
		}
		secret := freshSecret(version + 1)
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
	return tr.t.w.Put(rowKey(at.Space, pageRow(page.Level), tr.container, page.Upper), format.SealPage(at, key, tr.t.ring.hedge(), page))
}

// takeNursery takes the nursery rows of a page's range away, all of them, and returns what they hold: no row and no page may stay under the key that
// ends here, or an older copy of what was sealed under it would open.
func (tr *tree) takeNursery(n *node) (folded []entry, err error) {
	t, space := tr.t, format.ID(tr.t.sp.id)
	from, to := rowKey(space, rowNursery, tr.container, n.lower), append(rowKey(space, rowNursery, tr.container, n.upper), 0)
	if n.lower != (format.ID{}) {
		from = append(from, 0)
	}
	type named struct {
		id   format.ID
		salt []byte
	}
	var rows []named
	for row, err := range scanRows(t.r, from, to) {
		if err != nil {
			return folded, err
		}
		_, id := idAt(row.Key)
		secret, err := t.openNursery(tr.container, id, n.secret.Key, row.Value)
		if isCorrupt(err) && !n.strict {
			continue // it stays, and stays damaged; what is erased beside it must go all the same
		}
		if err != nil {
			return folded, err
		}
		folded = append(folded, entry{id, secret})
		rows = append(rows, named{id, bytes.Clone(format.NurserySalt(row.Value))})
	}
	for _, r := range rows {
		if err := t.w.Delete(rowKey(space, rowNursery, tr.container, r.id)); err != nil {
			return folded, err
		}
		tr.uncount(r.id, r.salt)
	}
	return folded, nil
}

// count and uncount keep the head's hash of nursery rows.
func (tr *tree) count(id format.ID, salt []byte) {
	tr.head.Rows++
	tr.head.Sum.Add(format.Term(tr.t.ring.set(), tr.container, id, salt))
	tr.written = true
}

func (tr *tree) uncount(id format.ID, salt []byte) {
	tr.head.Rows--
	tr.head.Sum.Subtract(format.Term(tr.t.ring.set(), tr.container, id, salt))
	tr.written = true
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
				err := tr.t.corrupt("nursery row", tr.container, folded[0].id, errOldRow(folded[0].secret.Version, page[0].secret.Version))
				if strict {
					return nil, err
				}
				folded[0].secret, page[0].secret = page[0].secret, folded[0].secret // the page knows better, and the head's sum keeps telling
			}
			out, page, folded = append(out, folded[0]), page[1:], folded[1:]
		}
	}
	return out, nil
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// leaves yields the lowest pages of a container in order, not opened. A page above them that is damaged is yielded as an error in their place.
type leaves struct {
	tr    *tree
	stack []step
}

type step struct {
	n *node
	i int
}

func (tr *tree) leaves() *leaves { return &leaves{tr, []step{{tr.topNode(), 0}}} }

// next returns the next leaf, nil after the last. After a *CorruptError it may be called again.
func (l *leaves) next() (*node, error) {
	for len(l.stack) > 0 {
		at := &l.stack[len(l.stack)-1]
		if at.n.level == 0 {
			l.stack = l.stack[:len(l.stack)-1]
			return at.n, nil
		}
		if err := l.tr.open(at.n); err != nil {
			l.stack = l.stack[:len(l.stack)-1]
			return nil, err
		}
		if at.i == at.n.page.Len() {
			l.stack = l.stack[:len(l.stack)-1]
			continue
		}
		k := at.n.kid(at.i)
		at.n.kids = nil // nobody comes this way again
		at.i++
		l.stack = append(l.stack, step{k, 0})
	}
	return nil, nil
}
