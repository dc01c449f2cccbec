// Package tree is the data of a space as a tree of keys: the head of the root container, which a pair of data key and
// epoch key opens, the heads of containers, their key pages down to the secret of each record, nursery rows that wait
// to be folded into pages, and the records. A Tx reads it, changes records, and rewrites pages and heads; it also
// folds, turns, drops, puts in order and verifies, a bounded step at a time.
//
// A Tx works on the reader or writer of an engine that it is given, and knows neither who else writes nor when that
// becomes durable. docs/formats/containers.md describes what lies on disk.
package tree

import (
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Env is what the trees of a store have in common.
type Env struct {
	Instance format.ID
	Report   event.Report
	// of a page: the most entries, and those of pages that one is split into; tests make them small
	PageSlots, PageFill int
}

// NewEnv returns the environment of the trees of an instance.
func NewEnv(instance format.ID, report event.Report) *Env {
	return &Env{Instance: instance, Report: report, PageSlots: format.PageSlots, PageFill: PageFill}
}

// Tx is a transaction on the tree of a space: it reads rows, and opens what they hold. With a writer it also writes
// them. It is for one goroutine, save where something else is said.
type Tx struct {
	env      *Env
	space    format.SpaceID
	ring     *keys.Ring
	r        engine.Reader
	w        engine.Writer // nil: it only reads
	finished bool
	prefetch func(keys ...[]byte) // reads rows together; nil: one after the other is as quick

	root     *tree // of the root container
	trees    map[format.ID]*tree
	leaves   []*node           // lowest pages that are open, so that a long transaction opens each once
	touched  []format.ID       // containers that changed
	rows     map[format.ID]int // nursery rows written, by container, for folding
	nursery  map[format.ID]int // nursery rows that containers have which changed
	gone     []Ref             // what was erased
	thorough bool              // nothing is taken from what the keyring keeps open

	before uint64       // of the root container's sequence, when it was opened
	closed func() error // says why nothing that is found counts, as after the space was dropped; may be nil
}

// NewReader returns a transaction that reads from r.
func NewReader(env *Env, space format.SpaceID, ring *keys.Ring, r engine.Reader) *Tx {
	return &Tx{env: env, space: space, ring: ring, r: r, prefetch: engine.Prefetcher(r)}
}

// NewWriter returns a transaction that writes to w.
func NewWriter(env *Env, space format.SpaceID, ring *keys.Ring, w engine.Writer) *Tx {
	return &Tx{env: env, space: space, ring: ring, r: w, w: w, prefetch: engine.Prefetcher(w)}
}

// ReadFrom has the transaction go on with another reader of the same rows.
func (t *Tx) ReadFrom(r engine.Reader) { t.r, t.prefetch = r, engine.Prefetcher(r) }

// WriteTo has the transaction go on with a writer of the same rows.
func (t *Tx) WriteTo(w engine.Writer) { t.r, t.w, t.prefetch = w, w, engine.Prefetcher(w) }

// Prefetch reads what every transaction reads first: the bundle of the space, and the head of its root container.
func (t *Tx) Prefetch() {
	if t.prefetch != nil {
		space := format.ID(t.space)
		t.prefetch(rowkey.OfSpace(space, rowkey.Bundle), rowkey.Of(space, rowkey.Head, rowkey.Root, format.ID{}))
	}
}

// prefetchRecord reads what is read of a record that is looked for, save for pages.
func (t *Tx) prefetchRecord(container, id format.ID) {
	if t.prefetch == nil {
		return
	}
	space := format.ID(t.space)
	keys := make([][]byte, 0, 3)
	if _, open := t.trees[container]; !open && container != rowkey.Root {
		keys = append(keys, rowkey.Of(space, rowkey.Head, container, format.ID{}))
	}
	t.prefetch(append(keys, rowkey.Of(space, rowkey.Nursery, container, id),
		rowkey.Of(space, rowkey.Record, container, id))...)
}

// Below calls fn with the rows that the transaction reads.
func (t *Tx) Below(fn func(engine.Reader) error) error { return fn(t.r) }

// OnlyWhile sets what says why nothing that is found to be damaged counts.
func (t *Tx) OnlyWhile(closed func() error) { t.closed = closed }

// Keyring returns the keys of the space.
func (t *Tx) Keyring() *keys.Ring { return t.ring }

// Changes is what a transaction did.
type Changes struct {
	Rows     map[format.ID]int // nursery rows written, by container
	Touched  []format.ID       // containers that changed
	Sequence uint64            // of the root container's head
	Pair     format.Pair       // that this is sealed under
	Gone     []Ref             // what was erased
	Nursery  map[format.ID]int // how many nursery rows containers have that changed
}

// Changes returns what the transaction did.
func (t *Tx) Changes() Changes {
	return Changes{t.rows, t.touched, t.root.head.Sequence, t.root.head.Pair, t.gone, t.nursery}
}

// Use panics when a transaction is used after its function has returned: that is a mistake of ours, and it would read
// wiped memory.
func (t *Tx) Use() {
	if t.finished {
		panic("sealed: a Reader or Tx was used after its function had returned")
	}
}

// Finish ends the use of the transaction, and wipes the keys that it opened.
func (t *Tx) Finish() {
	t.finished = true
	for _, tr := range t.trees {
		tr.forget()
	}
	if t.root != nil {
		t.root.forget()
	}
	t.leaves = nil
}

func (t *Tx) place(container, id format.ID) format.Place {
	return format.Place{Instance: t.env.Instance, Space: format.ID(t.space), Container: container, Record: id}
}

// Corrupt reports and returns what was found at a place. A zero id stands for none.
func (t *Tx) Corrupt(what string, container, id format.ID, err error) error {
	if t.closed != nil {
		if err := t.closed(); err != nil {
			return err
		}
	}
	e := &event.CorruptError{Space: t.space, Container: container.String(), What: what, Err: err}
	if id != (format.ID{}) {
		e.Record = id.String()
	}
	return t.env.Report.Corrupt(e)
}

// Ref names a record; with the zero id, a whole container.
type Ref struct{ Container, ID format.ID }

// PageFill is how full the pages are that a full one is split into, so that the next rows do not split them again at
// once.
const PageFill = 224

// tree is a container as one transaction sees it: its head, and as much of its pages as was needed. docs/erasure.md
// says why it has this shape.
type tree struct {
	t         *Tx
	container format.ID
	head      *format.Head
	key       []byte // what the head is sealed under; nil in the root container, whose pair says it
	floor     uint64 // the sequence number that the root container knows
	row       []byte // in the root container: the head's row as it was read
	top       *node  // nil until it is needed
	written   bool   // the head has to be written
	rekey     bool   // under a fresh key: something of the container was erased, or the container is new
	erased    []format.ID
	// records whose nursery rows are replaced or removed with the same commit, so that no page takes them
	taken map[format.ID]bool
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

// wipe closes what the transaction opened.
func (tr *tree) wipe() {
	if tr.top != nil {
		tr.top.wipe()
	}
	tr.top = nil
}

// forget is wipe, and clears the keys of the tree itself.
func (tr *tree) forget() {
	tr.wipe()
	clear(tr.key)
	clear(tr.head.Root.Key)
}

func (n *node) wipe() {
	for _, k := range n.kids {
		k.wipe()
	}
	n.close()
	clear(n.secret.Key)
}

func (n *node) close() {
	if n.page != nil && n.own {
		n.page.Wipe()
	}
	n.page, n.own = nil, false
}
