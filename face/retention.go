package face

import (
	"fmt"
	"slices"
	"strconv"
	"time"

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

// ruleSet is the retentions of a resource, by the id they are stored under.
type ruleSet map[string]retentionRecord

// of returns the retention of a collection; of none, one of no days.
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
