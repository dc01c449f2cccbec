package face

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Retention says how long those who were enrolled are kept: the persons of groups, with their faces, and the faces of
// lists.
type Retention struct {
	Days  int   // of 24 hours, 1 to 36,500; 0: for ever, which lets a group or list be an exception from its resource
	Since Since // what they are counted from
}

// Since is what a retention counts from.
type Since string

// What a retention can count from.
const (
	// SinceEnrolment counts from the last time a face was added to a person; a person without faces, from its creation.
	// Of a list's face only the day is known: it counts from that day's end, UTC.
	SinceEnrolment Since = "enrolment"
	// SinceMatch counts from the last time somebody was recognised with a confidence of at least 0.5 (by identify,
	// verify with a person, or find similar in a list), or from the enrolment, if that was later.
	SinceMatch Since = "lastMatch"
)

const mostRetentionDays = 36_500

const day = 24 * time.Hour

func (r Retention) check() error {
	if r.Days < 0 || r.Days > mostRetentionDays {
		return badArgument("days must be 0 to %d, not %d.", mostRetentionDays, r.Days)
	}
	if r.Since != SinceEnrolment && r.Since != SinceMatch {
		return badArgument("since must be %q or %q.", SinceEnrolment, SinceMatch)
	}
	return nil
}

// CollectionRetention is the retention that a group or list has of its own.
type CollectionRetention struct {
	Ref       Ref
	Retention Retention
}

// Keeping is all that says how long a resource keeps whom.
type Keeping struct {
	Default     *Retention            // of groups and lists without one of their own; nil: for ever
	Collections []CollectionRetention // not nil
	Holds       []Hold                // not nil
}

var (
	retentions = sealed.NewTable[retentionRecord]("face.retention", 1) // In(), "resource" or by incarnation
	// In(incarnation), by day: which faces of a list came that day
	enrolled = sealed.NewTable[dayRecord]("face.enrolled", 1)
	matched  = sealed.NewTable[matchRecord]("face.matched", 1) // In(incarnation), by person or persisted face id
)

// wholeResource is the id of what is about a resource and not about one of its collections.
const wholeResource = "resource"

// retentionRecord is a retention with the collection it is of; zero kind: the resource.
type retentionRecord struct {
	Kind  Kind   `cbor:"1,keyasint"`
	ID    string `cbor:"2,keyasint"`
	Days  int    `cbor:"3,keyasint"`
	Since Since  `cbor:"4,keyasint"`
	Set   int64  `cbor:"5,keyasint"` // Unix seconds; who was enrolled before such times were written counts from here
}

// dayRecord is the first face that a list was given on a day: those from it up to the next day's first came on that
// day.
type dayRecord struct {
	Day   int64  `cbor:"1,keyasint"` // since the Unix epoch
	First uint64 `cbor:"2,keyasint"` // sequence number
}

// matchRecord is when somebody was recognised last.
type matchRecord struct {
	Day int64 `cbor:"1,keyasint"` // since the Unix epoch
}

func dayNumber(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// dayEnd returns when a day is over.
func dayEnd(number int64) time.Time { return time.Unix((number+1)*int64(day/time.Second), 0) }

// noteDay writes down the first face of a day.
func noteDay(tx sealed.Tx, c collectionRecord, st *stateRecord) error {
	today := dayNumber(time.Now())
	if st.Day >= today {
		return nil
	}
	st.Day = today
	if err := enrolled.In(c.Incarnation.String()).
		Put(tx, strconv.FormatInt(today, 10), dayRecord{Day: today, First: st.Sequence}); err != nil {
		return fmt.Errorf("write the day of an enrolment: %w", err)
	}
	return nil
}

// SetRetention sets how long a group or list keeps those in it, or, with a zero ref, how long those of a resource do
// that say nothing else; nil takes it back. Those whose time is up are erased by the next sweep, within the hour,
// unless they are held. Refusals: BadArgument, FaceListNotFound and so on.
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
			record.Set = old.Set // shorter or longer, the time that ran counts
		}
		return retentions.In().Put(tx, id, record)
	})
	if err != nil {
		return fmt.Errorf("set retention: %w", err)
	}
	s.decided(ctx, res, Decision{What: RetentionSet, Ref: ref, Retention: r})
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
