package face

import (
	"container/list"
	"context"
	"errors"
	"maps"
	"math/bits"
	"slices"
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

const (
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
