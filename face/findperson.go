package face

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// PersonQuery says which persons of a group to find.
type PersonQuery struct {
	// Text is a part of the name, without regard to case and accents, or the beginning of the id, of at least 8
	// characters. It has 1 to 128 UTF-16 code units.
	Text  string
	Start string // PersonsFound.Next of the page before; empty: the first page
	Top   *int   // 1 to 1,000; nil: 1,000
}

// PersonsFound is a page of persons: first those whose id begins with the text, then those whose name does, then those
// whose name has it elsewhere; each in the order of ids.
type PersonsFound struct {
	Persons []Person // not nil
	Next    string   // the Start of the next page; empty: there is none
	// Searched of about Of persons were searched. When they are fewer, there may be more persons to find: with
	// Building, the same query finds them later; otherwise the next page goes on where this one ended for lack of time,
	// and may come after a page without persons.
	Searched, Of int
	Building     bool
}

const (
	// buildPatience is how long a search waits for the index of a group that is not in memory. A group of some ten
	// thousand persons is read in that time.
	buildPatience = 40 * time.Millisecond
	// walkTime is how long a search may read persons one by one, when their names do not fit in memory.
	walkTime = 200 * time.Millisecond
	// walkStep is how many are read in one view of the store.
	walkStep = 100
	// leastIDText is from which length on a text is looked for in ids: as long as the first group of a UUID.
	leastIDText = 8
)

// FindPersons finds persons of a group by a part of the name, or by the beginning of the id. A change is seen by
// searches that begin after it. The first search of a group since its space was opened reads all names into locked
// memory; searches in the meantime find what has been read. If the names need more memory than there is for them, all
// searches read the group itself, for a fixed time a page.
//
// Refusals: BadArgument, PersonGroupNotFound and so on.
func (s *Service) FindPersons(
	ctx context.Context, res visage.Resource, group Ref, q PersonQuery,
) (PersonsFound, error) {
	if err := group.want(true); err != nil {
		return PersonsFound{}, err
	}
	w, err := q.wanted()
	if err != nil {
		return PersonsFound{}, err
	}
	found, err := s.findPersons(ctx, res, group, w)
	if err != nil {
		return PersonsFound{}, fmt.Errorf("find persons: %w", err)
	}
	return found, nil
}

// wantedPersons is a PersonQuery that was checked.
type wantedPersons struct {
	text  string // folded
	ids   idRange
	start personCursor
	top   int
}

func (q PersonQuery) wanted() (w wantedPersons, err error) {
	if n := units(q.Text); n < 1 || n > mostName || !utf8.ValidString(q.Text) {
		return w, badArgument("The text to find must have 1 to %d characters; this one has %d.", mostName, n)
	}
	if w.text = fold(q.Text); w.text == "" {
		return w, badArgument("The text to find has no visible character.")
	}
	if w.start, err = parsePersonCursor(q.Start); err != nil {
		return w, err
	}
	w.top, err = Page{Top: q.Top}.top()
	w.ids = idsBeginning(w.text)
	return w, err
}

// matches reports whether a person is wanted.
func (w wantedPersons) matches(p personRecord) bool {
	return w.ids.has(p.ID) || strings.Contains(fold(p.Name), w.text)
}

// idsBeginning returns the range of ids whose text begins so.
func idsBeginning(text string) idRange {
	const least, most = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
	if len(text) < leastIDText || len(text) > len(least) {
		return idRange{}
	}
	from, err := visage.ParseUUID(text + least[len(text):])
	if err != nil {
		return idRange{}
	}
	to, err := visage.ParseUUID(text + most[len(text):])
	return idRange{from, to, err == nil}
}

// personCursor is a place in the results of a search.
type personCursor struct {
	how      nameMatch // walked: in the group itself; zero: at the beginning
	after    uuid
	searched int // walked: how many persons come before
}

// walked marks the cursors of searches that read the group itself.
const walked nameMatch = 'g'

func (c personCursor) String() string {
	return string(c.how) + strconv.Itoa(c.searched) + "." + c.after.String()
}

