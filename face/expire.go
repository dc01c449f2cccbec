package face

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// expireEvery is how often Run looks for expired persons and faces in each resource.
const expireEvery = time.Hour

// Expired counts the persons and faces whose retention has ended.
type Expired struct {
	Persons int // of groups, with all their faces
	Faces   int // of lists
	Held    int // persons and faces that a hold keeps; not in the other counts
}

// Expire erases all persons and faces of lists in a resource whose retention has ended and that are not held, as a
// deletion by request does; with dry it only counts them. A group or list that is being trained is left for the next
// call. Run calls it every hour.
func (s *Service) Expire(ctx context.Context, res visage.Resource, dry bool) (Expired, error) {
	sum, _, err := s.expire(ctx, res, dry)
	return sum, err
}

// expire is Expire, and reports whether the resource has a retention.
func (s *Service) expire(ctx context.Context, res visage.Resource, dry bool) (sum Expired, rules bool, err error) {
	if err := s.writeMatches(ctx, res); err != nil {
		return sum, false, fmt.Errorf("expire: %w", err)
	}
	var all []expiry
	err = s.view(ctx, res, func(r sealed.Reader) (err error) {
		all, err = s.expiries(r, res)
		return err
	})
	for _, e := range all {
		if err == nil {
			err = s.expireOne(ctx, e, dry, &sum)
		}
	}
	if err != nil {
		return sum, false, fmt.Errorf("expire: %w", err)
	}
	return sum, len(all) > 0, nil
}

// expiry is a group or list with a retention.
type expiry struct {
	res       visage.Resource
	ref       Ref
	of        uuid // incarnation
	faces     sealed.Container[faceRecord]
	records   int // about how many persons or faces it has
	retention retentionRecord
	days      []dayRecord   // of a list, in ascending order
	margin    time.Duration // added to a retention that counts from matches
}

// matchMargin is how long those stay beyond their retention that another process may have recognised and not stored
// yet: each stores its matches every round.
const matchMargin = 10 * round

