package face

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
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

// recognised notes that somebody was recognised.
func (s *Service) recognised(res visage.Resource, ref Ref, c collectionRecord, id uuid) {
	m := s.matches
	m.mu.Lock()
	defer m.mu.Unlock()
	key := matchKey{res.ID, c.Incarnation, id}
	if _, ok := m.days[key]; !ok && len(m.days) >= mostMatches {
		return
	}
	m.refs[c.Incarnation] = ref
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

// writeMatches stores who was recognised, where a retention asks for it. What cannot be stored now waits on.
func (s *Service) writeMatches(ctx context.Context, res visage.Resource) error {
	refs := s.matches.collections()
	taken := s.matches.take(res.ID)
	if len(taken) == 0 {
		return nil
	}
	var rule ruleSet
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		rule, err = rules(r)
		return err
	})
	keys := make([]matchKey, 0, len(taken))
	for key := range taken {
		if retention := rule.of(key.of); retention.Since == SinceMatch && retention.Days > 0 {
			keys = append(keys, key)
		} else if err == nil {
			delete(taken, key)
		}
	}
	slices.SortFunc(keys, func(a, b matchKey) int {
		return strings.Compare(string(a.of[:])+string(a.id[:]), string(b.of[:])+string(b.id[:]))
	})
	for part := range slices.Chunk(keys, 10*expireTogether) {
		if err == nil {
			err = s.update(ctx, res, func(tx sealed.Tx) error {
				for _, key := range part {
					if err := putMatch(tx, refs[key.of], key, taken[key]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err == nil {
			for _, key := range part {
				delete(taken, key)
			}
		}
	}
	if err != nil {
		s.matches.putBack(taken, refs)
	}
	if errors.Is(err, sealed.ErrFull) {
		return nil // who was recognised is written once there is room again
	}
	return err
}

// putMatch writes one match, of somebody who is still there and was not recognised that day already.
func putMatch(tx sealed.Tx, ref Ref, key matchKey, when int64) error {
	of, id := key.of.String(), key.id.String()
	var err error
	if ref.Kind.isGroup() {
		_, err = persons.In(of).Get(tx, id)
	} else {
		var c collectionRecord
		c, err = find(tx, ref)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound ||
			c.Incarnation != key.of {
			return nil
		}
		if err == nil {
			var there bool
			if there, err = c.faces().Has(tx, id); err == nil && !there {
				return nil
			}
		}
	}
	if errors.Is(err, sealed.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read who was recognised: %w", err)
	}
	old, err := matched.In(of).Get(tx, id)
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return fmt.Errorf("read a match: %w", err)
	}
	if err == nil && old.Day >= when {
		return nil
	}
	return matched.In(of).Put(tx, id, matchRecord{Day: when})
}
