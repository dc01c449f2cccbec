package tree

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// tree returns a container's tree; nil when there is no such container.
func (t *Tx) tree(container format.ID) (*tree, error) {
	if tr, ok := t.trees[container]; ok {
		return tr, nil
	}
	tr, err := t.openTree(container)
	if err == nil && tr != nil {
		t.keepTree(tr)
	}
	return tr, err
}

func (t *Tx) keepTree(tr *tree) {
	if t.trees == nil {
		t.trees = map[format.ID]*tree{}
	}
	t.trees[tr.container] = tr
}

// openTree opens a container's head; nil when there is no such container.
func (t *Tx) openTree(container format.ID) (*tree, error) {
	known, ok, err := t.root.entry(container)
	if err != nil || !ok {
		return nil, err
	}
	row, ok, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Head, container, format.ID{}))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, t.Corrupt("head", container, format.ID{}, errors.New("the head of the container is missing"))
	}
	head := t.ring.Head(container, row)
	if head == nil || t.thorough {
		if head, err = format.OpenHead(t.place(container, format.ID{}), known.Key, row); err == nil {
			t.ring.KeepHead(container, row, head)
		}
	}
	if err == nil && head.Sequence < known.Version {
		err = fmt.Errorf("%w: state %d of the container, where %d was seen: an older one was put back",
			format.ErrNotAuthentic, head.Sequence, known.Version)
	}
	if err != nil {
		return nil, t.Corrupt("head", container, format.ID{}, err)
	}
	return &tree{t: t, container: container, head: head, key: known.Key, floor: known.Version}, nil
}

// newTree begins a container.
func (t *Tx) newTree(container format.ID) *tree {
	tr := &tree{t: t, container: container, head: &format.Head{Root: format.NewSecret(0)}, written: true, rekey: true}
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
	return s.Clone(), ok, nil
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
			return nil, tr.t.Corrupt("key page", tr.container, n.upper, errors.New("the page covers less than it must"))
		}
		n = n.kid(i)
	}
	return n, nil
}

func (tr *tree) topNode() *node {
	if tr.top == nil {
		h := tr.head
		tr.top = &node{upper: format.MaxID, secret: h.Root.Clone(), stored: h.Height > 0}
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
	k := &node{parent: n, level: n.level - 1, lower: lower, upper: upper, secret: secret.Clone(), stored: true}
	if n.kids == nil {
		n.kids = map[format.ID]*node{}
	}
	n.kids[upper] = k
	return k
}

// open opens a node's page. Pages above the lowest level, and those of the root container, are kept open by the
// keyring.
func (tr *tree) open(n *node) error {
	if n.page != nil {
		return nil
	}
	if !n.stored {
		n.page, n.own = format.NewPage(n.level, n.lower, n.upper), true
		return nil
	}
	kept := (n.level > 0 || tr.container == rowkey.Root) && !tr.t.thorough
	if kept {
		if n.page = tr.t.ring.Page(n.secret); n.page != nil {
			return nil
		}
	}
	page, err := tr.t.readPage(tr.container, n)
	if err != nil {
		return err
	}
	n.page, n.own = page, !kept
	if kept {
		tr.t.ring.Keep(n.secret, page)
	} else if n.level == 0 && tr.container != rowkey.Root {
		tr.t.opened(n)
	}
	return nil
}

// readPage reads and opens a page.
func (t *Tx) readPage(container format.ID, n *node) (*format.Page, error) {
	value, ok, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.PageKind(n.level), container, n.upper))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, t.Corrupt("key page", container, n.upper, errors.New("the page is missing"))
	}
	page, err := format.OpenPage(t.place(container, n.upper), n.level, n.lower, n.upper, n.secret.Key, n.secret.Version,
		value)
	if err == nil && n.level > 0 && (page.Len() == 0 || lastID(page) != n.upper) {
		page.Wipe()
		err = fmt.Errorf("%w: the page covers less than it must", format.ErrMalformed)
	}
	if err != nil {
		return nil, t.Corrupt("key page", container, n.upper, err)
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
func (t *Tx) opened(n *node) {
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

// count and uncount keep the head's hash of nursery rows.
func (tr *tree) count(id format.ID, salt []byte) {
	tr.countTerm(format.Term(tr.t.ring.Set(), tr.container, id, salt))
}

func (tr *tree) uncount(id format.ID, salt []byte) {
	tr.uncountTerm(format.Term(tr.t.ring.Set(), tr.container, id, salt))
}

func (tr *tree) countTerm(term []byte) {
	tr.head.Rows++
	tr.head.Sum.Add(term)
	tr.written = true
}

func (tr *tree) uncountTerm(term []byte) {
	tr.head.Rows--
	tr.head.Sum.Subtract(term)
	tr.written = true
}

// leaves yields the lowest pages of a container in order, not opened. A page above them that is damaged is yielded as
// an error in their place.
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
		at.n.kids = nil // they are not visited again
		at.i++
		l.stack = append(l.stack, step{k, 0})
	}
	return nil, nil
}

func errOldRow(nursery, page uint64) error {
	return fmt.Errorf("version %d, where the key page has %d: an old row was put back", nursery, page)
}
