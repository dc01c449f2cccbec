package tree

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// chunkSize is how many records are opened as one piece of work.
const chunkSize = 512

// item is one record on its way through a walk: its secret and its row, as far as they are there.
type item struct {
	id     format.ID
	secret format.Secret // the key is nil when there is none
	at, n  int           // the row's place in the chunk's values; n < 0: there is no row
	err    error         // why the secret does not open
}

// chunk is a piece of a container: rows copied out of the engine, ready to be opened on any processor.
type chunk[T any] struct {
	items  []item
	values []byte
	out    []T
	errs   []error // nil for a record that opened
	failed error   // the scan ended with this
	done   chan struct{}
}

// Walk opens every record of a container in the order of blinded ids and yields what decode makes of it. With aside it
// may read on other goroutines than the caller's. See sealed.Container.All.
func Walk[T any](
	t *Tx, container format.ID, aside bool, decode func([]byte, byte) (T, error), yield func(T, error) bool,
) {
	w, err := newWalk(t, container)
	if err != nil || w == nil {
		if err != nil {
			var zero T
			yield(zero, err)
		}
		return
	}
	defer w.stop()
	first, more := nextChunk[T](w, nil)
	openChunk(t, container, first, decode)
	if !yieldChunk(first, yield) || !more {
		return
	}

	if !aside {
		// The loop may write to other containers, and a transaction is for one goroutine: read here, in step with it.
		for more {
			var c *chunk[T]
			c, more = nextChunk[T](w, nil)
			if openChunk(t, container, c, decode); !yieldChunk(c, yield) {
				return
			}
		}
		return
	}
	// The rest goes through a pipeline: one goroutine reads, some open, this one yields in order.
	workers := runtime.GOMAXPROCS(0)
	order := make(chan *chunk[T], 2*workers)
	work := make(chan *chunk[T], 2*workers)
	quit := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(quit)
	all.Go(func() {
		defer close(work)
		defer close(order)
		for more {
			var c *chunk[T]
			c, more = nextChunk[T](w, nil)
			for _, to := range []chan *chunk[T]{work, order} {
				select {
				case to <- c:
				case <-quit:
					return
				}
			}
		}
	})
	for range workers {
		all.Go(func() {
			for c := range work {
				openChunk(t, container, c, decode)
			}
		})
	}
	for c := range order {
		<-c.done
		if !yieldChunk(c, yield) {
			return
		}
	}
}

func yieldChunk[T any](c *chunk[T], yield func(T, error) bool) bool {
	for i := range c.out {
		if !yield(c.out[i], c.errs[i]) {
			return false
		}
	}
	if c.failed != nil {
		var zero T
		yield(zero, c.failed)
		return false
	}
	return true
}

// openChunk opens the records of a chunk. It uses nothing of t but what is safe for many goroutines: the keys, and the
// report of what is corrupt.
func openChunk[T any](t *Tx, container format.ID, c *chunk[T], decode func([]byte, byte) (T, error)) {
	defer close(c.done)
	c.out, c.errs = make([]T, len(c.items)), make([]error, len(c.items))
	var buffer []byte
	for i, it := range c.items {
		if it.err != nil {
			c.errs[i] = it.err
			continue
		}
		plaintext, schema, err := t.open(buffer[:0], container, it, c.values)
		if err == nil {
			buffer = plaintext
			c.out[i], err = decode(plaintext, schema)
		}
		if err != nil {
			c.errs[i] = t.Corrupt("record", container, it.id, err)
		}
		clear(it.secret.Key)
	}
	clear(buffer[:cap(buffer)])
}

// open opens a record of a walk whose rows are in values, and appends its plaintext to dst.
func (t *Tx) open(dst []byte, container format.ID, it item, values []byte) ([]byte, byte, error) {
	if it.secret.Key == nil {
		return nil, 0, errNoSecret
	}
	if it.n < 0 {
		return nil, 0, errNoRow
	}
	return format.OpenRecord(dst, t.place(container, it.id), it.secret, values[it.at:it.at+it.n])
}

