package sealed

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Reader is a snapshot of a space, or a transaction. It is valid until the function it was passed to returns, and for one goroutine.
type Reader interface{ txn() *txn }

// Tx is a transaction on a space: a Reader that may also be written to.
type Tx interface {
	Reader
	writable() *txn
}

// txn is a View or an Update under way.
type txn struct {
	sp       *Space
	ring     *keyring
	r        engine.Reader
	w        engine.Writer // nil in a View
	finished bool

	pages   map[pageID]*format.Page // pages that entries were removed from, not yet written back
	seen    []seenPage              // pages opened for reading, so that a long transaction opens each once
	touched []containerCount        // nursery rows written, by container, for the folder
}

// seenPage is an opened page of a container, or, when page is nil, the knowledge that the container has none.
type seenPage struct {
	container format.ID
	page      *format.Page
}

// maxSeen bounds the opened pages a transaction keeps: 14 KiB each.
const maxSeen = 64

type pageID struct{ container, upper format.ID }

type containerCount struct {
	container format.ID
	rows      int
}

func (t *txn) txn() *txn      { return t }
func (t *txn) writable() *txn { return t }

// use panics when a Reader is used after its function has returned: that is a mistake of ours, and it would read wiped memory.
func (t *txn) use() {
	if t.finished {
		panic("sealed: a Reader or Tx was used after its function had returned")
	}
}

func (t *txn) finish() {
	t.finished = true
	for _, p := range t.pages {
		p.Wipe()
	}
	t.pages = nil
	t.forget(nil)
}

// readPage returns the page that covers id, nil when the container has none. It stays the transaction's.
func (t *txn) readPage(container, id format.ID) (*format.Page, error) {
	for _, s := range t.seen {
		if s.container == container && (s.page == nil || s.page.Covers(id)) {
			return s.page, nil
		}
	}
	page, err := t.pageFor(container, id)
	if err != nil {
		return nil, err
	}
	if len(t.seen) >= maxSeen {
		t.forget(nil)
	}
	t.seen = append(t.seen, seenPage{container, page})
	return page, nil
}

// forget wipes the pages seen of a container, or of all when it is nil: they are about to change.
func (t *txn) forget(container *format.ID) {
	t.seen = slices.DeleteFunc(t.seen, func(s seenPage) bool {
		if container != nil && s.container != *container {
			return false
		}
		if s.page != nil {
			s.page.Wipe()
		}
		return true
	})
}

func (t *txn) place(container, id format.ID) format.Place {
	return format.Place{Instance: t.sp.store.instance, Space: format.ID(t.sp.id), Container: container, Record: id}
}

// corrupt reports and returns what was found at a place. A zero id stands for none.
func (t *txn) corrupt(what string, container, id format.ID, err error) error {
	e := &CorruptError{Space: t.sp.id, Container: container.String(), What: what, Err: err}
	if id != (format.ID{}) {
		e.Record = id.String()
	}
	return t.sp.store.corrupt(e)
}

// keyFor returns the page key that a page or nursery row names.
func (t *txn) keyFor(value []byte) ([]byte, error) {
	pair, err := format.PeekPair(value)
	if err != nil {
		return nil, err
	}
	key := t.ring.pageKey(pair)
	if key == nil {
		return nil, fmt.Errorf("%w: sealed under generation %d, epoch %d, which are not among the space's keys", format.ErrNotAuthentic, pair.Generation, pair.Epoch)
	}
	return key, nil
}

// pageFor opens the page that covers id; nil when the container has none. The caller wipes it. Pages changed in this transaction must have been
// flushed, or looked up in t.pages first.
func (t *txn) pageFor(container, id format.ID) (*format.Page, error) {
	lower, upper := containerRange(format.ID(t.sp.id), rowPage, container, id)
	for row, err := range scanRows(t.r, lower, upper) {
		if err != nil {
			return nil, err
		}
		page, err := t.openPage(row)
		if err != nil {
			return nil, err
		}
		if !page.Covers(id) {
			page.Wipe()
			return nil, t.corrupt("key page", container, id, errors.New("the page that covers this id is missing"))
		}
		return page, nil
	}
	if id == (format.ID{}) || container == rootContainer {
		return nil, nil
	}
	// No page at or above id. If there is one below, the last page was taken away.
	lower, upper = containerRange(format.ID(t.sp.id), rowPage, container, format.ID{})
	for _, err := range scanRows(t.r, lower, upper) {
		if err != nil {
			return nil, err
		}
		return nil, t.corrupt("key page", container, id, errors.New("the last page of the container is missing"))
	}
	return nil, nil
}

