package face

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// mostMatches limits the matches that wait to be stored, about 100 bytes each. Run stores them every minute.
const mostMatches = 1_000_000

// matchKey names a person of a group or a face of a list.
type matchKey struct {
	res    visage.ResourceID
	of, id uuid
}

// matchLog keeps the day on which each person or face was last recognised, until it is stored. A crash loses it: at
// most a minute of matches.
type matchLog struct {
	mu   sync.Mutex // guards the fields below
	refs map[uuid]Ref
	days map[matchKey]int64
}

func newMatchLog() *matchLog {
	return &matchLog{refs: make(map[uuid]Ref), days: make(map[matchKey]int64)}
}

// add records that a person of a group, or a face of a list, was recognised today. When the log is full, it drops those
// that are not in it yet.
func (m *matchLog) add(res visage.ResourceID, ref Ref, of, id uuid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := matchKey{res, of, id}
	if _, ok := m.days[key]; !ok && len(m.days) >= mostMatches {
		return
	}
	m.refs[of] = ref
	m.days[key] = dayNumber(time.Now())
}

// take removes and returns the matches of a resource.
func (m *matchLog) take(res visage.ResourceID) map[matchKey]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var taken map[matchKey]int64
	for key, when := range m.days {
		if key.res == res {
			if taken == nil {
				taken = make(map[matchKey]int64)
			}
			taken[key] = when
			delete(m.days, key)
		}
	}
	if len(m.days) == 0 {
		clear(m.refs)
	}
	return taken
}

func (m *matchLog) putBack(some map[matchKey]int64, refs map[uuid]Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, when := range some {
		m.days[key] = max(m.days[key], when)
		m.refs[key.of] = refs[key.of]
	}
}

// collections returns the lists and groups with matches, by incarnation.
func (m *matchLog) collections() map[uuid]Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.refs)
}

// resources returns the resources with matches.
func (m *matchLog) resources() []visage.ResourceID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []visage.ResourceID
	for key := range m.days {
		if !slices.Contains(all, key.res) {
			all = append(all, key.res)
		}
	}
	return all
}