// walk merges a container's records with their secrets, which come from pages and, outranking them, nursery rows; all
// three in the order of ids. It has a tree of its own, since it may run beside the transaction's own goroutine.
type walk struct {
	t         *Tx
	container format.ID
	tree      *tree // nil: there is no such container, and all that is found is strange
	nursery   *cursor
	records   *cursor

	pages    *leaves
	page     *node // the page that is being walked, nil before the first and after the last
	entry    int   // the next of its entries
	pagesEnd bool

	covers    *leaves // a second way over the pages, for the keys that nursery rows are sealed under
	cover     *node
	coversEnd bool

	rows    uint64 // nursery rows met
	sum     format.Sum
	checked bool // against the head

	room int // how much the values of the last chunk took, as a guess for the next
}

// newWalk begins a walk; nil when the container was dropped.
func newWalk(t *Tx, container format.ID) (*walk, error) {
	tr, err := t.openTree(container)
	if err != nil || tr != nil && tr.head.Dropped {
		return nil, err
	}
	space := format.ID(t.space)
	w := &walk{
		t: t, container: container, tree: tr,
		nursery: newCursor(t.r, space, rowkey.Nursery, container),
		records: newCursor(t.r, space, rowkey.Record, container),
	}
	if tr == nil {
		w.pagesEnd, w.coversEnd, w.checked = true, true, true
	} else {
		w.pages, w.covers = tr.leaves(), tr.leaves()
	}
	return w, nil
}

func (w *walk) stop() {
	w.nursery.stop()
	w.records.stop()
	if w.page != nil {
		w.page.close()
	}
	if w.tree != nil {
		w.tree.wipe()
		clear(w.tree.key)
		clear(w.tree.head.Root.Key)
	}
}

// nextChunk reads the next piece of the container, and reports whether more may follow. It uses the memory of a chunk
// that is not needed any more, if there is one.
func nextChunk[T any](w *walk, used *chunk[T]) (*chunk[T], bool) {
	c := &chunk[T]{done: make(chan struct{})}
	if used != nil {
		c.items, c.values = used.items[:0], used.values[:0]
	} else {
		c.items, c.values = make([]item, 0, chunkSize), make([]byte, 0, w.room)
	}
	defer func() { w.room = len(c.values) }()
	for len(c.items) < chunkSize {
		id, ok, err := w.lowest()
		if _, damaged := errors.AsType[*event.CorruptError](err); damaged {
			c.items = append(c.items, item{err: err, n: -1})
			continue
		}
		if err != nil {
			c.failed = err
			return c, false
		}
		if !ok {
			if err := w.check(); err != nil {
				c.items = append(c.items, item{err: err, n: -1})
			}
			return c, false
		}
		it := item{id: id, n: -1}
		it.secret, it.err = w.takeSecret(id)
		if row, ok := w.records.take(id); ok {
			it.at, it.n = len(c.values), len(row)
			c.values = append(c.values, row...)
			if err := w.records.advance(); err != nil {
				c.failed = err
				return c, false
			}
		}
		c.items = append(c.items, it)
	}
	return c, true
}

// lowest returns the next id that anything is there for.
func (w *walk) lowest() (id format.ID, ok bool, err error) {
	if err := w.loadPage(); err != nil {
		return format.ID{}, false, err
	}
	consider := func(candidate format.ID) {
		if !ok || bytes.Compare(candidate[:], id[:]) < 0 {
			id, ok = candidate, true
		}
	}
	for _, c := range []*cursor{w.nursery, w.records} {
		if err := c.start(); err != nil {
			return format.ID{}, false, err
		}
		if c.ok {
			consider(c.id)
		}
	}
	if w.page != nil {
		entry, _ := w.page.page.At(w.entry)
		consider(entry)
	}
	return id, ok, nil
}