// expiries returns the collections that have a retention, of their own or of the resource.
func (s *Service) expiries(r sealed.Reader, res visage.Resource) ([]expiry, error) {
	rule, err := rules(r)
	if err != nil || len(rule) == 0 {
		return nil, err
	}
	var all []expiry
	for kind := FaceList; kind <= LargePersonGroup; kind++ {
		for c, err := range collections.In(kind.String()).All(r) {
			if err != nil {
				return nil, err
			}
			retention := rule.of(c.Incarnation)
			if retention.Days == 0 {
				continue
			}
			ref := Ref{kind, c.ID}
			_, st, err := findSame(r, ref, c)
			if err != nil {
				return nil, err
			}
			e := expiry{res: res, ref: ref, of: c.Incarnation, faces: c.faces(), retention: retention,
				records: max(st.Persons, st.Faces)}
			if s.store.Shared() {
				e.margin = matchMargin
			}
			if !kind.isGroup() {
				if e.days, err = enrolmentDays(r, c.Incarnation); err != nil {
					return nil, err
				}
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// from returns the time from which the retention of a person or face counts, given when it was enrolled; zero: that is
// not recorded.
func (e *expiry) from(r sealed.Reader, when time.Time, id uuid) (time.Time, error) {
	if when.IsZero() {
		when = time.Unix(e.retention.Set, 0)
	}
	if e.retention.Since != SinceMatch {
		return when, nil
	}
	m, err := matched.In(e.of.String()).Get(r, id.String())
	if errors.Is(err, sealed.ErrNotFound) {
		return when, nil
	}
	if err != nil {
		return when, fmt.Errorf("read a match: %w", err)
	}
	if end := dayEnd(m.Day); end.After(when) {
		when = end
	}
	return when, nil
}

// over reports whether the retention of a person or face has ended. It reads the last match only when the enrolment
// does not decide.
func (e *expiry) over(r sealed.Reader, when time.Time, id uuid) (bool, error) {
	age := time.Duration(e.retention.Days) * day
	if e.retention.Since == SinceMatch {
		age += e.margin
	}
	if !when.IsZero() && time.Since(when) < age {
		return false, nil
	}
	from, err := e.from(r, when, id)
	return err == nil && time.Since(from) >= age, err
}

func (p personRecord) enrolledAt() time.Time {
	if p.Enrolled == 0 {
		return time.Time{}
	}
	return time.Unix(p.Enrolled, 0)
}

// faceEnrolledAt returns the end of the day on which a face was added to a list.
func (e *expiry) faceEnrolledAt(f faceRecord) time.Time {
	for i := len(e.days) - 1; i >= 0; i-- {
		if e.days[i].First <= f.Sequence {
			return dayEnd(e.days[i].Day)
		}
	}
	return time.Time{}
}

// expireOne expires a collection.
func (s *Service) expireOne(ctx context.Context, e expiry, dry bool, sum *Expired) error {
	var gone []string
	held := 0
	err := s.viewMany(ctx, e.res, e.records, func(r sealed.Reader) error {
		gone, held = nil, 0
		return e.each(r, func(id uuid) error {
			kept, err := isHeld(r, e.of, id.String())
			switch {
			case err != nil:
				return err
			case kept:
				held++
			default:
				gone = append(gone, id.String())
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	sum.Held += held
	n := len(gone)
	if !dry {
		n = 0
		for part := range slices.Chunk(gone, erasedTogether) {
			erased, err := s.expirePart(ctx, e, part)
			n += erased
			if refusal, ok := errors.AsType[*visage.Refusal](err); ok &&
				(refusal.Kind == visage.Conflict || refusal.Kind == visage.NotFound) {
				break // it is being trained, or was deleted meanwhile
			}
			if err != nil {
				return err
			}
		}
	}
	if e.ref.Kind.isGroup() {
		sum.Persons += n
	} else {
		sum.Faces += n
	}
	return nil
}

// each calls found with every person or face of the collection whose retention has ended.
func (e *expiry) each(r sealed.Reader, found func(uuid) error) error {
	offer := func(when time.Time, id uuid) error {
		over, err := e.over(r, when, id)
		if err == nil && over {
			err = found(id)
		}
		return err
	}
	if e.ref.Kind.isGroup() {
		for p, err := range persons.In(e.of.String()).All(r) {
			if err == nil {
				err = offer(p.enrolledAt(), p.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for f, err := range e.faces.All(r) {
		clear(f.Code)
		if err == nil {
			err = offer(e.faceEnrolledAt(f), f.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expirePart erases some persons or faces of a collection. It checks each again, because it may have been held,
// recognised or enrolled again since the first look.
func (s *Service) expirePart(ctx context.Context, e expiry, ids []string) (int, error) {
	var c collectionRecord
	var st stateRecord
	var gone []uuid
	receipt, err := s.erase(ctx, e.res, func(tx sealed.Tx) (err error) {
		gone = nil
		if c, st, err = findIdle(tx, e.ref); err != nil {
			return err
		}
		if c.Incarnation != e.of {
			return e.ref.notFound()
		}
		for _, id := range ids {
			is, err := e.remove(tx, c, &st, id)
			if err != nil {
				return err
			}
			if is != (uuid{}) {
				gone = append(gone, is)
			}
		}
		if len(gone) == 0 {
			return nil
		}
		return putState(tx, e.ref.Kind, c, &st)
	})
	if err != nil || len(gone) == 0 {
		return 0, err
	}
	s.changed(ctx, e.res, c, st)
	for _, id := range gone {
		kind, detail := audit.FaceDelete, audit.DetailFace
		if e.ref.Kind.isGroup() {
			kind, detail = audit.PersonDelete, audit.DetailPerson
		}
		s.erased(ctx, e.res, kind, e.ref, receipt, map[audit.Detail]string{detail: id.String()})
	}
	return len(gone), nil
}

// remove removes a person or face whose retention has ended, unless it is held, and returns its id; the zero id if
// nothing was removed.
func (e *expiry) remove(tx sealed.Tx, c collectionRecord, st *stateRecord, id string) (gone uuid, err error) {
	if held, err := isHeld(tx, e.of, id); err != nil || held {
		return gone, err
	}
	if e.ref.Kind.isGroup() {
		p, err := persons.In(e.of.String()).Get(tx, id)
		if errors.Is(err, sealed.ErrNotFound) {
			return gone, nil
		}
		if err != nil {
			return gone, fmt.Errorf("read person: %w", err)
		}
		if over, err := e.over(tx, p.enrolledAt(), p.ID); err != nil || !over {
			return gone, err
		}
		return p.ID, removePerson(tx, e.ref.Kind, c, st, p)
	}
	f, err := c.faces().Get(tx, id)
	if errors.Is(err, sealed.ErrNotFound) {
		return gone, nil
	}
	if err != nil {
		return gone, fmt.Errorf("read face: %w", err)
	}
	clear(f.Code)
	if over, err := e.over(tx, e.faceEnrolledAt(f), f.ID); err != nil || !over {
		return gone, err
	}
	return f.ID, removeFace(tx, c, st, f.ID)
}

// expiryRecord is when a resource was last expired.
type expiryRecord struct {
	At int64 `cbor:"1,keyasint"` // Unix seconds
}

// expiryTimes has that record in stores that several processes share, so that the resource is expired once an hour, and
// not once for each.
var expiryTimes = sealed.NewTable[expiryRecord]("face.expired", 1) // In(), wholeResource

// expiryDue reports whether a resource was not expired in the last hour.
func (s *Service) expiryDue(ctx context.Context, res visage.Resource) (bool, error) {
	if last, ok := s.expired[res.ID]; ok && !pastHour(last) {
		return false, nil
	}
	if !s.store.Shared() {
		return true, nil
	}
	var e expiryRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		e, err = expiryTimes.In().Get(r, wholeResource)
		return err
	})
	if errors.Is(err, sealed.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the last expiry: %w", err)
	}
	last := time.Unix(e.At, 0)
	if pastHour(last) {
		return true, nil
	}
	s.expired[res.ID] = last
	return false, nil
}

// pastHour reports whether a time is an hour ago. One far in the future is too: a clock that ran ahead, perhaps that of
// another machine, has written it, and must not put retention off until then.
func pastHour(last time.Time) bool { return time.Since(last).Abs() >= expireEvery }

// expireNow expires a resource and records when.
func (s *Service) expireNow(ctx context.Context, res visage.Resource, claim *sealed.Claim) error {
	now := time.Now()
	_, rules, err := s.expire(ctx, res, false)
	if err != nil {
		return err
	}
	s.expired[res.ID] = now
	if !s.store.Shared() || !rules {
		return nil // without a retention there was nothing to read
	}
	return s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		if err := claim.Check(tx); err != nil {
			return err
		}
		return expiryTimes.In().Put(tx, wholeResource, expiryRecord{At: now.Unix()})
	})
}
