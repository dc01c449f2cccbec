package face

import (
	"context"
	"errors"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Page selects a part of a sorted list (contract §2.2).
type Page struct {
	Start string // the page begins after this id; at most 64 UTF-16 code units
	Top   *int   // 1 to 1,000; nil: 1,000
}

// top checks the page and returns the largest number of its entries.
func (p Page) top() (int, error) {
	if n := units(p.Start); n > mostStart {
		return 0, badArgument("start may have at most %d characters; this one has %d.", mostStart, n)
	}
	if p.Top == nil {
		return mostTop, nil
	}
	if *p.Top < 1 || *p.Top > mostTop {
		return 0, badArgument("top must be 1 to %d, not %d.", mostTop, *p.Top)
	}
	return *p.Top, nil
}

// readPage returns the results of get for the first top ids after start. It skips ids whose record has been deleted
// since.
func readPage[T any](
	ctx context.Context, s *Service, res visage.Resource, l listing, start string, top int,
	get func(r sealed.Reader, id string) (T, error),
) ([]T, error) {
	page := []T{}
	for len(page) < top {
		wanted := top - len(page)
		ids, err := s.orders.after(ctx, l, start, wanted)
		if err != nil {
			return nil, ended(l.lease, err)
		}
		err = s.view(ctx, res, func(r sealed.Reader) error {
			for _, id := range ids {
				item, err := get(r, id)
				if errors.Is(err, sealed.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				page = append(page, item)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(ids) < wanted {
			break
		}
		start = l.text(ids[len(ids)-1])
	}
	return page, nil
}

// contents lists the persons of a group or the faces of a list.
func (s *Service) contents(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, st stateRecord,
) listing {
	return listing{
		lease: s.space(res).Lease(), name: contentsOrder(res, c), text: rawText, at: st.Changes.last(),
		scan: func(add func(string)) (at uint64, err error) {
			err = s.viewMany(ctx, res, max(st.Persons, st.Faces), func(r sealed.Reader) error {
				now, st, err := findSame(r, ref, c) // a migration may have ended since and left c partly dropped
				if err != nil {
					return err
				}
				at = st.Changes.last()
				return eachItem(r, ref, now, add)
			})
			return at, err
		},
		since: func(after uint64) (list []change, reaches bool, err error) {
			err = s.view(ctx, res, func(r sealed.Reader) error {
				now, st, err := findSame(r, ref, c)
				if err == nil {
					list, reaches, err = st.changesSince(r, now, after)
				}
				return err
			})
			return list, reaches, err
		},
	}
}

// eachItem calls add with the raw ids of the persons of a group, or of the faces of a list.
func eachItem(r sealed.Reader, ref Ref, c collectionRecord, add func(string)) error {
	if ref.Kind.isGroup() {
		for p, err := range persons.In(c.Incarnation.String()).All(r) {
			if err != nil {
				return err
			}
			add(string(p.ID[:]))
		}
		return nil
	}
	for f, err := range c.faces().All(r) {
		clear(f.Code)
		if err != nil {
			return err
		}
		add(string(f.ID[:]))
	}
	return nil
}

// collectionsOrder names the order of the collections of a kind.
func collectionsOrder(res visage.Resource, kind Kind) string {
	return string(res.ID[:]) + kind.String() + "/"
}

// contentsOrder names the order of the persons of a group, or the faces of a list.
func contentsOrder(res visage.Resource, c collectionRecord) string {
	return string(res.ID[:]) + string(c.Incarnation[:])
}

// rawText returns the text of an id that an order keeps as 16 bytes.
func rawText(id string) string { return uuid([]byte(id)).String() }