// takeSecret returns the secret of id, which lowest named, and moves past it. The error is a *CorruptError, or the
// engine's.
func (w *walk) takeSecret(id format.ID) (s format.Secret, err error) {
	if w.page != nil {
		if entry, secret := w.page.page.At(w.entry); entry == id {
			s = secret.Clone()
			w.entry++
		}
	}
	value, ok := w.nursery.take(id)
	if !ok {
		return s, nil
	}
	folded := s.Version
	clear(s.Key)
	s = format.Secret{}
	var key []byte
	if key, err = w.coverKey(id); err == nil {
		s, err = w.t.openNursery(w.container, id, key, value)
	}
	if err == nil && s.Version <= folded {
		err = w.t.Corrupt("nursery row", w.container, id, errOldRow(s.Version, folded))
	}
	if salt := format.NurserySalt(value); salt != nil && !w.checked {
		w.rows++
		w.sum.Add(format.Term(w.t.ring.Set(), w.container, id, salt))
	}
	if failed := w.nursery.advance(); failed != nil {
		return s, failed
	}
	return s, err
}

// coverKey returns the key of the page that covers id, which comes after all ids it was asked for before.
func (w *walk) coverKey(id format.ID) ([]byte, error) {
	for !w.coversEnd && (w.cover == nil || bytes.Compare(w.cover.upper[:], id[:]) < 0) {
		n, err := w.covers.next()
		if event.IsCorrupt(err) {
			continue // the walk over the pages tells of it
		}
		if err != nil {
			return nil, err
		}
		w.cover, w.coversEnd = n, n == nil
	}
	if w.cover == nil || w.cover.lower != (format.ID{}) && bytes.Compare(w.cover.lower[:], id[:]) >= 0 {
		return nil, w.t.Corrupt("nursery row", w.container, id, errors.New("no page covers it"))
	}
	return w.cover.secret.Key, nil
}

// check holds the nursery rows that were met against the head: none may be missing, added, or another than the head
// knows.
func (w *walk) check() error {
	if w.checked {
		return nil
	}
	w.checked = true
	if w.rows == w.tree.head.Rows && w.sum == w.tree.head.Sum {
		return nil
	}
	return w.t.Corrupt("head", w.container, format.ID{},
		fmt.Errorf("%w: %d nursery rows, where the head has %d others: rows were taken away, added or put back",
			format.ErrNotAuthentic, w.rows, w.tree.head.Rows))
}

// loadPage makes page the one whose entries come next. A page that is damaged or missing is a *CorruptError, after
// which the walk goes on; records whose secrets were in it are then found to have none.
func (w *walk) loadPage() error {
	for !w.pagesEnd && (w.page == nil || w.entry == w.page.page.Len()) {
		if w.page != nil {
			w.page.close()
			w.page = nil
		}
		n, err := w.pages.next()
		if err != nil {
			return err
		}
		if n == nil {
			w.pagesEnd = true
			return nil
		}
		if n.stored {
			n.page, err = w.t.readPage(w.container, n)
		} else {
			n.page = format.NewPage(0, n.lower, n.upper)
		}
		if err != nil {
			return err
		}
		n.own = true
		w.page, w.entry = n, 0
	}
	return nil
}

// cursor is a scan that is pulled. Its row is valid until the next advance.
type cursor struct {
	pull    func() (engine.Row, error, bool)
	stop    func()
	row     engine.Row
	id      format.ID
	ok      bool // row is there
	started bool
}

func newCursor(r engine.Reader, space format.ID, kind byte, container format.ID) *cursor {
	lower, upper := rowkey.Range(space, kind, container, format.ID{})
	c := &cursor{}
	c.pull, c.stop = iter.Pull2(rowkey.Scan(r, lower, upper))
	return c
}

func (c *cursor) start() error {
	if c.started {
		return nil
	}
	c.started = true
	return c.advance()
}

func (c *cursor) advance() error {
	row, err, ok := c.pull()
	c.row, c.ok = row, ok && err == nil
	if c.ok {
		_, c.id = rowkey.Parse(row.Key)
	}
	return err
}

// take returns the row's value when it is id's.
func (c *cursor) take(id format.ID) ([]byte, bool) {
	if !c.ok || c.id != id {
		return nil, false
	}
	return c.row.Value, true
}
