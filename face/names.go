package face

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/arena"
)

// mostNameBytes limits the memory of all name indexes together. A person takes about 21 bytes and its folded name, so
// a group of 1,000,000 with names of 19 bytes takes 40 MB.
const mostNameBytes = 256 << 20

// nameIndexes keeps the folded names of persons, so that a group can be searched by name: sealed rows have no order and
// no text. An index is built by one scan in the background when a group is first searched, follows every change
// afterwards, also those that other processes have logged, and ends with the lease of its space. Names are personal
// data: they lie in locked memory, which is wiped when a person, a group or the lease ends. When the indexes take too
// much memory, the least recently used are dropped.
type nameIndexes struct {
	most int64 // bytes

	builders sync.WaitGroup

	mu     sync.Mutex // not held together with the mu of an index
	all    map[string]*nameIndex
	recent *list.List // of *nameIndex, the most recently used first
	bytes  int64      // of all indexes
	closed bool
}

// nameIndex has the ids and folded names of the persons of a group. A search passes over all names, one after the
// other in memory, which takes a few milliseconds for a million.
type nameIndex struct {
	name   string
	bits   int                // the ids in a bucket have so many first bits in common
	cancel context.CancelFunc // of the scan
	built  chan struct{}      // closed when the scan has ended
	follow func(context.Context, *nameIndex) error

	// These belong to nameIndexes and are guarded by its mu.
	place   *list.Element
	unwatch func() bool
	counted int64 // bytes of it that are in nameIndexes.bytes
	whole   bool  // it was built: others may take its memory
	over    bool  // it has more bytes than all indexes may have together: it is not built again

	mu       sync.RWMutex // guards the fields below
	ready    bool
	gone     bool
	followed          // the changes of the group
	buckets  []bucket // by the first bits of the id
	n        int      // persons
	bytes    int64    // of memory
	counts   [256]int // how often each byte is in the names
}

// bucket holds persons whose ids have the same first bits, in no order. Person i has the id at 16·i, and the name after
// byte 0 number i, counted from 0, of the names.
type bucket struct {
	ids   *arena.Buffer // nil: the bucket is empty
	names *arena.Buffer
	n     int // persons
	used  int // bytes of names
}

const (
	idBytes = len(uuid{})
	// perBucket is how many persons a bucket has when it is built: finding one by its id passes over 32 KiB.
	perBucket = 2048
	// mostBucketBits limits the number of buckets.
	mostBucketBits = 12
)

// errNamesTooLarge is the end of an index that needs more memory than there is for names.
var errNamesTooLarge = errors.New("the names need too much memory")

func newNameIndexes(most int64) *nameIndexes {
	return &nameIndexes{most: most, all: make(map[string]*nameIndex), recent: list.New()}
}

// close ends all scans, waits for them, and wipes all names.
func (o *nameIndexes) close() {
	o.mu.Lock()
	o.closed = true
	all := slices.Collect(maps.Values(o.all))
	o.mu.Unlock()
	for _, k := range all {
		o.drop(k)
	}
	o.builders.Wait()
}

// memory returns the bytes of all indexes.
func (o *nameIndexes) memory() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// nameScan calls add with every person of a group, as stored at some moment of the call, and returns the number of the
// last change before that moment.
type nameScan func(ctx context.Context, add func(id uuid, name string) error) (at uint64, err error)

