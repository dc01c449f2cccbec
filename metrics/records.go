package metrics

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// The tables, in the operator's space: figures must be readable while a customer's key is revoked, and they hold no
// data of people.
var (
	minutes = sealed.NewTable[record]("metrics.minutes", 1) // In(day), by resource and hour: 60 slots at most
	hours   = sealed.NewTable[record]("metrics.hours", 1)   // In(month), by resource and day: 24 slots at most
	// In(), by resource: those that have figures. The instance is not among them.
	resources = sealed.NewTable[resourceRecord]("metrics.resource", 1)
	periods   = sealed.NewTable[periodRecord]("metrics.period", 1) // In(), by name: the containers that exist
)

type resourceRecord struct {
	ID visage.ResourceID `cbor:"1,keyasint"`
}

// periodRecord is a day of minutes or a month of hours.
type periodRecord struct {
	Name   string `cbor:"1,keyasint"`
	Hourly bool   `cbor:"2,keyasint"` // a month of hours
}

// The names of containers and of the records in them. A day is 2026-11-29, a month 2026-11.
const (
	dayName   = "2006-01-02"
	monthName = "2006-01"
)

// hourID names the record of a resource and an hour in the container of its day.
func hourID(of visage.ResourceID, at time.Time) string { return of.String() + "/" + at.Format("15") }

// dayID names the record of a resource and a day in the container of its month.
func dayID(of visage.ResourceID, at time.Time) string { return of.String() + "/" + at.Format("02") }

// slot is the encoded figures of one minute of an hour, or of one hour of a day.
type slot struct {
	at   byte // 0 to 59, or 0 to 23
	body []byte
}

// record is the slots of an hour or a day in which something was counted, in the order of time.
type record struct{ slots []slot }

// slotLimit is more than the slots of any record.
const slotLimit = 60

// errEncoding is what a record says whose bytes are not an encoding of one.
var errEncoding = errors.New("not an encoding of figures")

// put adds figures to a slot.
func (r *record) put(s slot) {
	i, found := slices.BinarySearchFunc(r.slots, s.at, func(s slot, at byte) int { return int(s.at) - int(at) })
	if !found {
		r.slots = slices.Insert(r.slots, i, s)
		return
	}
	r.slots[i].body = added(r.slots[i].body, s.body)
}

// added adds up two encodings of figures. If the first is none, which only an error of this room could have stored, the
// second takes its place.
func added(stored, more []byte) []byte {
	var f figures
	if !f.addFrom(stored) || !f.addFrom(more) {
		return more
	}
	return f.appendTo(nil)
}

// AppendBinary implements encoding.BinaryAppender.
func (r record) AppendBinary(b []byte) ([]byte, error) {
	for _, s := range r.slots {
		b = append(b, s.at)
		b = binary.AppendUvarint(b, uint64(len(s.body)))
		b = append(b, s.body...)
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. What it takes, AppendBinary gives back byte by byte.
func (r *record) UnmarshalBinary(b []byte) error {
	in := &reader{b: slices.Clone(b)}
	r.slots = nil
	for len(in.b) > 0 {
		at := in.next(1)[0]
		s := slot{at: at, body: in.next(in.count(sealed.MaxRecord))}
		if at >= slotLimit || len(r.slots) > 0 && at <= r.slots[len(r.slots)-1].at {
			in.fail()
		}
		r.slots = append(r.slots, s)
	}
	if in.bad {
		r.slots = nil
		return errEncoding
	}
	return nil
}
