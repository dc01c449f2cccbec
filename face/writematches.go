package face

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// writeMatches stores the matches of a resource in collections whose retention counts from them. Matches that cannot be
// stored now wait for the next call.
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
	for part := range slices.Chunk(keys, 10*erasedTogether) {
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
		return nil // stored once there is space again
	}
	return err
}

// putMatch stores one match, unless the person or face is gone or already has a match of that day.
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
		return fmt.Errorf("read the recognised person or face: %w", err)
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

// finalWrite is how long a shutdown waits for matches to be stored.
const finalWrite = 5 * time.Second

// writeAllMatches stores the matches of all resources that are open.
func (s *Service) writeAllMatches(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, finalWrite)
	defer cancel()
	for _, id := range s.matches.resources() {
		s.report(ctx, "write matches", id, s.writeMatches(ctx, visage.Resource{ID: id}))
	}
}