// of returns the index of a group of about so many persons, which may still be built: see nameIndex.built. follow
// brings it up to date, for refresh. It returns nil when the names of the group need too much memory.
func (o *nameIndexes) of(
	lease context.Context, name string, persons int, scan nameScan, follow func(context.Context, *nameIndex) error,
) (*nameIndex, error) {
	if lease.Err() != nil {
		return nil, context.Cause(lease)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, errors.New("the service has stopped")
	}
	if k := o.all[name]; k != nil {
		o.recent.MoveToFront(k.place)
		if k.over {
			return nil, nil
		}
		return k, nil
	}
	ctx, cancel := context.WithCancel(lease)
	common := bucketBits(persons)
	k := &nameIndex{
		name: name, bits: common, cancel: cancel, built: make(chan struct{}), buckets: make([]bucket, 1<<common),
		follow: follow,
	}
	k.place = o.recent.PushFront(k)
	k.unwatch = context.AfterFunc(lease, func() { o.drop(k) })
	o.all[name] = k
	o.builders.Go(func() {
		defer close(k.built)
		defer cancel()
		o.build(ctx, k, scan)
	})
	return k, nil
}

// bucketBits returns how many bits the ids in a bucket of an index of so many persons have in common.
func bucketBits(persons int) int {
	return min(bits.Len(uint(max(persons-1, 0)/perBucket)), mostBucketBits)
}

// build fills an index. One that cannot be filled is dropped; the next search tries again, unless it was too large.
func (o *nameIndexes) build(ctx context.Context, k *nameIndex, scan nameScan) {
	const together = 1000 // additions between two looks at the memory
	added := 0
	at, err := scan(ctx, func(id uuid, name string) error {
		folded := fold(name)
		k.mu.Lock()
		err := k.addLocked(id, folded) // each person is scanned once: it is not in the index
		k.mu.Unlock()
		if added++; err == nil && added%together == 0 {
			err = o.account(k)
		}
		return err
	})
	if err == nil {
		k.mu.Lock()
		k.at = at
		err = k.applyLocked()
		k.ready = err == nil && !k.gone
		k.mu.Unlock()
	}
	if err == nil {
		err = o.account(k)
	}
	switch {
	case err == nil:
		o.mu.Lock()
		k.whole = true
		o.mu.Unlock()
	case errors.Is(err, errNamesTooLarge):
		k.wipe()
		o.mu.Lock()
		if o.all[k.name] == k {
			k.over = k.counted > o.most
			o.bytes -= k.counted
			k.counted, k.whole = 0, false
		}
		over := k.over
		o.mu.Unlock()
		if !over { // others have the memory
			o.drop(k)
		}
	default:
		o.drop(k)
	}
}

// change brings the index of a group up to date with changes that are stored.
func (o *nameIndexes) change(name string, s stored) {
	o.mu.Lock()
	k := o.all[name]
	o.mu.Unlock()
	if k != nil {
		o.apply(k, s)
	}
}

// apply brings an index up to date with changes, once it has those before.
func (o *nameIndexes) apply(k *nameIndex, s stored) {
	k.mu.Lock()
	var err error
	if !k.gone {
		k.hold(s)
		if k.ready {
			err = k.applyLocked()
		}
	}
	k.mu.Unlock()
	if err == nil {
		err = o.account(k)
	}
	if err != nil {
		o.drop(k)
	}
}

// account counts the memory of an index, and drops others, the least recently used first, if all together have too much
// now.
func (o *nameIndexes) account(k *nameIndex) error {
	k.mu.RLock()
	bytes := k.bytes
	k.mu.RUnlock()
	o.mu.Lock()
	if o.all[k.name] != k {
		o.mu.Unlock()
		return nil
	}
	o.bytes += bytes - k.counted
	k.counted = bytes
	var dropped []*nameIndex
	for e := o.recent.Back(); e != nil && o.bytes > o.most; {
		other := e.Value.(*nameIndex)
		e = e.Prev()
		if other != k && other.whole {
			o.removeLocked(other)
			dropped = append(dropped, other)
		}
	}
	over := o.bytes > o.most
	o.mu.Unlock()
	for _, other := range dropped {
		other.wipe()
	}
	if over {
		return errNamesTooLarge
	}
	return nil
}

