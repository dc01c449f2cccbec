package face

import (
	"container/list"
	"context"
	"slices"
	"sync"
)

// mostOrdered limits the ids in all orders together: 32 bytes each for faces and persons, so about 130 MB. The largest
// collection of the contract has a quarter of them.
const mostOrdered = 4_000_000

// orders keeps the ids of containers sorted, because the contract lists them in order and sealed rows have none: their
// keys are blinded. An order is built by one scan when it is first needed, follows every change afterwards, and ends
// with the lease of its space. When there are too many ids, the least recently used orders are dropped. Changes of
// other processes are read from the log of changes before a page is.
type orders struct {
	most int

	mu     sync.Mutex
	all    map[string]*order
	recent *list.List // of *order, the most recently used first
	ids    int        // in all of them
}

// order is the ids of one container. Its fields are guarded by the mu of orders.
type order struct {
	name     string
	turn     chan struct{} // holds one value while nobody scans or reads
	ready    bool
	followed // the changes of the container
	ids      sortedIDs
	gone     bool
	place    *list.Element
	unwatch  func() bool
}

// idChange is the addition or removal of an id.
type idChange struct {
	id    string
	added bool
}

func newOrders(most int) *orders {
	return &orders{most: most, all: make(map[string]*order), recent: list.New()}
}

// listing says what to list, and how.
type listing struct {
	lease context.Context        // of the container's space
	name  string                 // of the container, unique in the process
	text  func(id string) string // the form of an id that clients see; it sorts like the id
	at    uint64                 // the number of the last change that must be in the list
	// scan lists all ids, in any order, as stored at some moment of the call, and returns the number of the last change
	// before that moment.
	scan func(add func(id string)) (at uint64, err error)
	// since returns the changes after a number; reaches is false when they are not known any more.
	since func(after uint64) (list []change, reaches bool, err error)
}

// idChange returns the id that the change of a container adds or removes; the zero value if it does neither.
func (c change) idChange() idChange {
	switch c.what {
	case faceAdded, personAdded, itemAdded:
		return idChange{id: c.id, added: true}
	case faceGone, personGone, itemGone:
		return idChange{id: c.id}
	}
	return idChange{}
}

