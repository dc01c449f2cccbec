package face

import (
	"context"
	"errors"

	"github.com/visage-face/visage/gallery"
)

// Partitions searches collections in parts, which processes that share a store have in memory: each calls SearchPart
// of its own Service for those it has. It is called by many at once.
type Partitions interface {
	// Count returns the number of parts of a collection whose gallery takes that many bytes, a power of two. 1: the
	// collection is searched here as a whole. With the same number, part p has the same faces everywhere: those of
	// placement.Partition.
	Count(collection string, bytes int64) int
	// Search answers a query over all parts, or fails. Errors: a *visage.Refusal when a part cannot be searched now;
	// one that wraps gallery.ErrDropped when the collection has to be read again. The probes are not used after it has
	// returned.
	Search(ctx context.Context, q PartQuery) (PartFound, error)
}

// PartQuery is a search of a part of a collection, or of all parts: then Index is 0. It says how much the answer must
// have seen.
type PartQuery struct {
	Collection string // names the templates of a collection; only SearchPart reads it
	Version    uint64 // the sequence number up to which faces are searched
	gallery.Part
	Bundle  uint64 // the sequence of the key bundle by which the caller has the resource open
	Changes uint64 // the number of the last change of the collection that must be seen
	gallery.Query
}

// PartFound is what a search of a part found, for the query's bundle.
type PartFound struct {
	Changes    uint64 // the number of a change up to which the answer has seen all
	Faces      int    // how many were searched
	Candidates [][]gallery.Candidate
}

// ErrBehind says that a search of a part was asked for under a key bundle that has been replaced: the resource may have
// been locked since.
var ErrBehind = errors.New("the key bundle of the search has been replaced")
