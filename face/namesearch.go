package face

import (
	"bytes"
	"slices"
	"strings"
)

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
