package face

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/visage-face/visage/sealed"
)

// Retention is how long enrolled people are kept: the persons of groups, with their faces, and the faces of lists.
type Retention struct {
	Days  int   // of 24 hours, 1 to 36,500; 0: for ever, as an exception from the retention of the resource
	Since Since // what the days count from
}

// Since is what the days of a retention count from.
type Since string

// The values of Since.
const (
	// SinceEnrolment counts from the last time a face was added to a person, or from the creation of a person without
	// faces. For a face of a list only the day is recorded: it counts from the end of that day, UTC.
	SinceEnrolment Since = "enrolment"
	// SinceMatch counts from the last time a person or face was recognised with a confidence of at least 0.5 (by
	// identify, verify with a person, or find similar in a list), or from the enrolment, if that was later.
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

var (
	retentions = sealed.NewTable[retentionRecord]("face.retention", 1) // In(), "resource" or by incarnation
	// In(incarnation), by day: which faces were added to a list on that day
	enrolled = sealed.NewTable[dayRecord]("face.enrolled", 1)
	matched  = sealed.NewTable[matchRecord]("face.matched", 1) // In(incarnation), by person or persisted face id
)

// wholeResource is the id of records about the resource and not about one of its collections.
const wholeResource = "resource"

// retentionRecord is a retention with its collection; zero kind: the resource.
type retentionRecord struct {
	Kind  Kind   `cbor:"1,keyasint"`
	ID    string `cbor:"2,keyasint"`
	Days  int    `cbor:"3,keyasint"`
	Since Since  `cbor:"4,keyasint"`
	Set   int64  `cbor:"5,keyasint"` // Unix seconds; people whose enrolment was not recorded count from here
}

// dayRecord is the first face that was added to a list on a day. The faces from it up to the first of the next day were
// added on that day.
type dayRecord struct {
	Day   int64  `cbor:"1,keyasint"` // since the Unix epoch
	First uint64 `cbor:"2,keyasint"` // sequence number
}

// matchRecord is the day on which a person or face was last recognised.
type matchRecord struct {
	Day int64 `cbor:"1,keyasint"` // since the Unix epoch
}

func dayNumber(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// dayEnd returns the end of a day.
func dayEnd(number int64) time.Time { return time.Unix((number+1)*int64(day/time.Second), 0) }

// noteDay records the first face of a day.
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

// ruleSet holds the retentions of a resource by the ids of their records.
type ruleSet map[string]retentionRecord

// of returns the retention that applies to a collection; of no days if there is none.
func (rs ruleSet) of(incarnation uuid) retentionRecord {
	if own, ok := rs[incarnation.String()]; ok {
		return own
	}
	return rs[wholeResource]
}

func rules(r sealed.Reader) (ruleSet, error) {
	rs := ruleSet{}
	for record, err := range retentions.In().All(r) {
		if err != nil {
			return nil, fmt.Errorf("read retention: %w", err)
		}
		if record.Kind == 0 {
			rs[wholeResource] = record
			continue
		}
		c, err := find(r, Ref{record.Kind, record.ID})
		if err != nil {
			return nil, err
		}
		rs[c.Incarnation.String()] = record
	}
	return rs, nil
}

func enrolmentDays(r sealed.Reader, of uuid) (days []dayRecord, err error) {
	for d, err := range enrolled.In(of.String()).All(r) {
		if err != nil {
			return nil, fmt.Errorf("read days of enrolment: %w", err)
		}
		days = append(days, d)
	}
	slices.SortFunc(days, func(a, b dayRecord) int { return int(a.Day - b.Day) })
	return days, nil
}
