package face

import (
	"context"
	"errors"
	"fmt"
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
	refs map[uuid]Kind
	days map[matchKey]int64
}

func newMatchLog() *matchLog {
	return &matchLog{refs: make(map[uuid]Kind), days: make(map[matchKey]int64)}
}

// recognised notes that somebody was recognised.
func (s *Service) recognised(res visage.Resource, kind Kind, of uuid, id uuid) {
	m := s.matches
	m.mu.Lock()
	defer m.mu.Unlock()
	key := matchKey{res.ID, of, id}
	if _, ok := m.days[key]; !ok && len(m.days) >= mostMatches {
		return
	}
	m.refs[of] = kind
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

func (m *matchLog) putBack(some map[matchKey]int64, kinds map[uuid]Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, when := range some {
		m.days[key] = max(m.days[key], when)
		m.refs[key.of] = kinds[key.of]
	}
}

func (m *matchLog) kinds() map[uuid]Kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	kinds := make(map[uuid]Kind, len(m.refs))
	for of, kind := range m.refs {
		kinds[of] = kind
	}
	return kinds
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
	kinds := s.matches.kinds()
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
					if err := putMatch(tx, kinds[key.of], key, taken[key]); err != nil {
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
		s.matches.putBack(taken, kinds)
	}
	if errors.Is(err, sealed.ErrFull) {
		return nil // who was recognised is written once there is room again
	}
	return err
}

// putMatch writes one match, of somebody who is still there and was not recognised that day already.
func putMatch(tx sealed.Tx, kind Kind, key matchKey, when int64) error {
	of, id := key.of.String(), key.id.String()
	var err error
	if kind.isGroup() {
		_, err = persons.In(of).Get(tx, id)
	} else {
		var f faceRecord
		f, err = faces.In(of).Get(tx, id)
		clear(f.Template)
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
