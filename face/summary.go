package face

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Summary is a list or group with the size of its contents and the state of its training.
type Summary struct {
	Collection          // without its faces
	Persons    int      // of a group, with and without faces
	Faces      int      // of a list, or of all persons of a group
	Training   Training // zero: none was ever requested; a small face list needs none
	// Outdated reports that faces were added after the last successful training, or before the first: searches do not
	// see them yet. Never set for a small face list.
	Outdated bool
	// Progress is that of the training under way; nil: none is reading faces at the moment.
	Progress *Progress
}

// Progress is how many faces a training has read.
type Progress struct {
	Read, Of int
}

// Summary returns a list or group with its counts, which are kept with it: nothing is counted.
func (s *Service) Summary(ctx context.Context, res visage.Resource, ref Ref) (Summary, error) {
	var c collectionRecord
	var st stateRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, st, err = findState(r, ref)
		return err
	})
	if err != nil {
		return Summary{}, fmt.Errorf("summarise %s: %w", ref.Kind, err)
	}
	return s.summary(res, ref.Kind, c, st), nil
}

// Summaries returns the lists or groups of a kind with their counts, sorted by id; the result is not nil. The next page
// starts after the last id.
func (s *Service) Summaries(ctx context.Context, res visage.Resource, kind Kind, p Page) ([]Summary, error) {
	page, err := listCollections(ctx, s, res, kind, p, func(r sealed.Reader, c collectionRecord) (Summary, error) {
		st, err := states.In(kind.String()).Get(r, c.Incarnation.String())
		return s.summary(res, kind, c, st), err
	})
	if err != nil {
		return nil, fmt.Errorf("summarise every %s: %w", kind, err)
	}
	return page, nil
}

func (s *Service) summary(res visage.Resource, kind Kind, c collectionRecord, st stateRecord) Summary {
	sum := Summary{Collection: c.collection(), Persons: st.Persons, Faces: st.Faces}
	if kind == FaceList {
		return sum
	}
	sum.Training = st.Training.training()
	sum.Outdated = st.Sequence > st.Trained
	if st.Training.underWay() {
		for _, p := range s.galleries.Loading() {
			if p.Key.Scope == scope(res, c) && p.Key.Version == st.Training.UpTo {
				sum.Progress = &Progress{Read: p.Loaded, Of: p.Expected}
			}
		}
	}
	return sum
}

// mostCounted limits the collections of a resource whose faces Enrolled adds up.
const mostCounted = 64

// Enrolled is how many persons and faces a resource has, in all groups and lists.
type Enrolled struct {
	Persons int
	// Faces is meaningless unless Counted: those of more than 64 groups and lists are not added up.
	Faces   int
	Counted bool
}

// Enrolled returns the counts of a resource, from those that are kept with it and with each collection: no face is
// read.
func (s *Service) Enrolled(ctx context.Context, res visage.Resource) (Enrolled, error) {
	var e Enrolled
	err := s.view(ctx, res, func(r sealed.Reader) error {
		e = Enrolled{}
		t, err := getTotals(r)
		if err != nil {
			return err
		}
		collections := 0
		for kind := FaceList; kind <= LargePersonGroup; kind++ {
			collections += t.Collections[kind]
			e.Persons += t.Persons[kind]
		}
		if collections > mostCounted {
			return nil
		}
		for kind := FaceList; kind <= LargePersonGroup; kind++ {
			if t.Collections[kind] == 0 {
				continue
			}
			for st, err := range states.In(kind.String()).All(r) {
				if err != nil {
					return err
				}
				e.Faces += st.Faces
			}
		}
		e.Counted = true
		return nil
	})
	if err != nil {
		return Enrolled{}, fmt.Errorf("count faces: %w", err)
	}
	return e, nil
}

// Usage is how much of its quotas a resource uses, for one kind of collection.
type Usage struct {
	Kind            Kind
	Collections     int
	MostCollections int
	Persons         int // in all groups of the kind; 0 for lists
	MostPersons     int // 0 for lists
}

// Usage returns the usage of every kind, in the order of the kinds. It reads one record.
func (s *Service) Usage(ctx context.Context, res visage.Resource) ([]Usage, error) {
	var t totalsRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		t, err = getTotals(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read usage: %w", err)
	}
	var all []Usage
	for kind := FaceList; kind <= LargePersonGroup; kind++ {
		most, _, persons := kind.limits(res.Tier)
		all = append(all, Usage{
			Kind: kind, Collections: t.Collections[kind], MostCollections: most,
			Persons: t.Persons[kind], MostPersons: persons,
		})
	}
	return all, nil
}