func (t *txn) openPage(row engine.Row) (*format.Page, error) {
	container, upper := idAt(row.Key)
	key, err := t.keyFor(row.Value)
	if err == nil {
		var page *format.Page
		if page, err = format.OpenPage(t.place(container, upper), upper, key, row.Value); err == nil {
			return page, nil
		}
	}
	return nil, t.corrupt("key page", container, upper, err)
}

func (t *txn) openNursery(container, id format.ID, value []byte) (format.Secret, error) {
	key, err := t.keyFor(value)
	if err == nil {
		var s format.Secret
		if s, err = format.OpenNursery(t.place(container, id), key, value); err == nil {
			return s, nil
		}
	}
	return format.Secret{}, t.corrupt("nursery row", container, id, err)
}

// secret finds the secret of a record: its nursery row's, else its page's. The caller wipes it.
func (t *txn) secret(container, id format.ID) (s format.Secret, ok bool, err error) {
	t.use()
	value, ok, err := t.r.Get(rowKey(format.ID(t.sp.id), rowNursery, container, id))
	if err != nil {
		return format.Secret{}, false, err
	}
	if ok {
		s, err = t.openNursery(container, id, value)
		return s, err == nil, err
	}
	for pid, page := range t.pages {
		if pid.container == container && page.Covers(id) {
			s, ok = page.Lookup(id)
			return cloneSecret(s), ok, nil
		}
	}
	page, err := t.readPage(container, id)
	if err != nil || page == nil {
		return format.Secret{}, false, err
	}
	s, ok = page.Lookup(id)
	return cloneSecret(s), ok, nil
}

func cloneSecret(s format.Secret) format.Secret {
	return format.Secret{Key: bytes.Clone(s.Key), Version: s.Version}
}

var (
	errNoSecret = errors.New("the record has no secret")
	errNoRow    = errors.New("the record's row is missing")
)

// get opens a record and appends its plaintext to dst. Errors: ErrNotFound, *CorruptError.
func (t *txn) get(dst []byte, container, id format.ID) (plaintext []byte, schema byte, err error) {
	s, known, err := t.secret(container, id)
	if err != nil {
		return nil, 0, err
	}
	defer clear(s.Key)
	value, stored, err := t.r.Get(rowKey(format.ID(t.sp.id), rowRecord, container, id))
	switch {
	case err != nil:
		return nil, 0, err
	case !known && !stored:
		return nil, 0, ErrNotFound
	case !known:
		return nil, 0, t.corrupt("record", container, id, errNoSecret)
	case !stored:
		return nil, 0, t.corrupt("record", container, id, errNoRow)
	}
	plaintext, schema, err = format.OpenRecord(dst, t.place(container, id), s, value)
	if err != nil {
		return nil, 0, t.corrupt("record", container, id, err)
	}
	return plaintext, schema, nil
}

// has looks for a record without opening it. Its secret and its row disagreeing is never "no".
func (t *txn) has(container, id format.ID) (bool, error) {
	s, known, err := t.secret(container, id)
	clear(s.Key)
	if err != nil {
		return false, err
	}
	_, stored, err := t.r.Get(rowKey(format.ID(t.sp.id), rowRecord, container, id))
	switch {
	case err != nil:
		return false, err
	case stored && !known:
		return false, t.corrupt("record", container, id, errNoSecret)
	case known && !stored:
		return false, t.corrupt("record", container, id, errNoRow)
	}
	return known, nil
}

// put seals a record: under a fresh secret when it is new, else under its own with the next version.
func (t *txn) put(container, id format.ID, schema byte, plaintext []byte) error {
	t.use()
	at := t.place(container, id)
	// Without a row there is no record, and a fresh secret outranks whatever a page may hold: most puts are of new records, and opening the page
	// of each would cost more than all the rest, while other writers wait.
	_, stored, err := t.r.Get(rowKey(at.Space, rowRecord, container, id))
	if err != nil {
		return err
	}
	var s format.Secret
	known := false
	if stored {
		if s, known, err = t.secret(container, id); err != nil {
			return err
		}
	}
	if !known {
		s = format.Secret{Key: make([]byte, format.KeySize)}
		rand.Read(s.Key) // never fails: the runtime ends the process instead
	}
	defer clear(s.Key)
	s.Version++
	return t.write(at, schema, s, plaintext)
}