func parsePersonCursor(text string) (c personCursor, err error) {
	if text == "" {
		return c, nil
	}
	searched, id, _ := strings.Cut(text[1:], ".")
	c.how = nameMatch(text[0])
	c.after, err = visage.ParseUUID(id)
	if err == nil {
		c.searched, err = strconv.Atoi(searched)
	}
	if err != nil || c.searched < 0 || !bytes.ContainsRune([]byte{
		byte(matchID), byte(matchStart), byte(matchWithin), byte(walked),
	}, rune(c.how)) {
		return c, badArgument("start is not that of a next page: search from the beginning.")
	}
	return c, nil
}

func (s *Service) findPersons(
	ctx context.Context, res visage.Resource, group Ref, w wantedPersons,
) (PersonsFound, error) {
	var c collectionRecord
	var st stateRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, st, err = findState(r, group)
		return err
	})
	if err != nil {
		return PersonsFound{}, err
	}
	for range attempts {
		found, whole, err := s.searchIndex(ctx, res, group, c, st, w)
		if err != nil || whole {
			return found, err
		}
	}
	return s.walkPersons(ctx, res, group, c, st, w)
}

// searchIndex returns a page of what the index of a group has; whole is false if there is none, or if it was dropped
// for another meanwhile.
func (s *Service) searchIndex(
	ctx context.Context, res visage.Resource, group Ref, c collectionRecord, st stateRecord, w wantedPersons,
) (found PersonsFound, whole bool, err error) {
	lease := s.space(res).Lease()
	k, err := s.names.of(lease, contentsOrder(res, c), st.Persons,
		func(ctx context.Context, add func(uuid, string) error) (uint64, error) {
			return s.eachName(ctx, res, group, c, st.Persons, add)
		},
		func(ctx context.Context, k *nameIndex) error {
			return s.followNames(ctx, res, group, c, k, math.MaxUint64)
		})
	if err != nil {
		return found, false, ended(lease, err)
	}
	if k == nil { // it needs too much memory
		return found, false, nil
	}
	waited := time.NewTimer(buildPatience)
	defer waited.Stop()
	building := false
	select {
	case <-k.built:
	case <-waited.C:
		building = true
	case <-ctx.Done():
		return found, false, context.Cause(ctx)
	}
	if !building {
		if err := s.followNames(ctx, res, group, c, k, st.Changes.last()); err != nil {
			return found, false, ended(lease, err)
		}
	}
	if found, err = s.searchNames(ctx, res, c, k, w); err != nil {
		return found, false, err
	}
	found.Of = found.Searched
	if building {
		found.Building, found.Next, found.Of = true, "", max(st.Persons, found.Searched)
		return found, true, nil
	}
	return found, k.isReady(), nil // what is not ready now may have been wiped during the search
}