// refresh brings all indexes up to date, also those that nobody searches: they must not keep names of persons that
// another process has deleted. One whose group is gone is dropped. Any other error leaves an index as it is, so that a
// store that does not answer for a moment does not have all names read again: no search uses it before it has followed.
func (o *nameIndexes) refresh(ctx context.Context) {
	o.mu.Lock()
	all := slices.Collect(maps.Values(o.all))
	o.mu.Unlock()
	for _, k := range all {
		err := k.follow(ctx, k)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
			o.drop(k)
		}
	}
}

// forget drops the index of a group, if there is one.
func (o *nameIndexes) forget(name string) {
	o.mu.Lock()
	k := o.all[name]
	o.mu.Unlock()
	if k != nil {
		o.drop(k)
	}
}

func (o *nameIndexes) drop(k *nameIndex) {
	o.mu.Lock()
	if o.all[k.name] == k {
		o.removeLocked(k)
	}
	o.mu.Unlock()
	k.wipe()
}

func (o *nameIndexes) removeLocked(k *nameIndex) {
	k.cancel()
	k.unwatch()
	delete(o.all, k.name)
	o.recent.Remove(k.place)
	o.bytes -= k.counted
	k.counted = 0
}

// wipe clears the names and gives their memory back.
func (k *nameIndex) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone, k.ready, k.followed = true, false, followed{}
	for i := range k.buckets {
		for _, b := range []*arena.Buffer{k.buckets[i].ids, k.buckets[i].names} {
			if b != nil {
				b.Free()
			}
		}
	}
	k.buckets, k.n, k.bytes, k.counts = nil, 0, 0, [256]int{}
}

// position returns the number of the last change that the index has, and whether it has all names.
func (k *nameIndex) position() (at uint64, ready bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.at, k.ready
}