// after returns the first n ids after start. If the order has to be built, one caller scans and the others wait.
func (o *orders) after(ctx context.Context, l listing, start string, n int) ([]string, error) {
	k, err := o.enter(l.lease, l.name)
	if err != nil {
		return nil, err
	}
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	current, err := o.follow(k, l)
	if err != nil {
		return nil, err
	}
	if !current {
		if err := o.build(k, l); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return k.ids.after(start, n, l.text), nil
}

// follow brings an order up to date. It reports whether it could: otherwise the order has to be built.
func (o *orders) follow(k *order, l listing) (current bool, err error) {
	o.mu.Lock()
	ready, at := k.ready, k.at
	o.mu.Unlock()
	if !ready || at >= l.at {
		return ready, nil
	}
	list, reaches, err := l.since(at)
	if err != nil || !reaches {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	k.hold(stored{after: at, list: list})
	o.applyLocked(k)
	return true, nil
}

// build scans a container and makes its order.
func (o *orders) build(k *order, l listing) error {
	o.mu.Lock()
	if k.ready {
		k.ready = false
		o.ids -= k.ids.n
	}
	o.mu.Unlock()
	var found []string
	at, err := l.scan(func(id string) { found = append(found, id) })
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.forgetLocked(k)
		return err
	}
	k.ids, k.at = sortIDs(found), at
	if !k.gone {
		k.ready = true
		o.ids += k.ids.n
	}
	o.applyLocked(k)
	return nil
}

// applyLocked applies the changes that are due.
func (o *orders) applyLocked(k *order) {
	before := k.ids.n
	for _, s := range k.due() {
		for _, c := range s.list {
			if c := c.idChange(); c.id != "" {
				k.ids.apply(c)
			}
		}
	}
	if k.ready {
		o.ids += k.ids.n - before
		o.shrinkLocked(k)
	}
}

// enter returns the order of a container, and creates it if there is none.
func (o *orders) enter(lease context.Context, name string) (*order, error) {
	if lease.Err() != nil {
		return nil, context.Cause(lease)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.all[name]; k != nil {
		o.recent.MoveToFront(k.place)
		return k, nil
	}
	k := &order{name: name, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	k.place = o.recent.PushFront(k)
	k.unwatch = context.AfterFunc(lease, func() { o.forget(name) })
	o.all[name] = k
	return k, nil
}

// change brings the order of a container up to date with changes that are stored.
func (o *orders) change(name string, s stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.all[name]; k != nil {
		k.hold(s)
		if k.ready {
			o.applyLocked(k)
		}
	}
}

// forget drops the order of a container.
func (o *orders) forget(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.all[name]; k != nil {
		o.forgetLocked(k)
	}
}

func (o *orders) forgetLocked(k *order) {
	if k.gone {
		return
	}
	k.gone = true
	k.unwatch()
	delete(o.all, k.name)
	o.recent.Remove(k.place)
	if k.ready {
		o.ids -= k.ids.n
	}
}

// shrinkLocked drops orders, the least recently used first, until few enough ids remain. It never drops keep.
func (o *orders) shrinkLocked(keep *order) {
	for e := o.recent.Back(); e != nil && o.ids > o.most; {
		k := e.Value.(*order)
		e = e.Prev()
		if k != keep && k.ready {
			o.forgetLocked(k)
		}
	}
}

// sortedIDs is a sorted set of ids, cut into runs so that a change moves few of them.
type sortedIDs struct {
	runs [][]string // none is empty
	n    int
}

// runLength is the length at which a run is split: moving half of it costs about a microsecond.
const runLength = 1024

// sortIDs makes a set of ids, which then belong to the set.
func sortIDs(ids []string) sortedIDs {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	s := sortedIDs{n: len(ids)}
	for run := range slices.Chunk(ids, runLength/2) {
		s.runs = append(s.runs, slices.Clip(run))
	}
	return s
}

// seek returns the index of the run that holds id or would hold it.
func (s *sortedIDs) seek(id string) int {
	i, _ := slices.BinarySearchFunc(s.runs, id, func(run []string, id string) int {
		if run[len(run)-1] < id {
			return -1
		}
		return 1
	})
	return i
}

func (s *sortedIDs) apply(c idChange) {
	i := s.seek(c.id)
	if i == len(s.runs) {
		if !c.added {
			return
		}
		if i == 0 {
			s.runs = append(s.runs, nil)
		} else {
			i--
		}
	}
	at, found := slices.BinarySearch(s.runs[i], c.id)
	switch {
	case c.added && !found:
		s.runs[i] = slices.Insert(s.runs[i], at, c.id)
		s.n++
		if run := s.runs[i]; len(run) >= runLength {
			half := len(run) / 2
			s.runs[i] = run[:half:half]
			s.runs = slices.Insert(s.runs, i+1, slices.Clone(run[half:]))
		}
	case !c.added && found:
		s.runs[i] = slices.Delete(s.runs[i], at, at+1)
		s.n--
		if len(s.runs[i]) == 0 {
			s.runs = slices.Delete(s.runs, i, i+1)
		}
	}
}

// after returns a copy of the first n ids whose text is greater than start. text must keep the order of the ids.
func (s *sortedIDs) after(start string, n int, text func(id string) string) []string {
	page := make([]string, 0, min(n, s.n))
	beyond := func(id, start string) int {
		if text(id) > start {
			return 1
		}
		return -1
	}
	i, _ := slices.BinarySearchFunc(s.runs, start, func(run []string, start string) int {
		return beyond(run[len(run)-1], start)
	})
	for ; i < len(s.runs) && len(page) < n; i++ {
		run := s.runs[i]
		at, _ := slices.BinarySearchFunc(run, start, beyond)
		page = append(page, run[at:min(len(run), at+n-len(page))]...)
	}
	return page
}
