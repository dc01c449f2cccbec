package face

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Keeping is how long a resource keeps its people: its retentions and holds.
type Keeping struct {
	Default     *Retention            // for groups and lists without one of their own; nil: for ever
	Collections []CollectionRetention // not nil
	Holds       []Hold                // not nil
}

// SetRetention sets the retention of a group or list or, with a zero ref, of all groups and lists of a resource that
// have none of their own; nil removes it. The next sweep, within the hour, erases those whose retention has ended and
// that are not held. Refusals: BadArgument, FaceListNotFound and so on.
func (s *Service) SetRetention(ctx context.Context, res visage.Resource, ref Ref, r *Retention) error {
	if r != nil {
		if err := r.check(); err != nil {
			return err
		}
	}
	err := s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		id := wholeResource
		if ref != (Ref{}) {
			c, err := find(tx, ref)
			if err != nil {
				return err
			}
			id = c.Incarnation.String()
		}
		if r == nil {
			return remove(tx, retentions.In(), id)
		}
		record := retentionRecord{Kind: ref.Kind, ID: ref.ID, Days: r.Days, Since: r.Since, Set: time.Now().Unix()}
		old, err := retentions.In().Get(tx, id)
		if err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return fmt.Errorf("read retention: %w", err)
		}
		if err == nil {
			record.Set = old.Set // the time that has passed counts for the new retention too
		}
		return retentions.In().Put(tx, id, record)
	})
	if err != nil {
		return fmt.Errorf("set retention: %w", err)
	}
	e := event(audit.RetentionSet, visage.CallerFrom(ctx), res, ref)
	e.Set(audit.DetailOperation, operationOf(r))
	s.record(ctx, e)
	return nil
}

// Keeping returns the retentions and holds of a resource.
func (s *Service) Keeping(ctx context.Context, res visage.Resource) (Keeping, error) {
	var k Keeping
	err := s.view(ctx, res, func(r sealed.Reader) error {
		k = Keeping{Collections: []CollectionRetention{}, Holds: []Hold{}}
		for record, err := range retentions.In().All(r) {
			if err != nil {
				return err
			}
			retention := Retention{Days: record.Days, Since: record.Since}
			if record.Kind == 0 {
				k.Default = &retention
				continue
			}
			k.Collections = append(k.Collections, CollectionRetention{Ref{record.Kind, record.ID}, retention})
		}
		for h, err := range holds.In().All(r) {
			if err != nil {
				return err
			}
			k.Holds = append(k.Holds, h.hold())
		}
		return nil
	})
	if err != nil {
		return Keeping{}, fmt.Errorf("read retention: %w", err)
	}
	return k, nil
}

// Hold places a legal hold, or changes the reason of an existing one. Refusals: BadArgument, FaceListNotFound and so
// on, PersonNotFound, PersistedFaceNotFound.
func (s *Service) Hold(ctx context.Context, res visage.Resource, on Held, reason string) error {
	if n := units(reason); n < 1 || n > mostReason || !utf8.ValidString(reason) ||
		strings.ContainsFunc(reason, unicode.IsControl) {
		return badArgument("reason must have 1 to %d characters, without control characters.", mostReason)
	}
	by := visage.CallerFrom(ctx).Principal
	err := s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		of, err := findHeld(tx, on, true)
		if err != nil {
			return err
		}
		return holds.In().Put(tx, holdID(of, on.Item), holdRecord{
			Of: of, Kind: on.Ref.Kind, ID: on.Ref.ID, Item: on.Item, Reason: reason, By: nameOf(by),
			Placed: time.Now().Unix(),
		})
	})
	if err != nil {
		return fmt.Errorf("place a hold: %w", err)
	}
	e := event(audit.HoldPlace, visage.CallerFrom(ctx), res, on.Ref)
	e.Set(audit.DetailPerson, on.Item)
	s.record(ctx, e)
	return nil
}

// Release ends a hold. The next sweep erases its object if the retention has ended. Refusal: LegalHoldNotFound.
func (s *Service) Release(ctx context.Context, res visage.Resource, on Held) error {
	none := visage.Refuse(visage.NotFound, "LegalHoldNotFound", "This legal hold does not exist.")
	err := s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		of, err := findHeld(tx, on, false)
		if err != nil {
			return err
		}
		if err := holds.In().Delete(tx, holdID(of, on.Item)); !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
		return none
	})
	if err != nil {
		return fmt.Errorf("release a hold: %w", err)
	}
	e := event(audit.HoldRelease, visage.CallerFrom(ctx), res, on.Ref)
	e.Set(audit.DetailPerson, on.Item)
	s.record(ctx, e)
	return nil
}

// nameOf returns the id or name of a principal, for people to read.
func nameOf(p visage.Principal) string {
	switch {
	case p.ObjectID != "":
		return p.ObjectID
	case p.KeyName != "":
		return p.KeyName
	}
	return p.Method
}

// Held reports whether a resource has a legal hold.
func (s *Service) Held(ctx context.Context, res visage.Resource) (bool, error) {
	k, err := s.Keeping(ctx, res)
	return len(k.Holds) > 0, err
}