// applyLocked applies the changes that are due.
func (k *nameIndex) applyLocked() error {
	if k.gone {
		return nil
	}
	for _, s := range k.due() {
		for _, c := range s.list {
			var err error
			switch name, known := s.names[c.id]; c.what {
			case personGone:
				k.removeLocked(uuid([]byte(c.id)))
			case personAdded, personRenamed:
				id := uuid([]byte(c.id))
				if k.removeLocked(id); known { // otherwise it has been removed since
					err = k.addLocked(id, name)
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// removeLocked removes a person if it is there.
func (k *nameIndex) removeLocked(id uuid) {
	b := &k.buckets[k.bucketOf(id)]
	at := b.find(id)
	if at < 0 {
		return
	}
	b.remove(at, func(name []byte) {
		for _, c := range name {
			k.counts[c]--
		}
	})
	k.n--
}

// addLocked adds a person that is not there.
func (k *nameIndex) addLocked(id uuid, name string) error {
	if k.gone {
		return nil
	}
	b := &k.buckets[k.bucketOf(id)]
	before := b.size()
	err := b.add(id, name)
	k.bytes += b.size() - before
	if err != nil {
		return err
	}
	for i := range len(name) {
		k.counts[name[i]]++
	}
	k.n++
	return nil
}

// bucketOf returns the bucket of an id: the order of buckets is that of ids.
func (k *nameIndex) bucketOf(id uuid) int {
	first := int(id[0])<<8 | int(id[1])
	return first >> (16 - k.bits)
}

// size returns the memory of a bucket, in bytes.
func (b *bucket) size() int64 {
	if b.ids == nil {
		return 0
	}
	return int64(cap(b.ids.Bytes()) + cap(b.names.Bytes()))
}

// find returns the place of a person; -1: it is not there.
func (b *bucket) find(id uuid) int {
	for i := range b.n {
		if b.id(i) == id {
			return i
		}
	}
	return -1
}

func (b *bucket) id(i int) uuid { return uuid(b.ids.Bytes()[i*idBytes:]) }

// add appends a person.
func (b *bucket) add(id uuid, name string) error {
	var err error
	if b.ids, err = grown(b.ids, b.n*idBytes, idBytes); err != nil {
		return err
	}
	if b.names, err = grown(b.names, b.used, 1+len(name)); err != nil {
		return err
	}
	copy(b.ids.Bytes()[b.n*idBytes:], id[:])
	b.names.Bytes()[b.used] = 0
	copy(b.names.Bytes()[b.used+1:], name)
	b.n++
	b.used += 1 + len(name)
	return nil
}

// remove removes person i, and clears the end of what has moved down. It calls gone with the name before.
func (b *bucket) remove(i int, gone func(name []byte)) {
	ids := b.ids.Bytes()
	copy(ids[i*idBytes:], ids[(i+1)*idBytes:b.n*idBytes])
	b.n--
	clear(ids[b.n*idBytes : (b.n+1)*idBytes])

	names := b.names.Bytes()[:b.used]
	start := 0
	for range i {
		start += 1 + bytes.IndexByte(names[start+1:], 0)
	}
	length := len(names) - start
	if next := bytes.IndexByte(names[start+1:], 0); next >= 0 {
		length = 1 + next
	}
	gone(names[start+1 : start+length])
	copy(names[start:], names[start+length:])
	b.used -= length
	clear(names[b.used:])
}

// grown returns a buffer with room for some bytes more than those in use; it may be the same. The old one is wiped.
func grown(old *arena.Buffer, used, more int) (*arena.Buffer, error) {
	if old != nil && used+more <= len(old.Bytes()) {
		return old, nil
	}
	const page = 4096
	size := (max(used+more, used*9/8) + page - 1) / page * page
	b, err := arena.New(size)
	if err != nil {
		return old, fmt.Errorf("memory for names: %w", err)
	}
	if old != nil {
		copy(b.Bytes(), old.Bytes()[:used])
		old.Free()
	}
	return b, nil
}

// nameMatch says how a person may match what is looked for. The matches of a search come in this order, and those of
// one sort in the order of their ids.
type nameMatch byte

const (
	matchID     nameMatch = 'i' // the text of the id begins so
	matchStart  nameMatch = 's' // the name begins so
	matchWithin nameMatch = 'w' // the name has it elsewhere
)

// before reports whether matches of a sort come before those of another.
func (m nameMatch) before(other nameMatch) bool {
	const order = string(matchID) + string(matchStart) + string(matchWithin)
	return strings.IndexByte(order, byte(m)) < strings.IndexByte(order, byte(other))
}

// nameHit is a person that matches.
type nameHit struct {
	id  uuid
	how nameMatch
}

// nameSearch says what to look for in an index.
type nameSearch struct {
	text  string   // folded
	ids   idRange  // of matchID
	after *nameHit // the first hit is the one after it; nil: the first of all
}

// isReady reports whether the index has all names.
func (k *nameIndex) isReady() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.ready
}

// persons returns how many persons are in the index so far.
func (k *nameIndex) persons() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.n
}

// search returns the first n hits. Most often it passes over the names once.
func (k *nameIndex) search(q nameSearch, n int) []nameHit {
	after := func(how nameMatch) *uuid { // the id after which hits of a sort are wanted
		if q.after != nil && q.after.how == how {
			return &q.after.id
		}
		return nil
	}
	wanted := func(how nameMatch) bool { return q.after == nil || !how.before(q.after.how) }
	var hits []nameHit
	if wanted(matchID) && q.ids.some {
		hits = k.pass(q, after(matchID), n, matchID)[0]
	}
	var within []nameHit
	passed := false // over all names, for hits within them
	if wanted(matchStart) && len(hits) < n {
		from := after(matchStart)
		found := k.pass(q, from, n-len(hits), matchStart, matchWithin)
		hits = append(hits, found[0]...)
		within, passed = found[1], from == nil
	}
	if len(hits) < n {
		if !passed {
			within = k.pass(q, after(matchWithin), n-len(hits), matchWithin)[0]
		}
		hits = append(hits, within...)
	}
	return hits[:min(n, len(hits))]
}

// pass passes over the buckets from that of an id on and returns the first n hits after the id of each wanted sort. It
// ends when the first sort has n.
func (k *nameIndex) pass(q nameSearch, after *uuid, n int, wanted ...nameMatch) [][]nameHit {
	hits := make([][]nameHit, len(wanted))
	f := k.finder(q.text)
	from := uuid{}
	if after != nil {
		from = *after
	}
	if wanted[0] == matchID && bytes.Compare(from[:], q.ids.from[:]) < 0 {
		from = q.ids.from
	}
	for i := k.bucketOf(from); len(hits[0]) < n; i++ {
		starts := make([]int, len(hits))
		for s := range hits {
			starts[s] = len(hits[s])
		}
		found := func(id uuid, how nameMatch) {
			s := slices.Index(wanted, how)
			if s >= 0 && starts[s] < n && (after == nil || bytes.Compare(id[:], after[:]) > 0) {
				hits[s] = append(hits[s], nameHit{id, how})
			}
		}
		if !k.searchBucket(i, q, f, wanted[0] == matchID, found) {
			break
		}
		for s := range hits {
			slices.SortFunc(hits[s][starts[s]:], func(a, b nameHit) int { return bytes.Compare(a.id[:], b.id[:]) })
		}
	}
	return hits
}

// searchBucket calls found with the hits in bucket i: by the id, or by the name and not the id. It returns false when
// there is no such bucket. Only one bucket at a time is locked, so that changes do not wait for whole searches.
func (k *nameIndex) searchBucket(i int, q nameSearch, f finder, byID bool, found func(uuid, nameMatch)) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if i >= len(k.buckets) {
		return false
	}
	b := &k.buckets[i]
	if b.n == 0 {
		return true
	}
	if !byID {
		b.search(q, f, found)
		return true
	}
	for p := range b.n {
		if id := b.id(p); q.ids.has(id) {
			found(id, matchID)
		}
	}
	return i < k.bucketOf(q.ids.to)
}

// search calls found with every person whose name has the text, and whose id does not match.
func (b *bucket) search(q nameSearch, f finder, found func(uuid, nameMatch)) {
	names, at, person := b.names.Bytes()[:b.used], 0, -1
	for {
		hit := f.index(names, at)
		if hit < 0 {
			return
		}
		person += bytes.Count(names[at:hit], []byte{0})
		how := matchWithin
		if names[hit-1] == 0 {
			how = matchStart
		}
		if id := b.id(person); !q.ids.has(id) {
			found(id, how)
		}
		next := bytes.IndexByte(names[hit:], 0)
		if next < 0 {
			return
		}
		at = hit + next
	}
}

// finder finds a text by its byte that is the rarest in the names, which the processor finds fast.
type finder struct {
	text   []byte
	anchor int // the index of that byte
}

func (k *nameIndex) finder(text string) finder {
	k.mu.RLock()
	defer k.mu.RUnlock()
	f := finder{text: []byte(text)}
	for i, c := range f.text {
		if k.counts[c] < k.counts[f.text[f.anchor]] {
			f.anchor = i
		}
	}
	return f
}

// index returns the place of the text in names from an index on; -1: it is not there.
func (f finder) index(names []byte, from int) int {
	rare := f.text[f.anchor]
	for at := from + f.anchor; at < len(names); at++ {
		next := bytes.IndexByte(names[at:], rare)
		if next < 0 {
			return -1
		}
		at += next
		if start := at - f.anchor; bytes.HasPrefix(names[start:], f.text) {
			return start
		}
	}
	return -1
}

// idRange is the ids whose text begins in one way; the zero range has none.
type idRange struct {
	from, to uuid
	some     bool
}

func (r idRange) has(id uuid) bool {
	return r.some && bytes.Compare(r.from[:], id[:]) <= 0 && bytes.Compare(id[:], r.to[:]) <= 0
}