// add seals a record under a fresh secret without looking whether there is one.
func (t *txn) add(container, id format.ID, schema byte, plaintext []byte) error {
	t.use()
	s := format.Secret{Key: make([]byte, format.KeySize), Version: 1}
	rand.Read(s.Key) // never fails: the runtime ends the process instead
	defer clear(s.Key)
	return t.write(t.place(container, id), schema, s, plaintext)
}

// write stores a record and its nursery row.
func (t *txn) write(at format.Place, schema byte, s format.Secret, plaintext []byte) error {
	salt := format.Salt(t.ring.hedge(), at, s, plaintext)
	record := format.SealRecord(at, schema, s, salt, plaintext)
	if err := t.w.Put(rowKey(at.Space, rowRecord, at.Container, at.Record), record); err != nil {
		return err
	}
	nursery := format.SealNursery(at, t.ring.current, t.ring.pageKey(t.ring.current), salt, s)
	if err := t.w.Put(rowKey(at.Space, rowNursery, at.Container, at.Record), nursery); err != nil {
		return err
	}
	if n := len(t.touched); n > 0 && t.touched[n-1].container == at.Container {
		t.touched[n-1].rows++
	} else {
		t.touched = append(t.touched, containerCount{at.Container, 1})
	}
	return nil
}

// delete removes a record's row and every secret of it. The record itself is not opened, so a damaged one can be deleted, and so can one whose
// nursery row is damaged; a damaged key page cannot be rewritten without losing what else it holds.
func (t *txn) delete(container, id format.ID) error {
	t.use()
	space := format.ID(t.sp.id)
	found := false
	for _, kind := range []byte{rowRecord, rowNursery} {
		key := rowKey(space, kind, container, id)
		_, ok, err := t.r.Get(key)
		if err != nil {
			return err
		}
		if ok {
			found = true
			if err := t.w.Delete(key); err != nil {
				return err
			}
		}
	}
	page, err := t.editablePage(container, id)
	if err != nil {
		return err
	}
	if page != nil && page.Remove(id) {
		found = true
	}
	if !found {
		return ErrNotFound
	}
	return nil
}

// editablePage returns the page that covers id, to be written back by flush.
func (t *txn) editablePage(container, id format.ID) (*format.Page, error) {
	for pid, page := range t.pages {
		if pid.container == container && page.Covers(id) {
			return page, nil
		}
	}
	page, err := t.pageFor(container, id)
	if err != nil || page == nil {
		return nil, err
	}
	if _, ok := page.Lookup(id); !ok { // nothing to change: spare the rewrite
		page.Wipe()
		return nil, nil
	}
	if t.pages == nil {
		t.pages = map[pageID]*format.Page{}
	}
	t.pages[pageID{container, page.Upper}] = page
	t.forget(&container)
	return page, nil
}

// flush writes the edited pages back, so that the engine's own reads see them.
func (t *txn) flush() error {
	for pid, page := range t.pages {
		page.Version++
		if err := t.putPage(pid.container, page); err != nil {
			return err
		}
		page.Wipe()
	}
	clear(t.pages)
	return nil
}

func (t *txn) putPage(container format.ID, page *format.Page) error {
	t.forget(&container)
	at := t.place(container, page.Upper)
	value := format.SealPage(at, t.ring.current, t.ring.pageKey(t.ring.current), t.ring.hedge(), page)
	return t.w.Put(rowKey(format.ID(t.sp.id), rowPage, container, page.Upper), value)
}

// collectKeys returns the keys of at most limit rows of a range.
func collectKeys(r engine.Reader, lower, upper []byte, limit int) ([][]byte, error) {
	var keys [][]byte
	for row, err := range r.Scan(lower, upper) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, slices.Clone(row.Key))
		if len(keys) == limit {
			break
		}
	}
	return keys, nil
}
