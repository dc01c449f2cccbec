package remote

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery"
)

// errInvalidAnswer says that an answer does not match its request.
var errInvalidAnswer = errors.New("not an answer to the request")

// check compares an answer with its request, and returns an error that wraps errInvalidAnswer unless a replica with
// that partition could have given it.
func (a *answer) check(to *ask) error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", errInvalidAnswer, fmt.Sprintf(format, args...))
	}
	q := &to.query
	switch {
	case a.instance != to.instance:
		return invalid("it is of another instance")
	case a.id != to.id:
		return invalid("it is to another request")
	case a.index != q.Index || a.count != q.Count || a.version != q.Version:
		return invalid("it is of partition %d of %d of version %d, not of %d of %d of %d", a.index, a.count, a.version,
			q.Index, q.Count, q.Version)
	case a.found.Bundle != q.Bundle:
		return invalid("its key bundle is %d, not %d", a.found.Bundle, q.Bundle)
	case a.found.Changes < q.Changes:
		return invalid("it has seen %d changes of %d", a.found.Changes, q.Changes)
	case len(a.found.Candidates) != len(q.Probes):
		return invalid("it is for %d probes, not %d", len(a.found.Candidates), len(q.Probes))
	}
	for _, list := range a.found.Candidates {
		if len(list) > q.K || uint64(len(list)) > a.found.Faces {
			return invalid("it has %d candidates, more than the %d that were asked for or its %d faces", len(list), q.K,
				a.found.Faces)
		}
		ids, owners := make(map[gallery.ID]bool, len(list)), make(map[gallery.ID]bool, len(list))
		for i, c := range list {
			switch {
			case !(c.Score >= -1.001 && c.Score <= 1.001): // NaN too; rounding takes a score beyond 1 by less
				return invalid("a score is %g", c.Score)
			case q.Within > 0 && c.Distance() > q.Within:
				return invalid("a candidate is %g away, farther than %g", c.Distance(), q.Within)
			case i > 0 && c.Compare(list[i-1]) < 0:
				return invalid("its candidates are not sorted")
			case placement.Partition(c.ID, q.Count) != q.Index:
				return invalid("a candidate is of another partition")
			case ids[c.ID]:
				return invalid("a face is in it twice")
			case q.ByOwner && owners[c.Owner]:
				return invalid("an owner is in it twice")
			}
			ids[c.ID], owners[c.Owner] = true, true
		}
	}
	return nil
}