// eachName calls add with every person of a group that has about so many, and returns the number of the last change.
func (s *Service) eachName(
	ctx context.Context, res visage.Resource, group Ref, c collectionRecord, about int, add func(uuid, string) error,
) (at uint64, err error) {
	err = s.viewMany(ctx, res, about, func(r sealed.Reader) error {
		_, st, err := findSame(r, group, c)
		if err != nil {
			return err
		}
		at = st.Changes.last()
		for p, err := range persons.In(c.Incarnation.String()).All(r) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err == nil {
				err = add(p.ID, p.Name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return at, err
}

// followNames brings the index of a group up to date to a change, or drops it if the log does not reach back.
func (s *Service) followNames(
	ctx context.Context, res visage.Resource, group Ref, c collectionRecord, k *nameIndex, to uint64,
) error {
	at, ready := k.position()
	if !ready || at >= to {
		return nil
	}
	done := stored{after: at}
	var reaches bool
	err := s.view(ctx, res, func(r sealed.Reader) error {
		now, st, err := findSame(r, group, c)
		if err != nil {
			return err
		}
		if done.list, reaches, err = st.changesSince(r, now, at); err != nil {
			return err
		}
		done.names = make(map[string]string)
		for _, change := range done.list {
			if change.what != personAdded && change.what != personRenamed {
				continue
			}
			p, err := persons.In(c.Incarnation.String()).Get(r, uuid([]byte(change.id)).String())
			if err == nil {
				done.names[change.id] = fold(p.Name)
			} else if !errors.Is(err, sealed.ErrNotFound) {
				return fmt.Errorf("read person: %w", err)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !reaches:
		s.names.drop(k)
	default:
		s.names.apply(k, done)
	}
	return nil
}

// searchNames returns a page of the persons that an index has.
func (s *Service) searchNames(
	ctx context.Context, res visage.Resource, c collectionRecord, k *nameIndex, w wantedPersons,
) (PersonsFound, error) {
	page := PersonsFound{Persons: []Person{}, Searched: k.persons()}
	q := nameSearch{text: w.text, ids: w.ids}
	if w.start.how != 0 && w.start.how != walked {
		q.after = &nameHit{w.start.after, w.start.how}
	}
	for {
		wanted := w.top + 1 - len(page.Persons) // one more tells whether there is a next page
		hits := k.search(q, wanted)
		how := make(map[uuid]nameMatch, len(hits))
		ids := make([]uuid, len(hits))
		for i, h := range hits {
			ids[i], how[h.id] = h.id, h.how
		}
		some, err := s.readPersons(ctx, res, c, ids, w)
		if err != nil {
			return PersonsFound{}, err
		}
		for _, p := range some {
			if len(page.Persons) == w.top {
				return page, nil
			}
			page.Persons = append(page.Persons, p.person())
			page.Next = personCursor{how: how[p.ID], after: p.ID}.String()
		}
		if len(hits) < wanted {
			page.Next = ""
			return page, nil
		}
		q.after = &hits[len(hits)-1] // some hits were deleted or renamed since
	}
}

// readPersons reads those of the persons that exist and are wanted.
func (s *Service) readPersons(
	ctx context.Context, res visage.Resource, c collectionRecord, ids []uuid, w wantedPersons,
) ([]personRecord, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var some []personRecord
	err := s.view(ctx, res, func(r sealed.Reader) error {
		some = some[:0]
		for _, id := range ids {
			p, err := persons.In(c.Incarnation.String()).Get(r, id.String())
			switch {
			case errors.Is(err, sealed.ErrNotFound): // it was deleted since
			case err != nil:
				return fmt.Errorf("read person: %w", err)
			case w.matches(p): // unless it was renamed since
				some = append(some, p)
			}
		}
		return nil
	})
	return some, err
}

// walkPersons returns a page of the persons that are found by reading a group in the order of ids, for a fixed time.
func (s *Service) walkPersons(
	ctx context.Context, res visage.Resource, group Ref, c collectionRecord, st stateRecord, w wantedPersons,
) (PersonsFound, error) {
	page := PersonsFound{Persons: []Person{}, Of: st.Persons}
	at := personCursor{how: walked}
	if w.start.how == walked {
		at = w.start
	}
	l := s.contents(ctx, res, group, c, st)
	end := time.Now().Add(walkTime)
	for len(page.Persons) < w.top && !time.Now().After(end) {
		from := at.after.String()
		if at.searched == 0 {
			from = "" // before all ids
		}
		texts, err := s.orders.after(ctx, l, from, walkStep)
		if err != nil {
			return PersonsFound{}, ended(l.lease, err)
		}
		ids := make([]uuid, len(texts))
		for i, id := range texts {
			ids[i] = uuid([]byte(id))
		}
		some, err := s.readPersons(ctx, res, c, ids, w)
		if err != nil {
			return PersonsFound{}, err
		}
		for i, p := range some {
			page.Persons = append(page.Persons, p.person())
			if len(page.Persons) == w.top && i < len(some)-1 { // the next page begins with the next of these
				for n, id := range ids {
					if id == p.ID {
						at.after, at.searched = id, at.searched+n+1
					}
				}
				page.Searched, page.Next = at.searched, at.String()
				return page, nil
			}
		}
		if len(ids) < walkStep {
			page.Searched, page.Of = at.searched+len(ids), at.searched+len(ids)
			return page, nil
		}
		at.after, at.searched = ids[len(ids)-1], at.searched+len(ids)
	}
	page.Searched, page.Next = at.searched, at.String()
	page.Of = max(page.Of, page.Searched)
	return page, nil
}
