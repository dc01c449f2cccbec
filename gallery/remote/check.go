package remote

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery"
)

// errLie says that an answer is none to its request.
var errLie = errors.New("not an answer to the request")

// check compares an answer with its request, and returns an error that wraps errLie unless a replica with that
// partition could have given it.
func (a *answer) check(to *ask) error {
	lie := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", errLie, fmt.Sprintf(format, args...))
	}
	q := &to.query
	switch {
	case a.instance != to.instance:
		return lie("it is of another instance")
	case a.id != to.id:
		return lie("it is to another request")
	case a.index != q.Index || a.count != q.Count || a.version != q.Version:
		return lie("it is of partition %d of %d of version %d, not of %d of %d of %d", a.index, a.count, a.version,
			q.Index, q.Count, q.Version)
	case a.found.Bundle != q.Bundle:
		return lie("its key bundle is %d, not %d", a.found.Bundle, q.Bundle)
	case a.found.Changes < q.Changes:
		return lie("it has seen %d changes of %d", a.found.Changes, q.Changes)
	case len(a.found.Candidates) != len(q.Probes):
		return lie("it is for %d probes, not %d", len(a.found.Candidates), len(q.Probes))
	}
	for _, list := range a.found.Candidates {
		if len(list) > q.K || uint64(len(list)) > a.found.Faces {
			return lie("it has %d candidates, more than the %d that were asked for or its %d faces", len(list), q.K,
				a.found.Faces)
		}
		ids, owners := make(map[gallery.ID]bool, len(list)), make(map[gallery.ID]bool, len(list))
		for i, c := range list {
			switch {
			case !(c.Score >= -1.001 && c.Score <= 1.001): // NaN too; rounding takes a score beyond 1 by less
				return lie("a score is %g", c.Score)
			case q.Within > 0 && c.Distance() > q.Within:
				return lie("a candidate is %g away, farther than %g", c.Distance(), q.Within)
			case i > 0 && c.Compare(list[i-1]) < 0:
				return lie("its candidates are not sorted")
			case placement.Partition(c.ID, q.Count) != q.Index:
				return lie("a candidate is of another partition")
			case ids[c.ID]:
				return lie("a face is in it twice")
			case q.ByOwner && owners[c.Owner]:
				return lie("an owner is in it twice")
			}
			ids[c.ID], owners[c.Owner] = true, true
		}
	}
	return nil
}
