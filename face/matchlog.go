package face

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// mostMatches bounds how many matches wait to be written, about 100 bytes each. Run writes them every minute.
const mostMatches = 1_000_000

// matchKey is somebody in a collection.
type matchKey struct {
	res    visage.ResourceID
	of, id uuid
}

// matchLog is who was recognised since it was last written. A crash loses it: at most a minute of matches.
type matchLog struct {
	mu   sync.Mutex // guards all below
	refs map[uuid]Ref
	days map[matchKey]int64
}

func newMatchLog() *matchLog {
	return &matchLog{refs: make(map[uuid]Ref), days: make(map[matchKey]int64)}
}

// add notes that a person of a group, or a face of a list, was recognised today. When the log is full it is not noted.
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

// take returns and removes what waits of a resource.
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

// collections returns the lists and groups in which somebody was recognised, by incarnation.
func (m *matchLog) collections() map[uuid]Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.refs)
}

// resources returns the resources of which something waits.
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
