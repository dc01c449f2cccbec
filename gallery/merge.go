package gallery

import "cmp"

// Candidate is a vector that was found, with what decides its place among others.
type Candidate struct {
	ID, Owner ID
	Order     uint64
	Score     float32 // the cosine of the angle between the vectors: 1 same … -1 opposite, and rounding
}

// Distance returns the distance of the vector: 0 same … 2 opposite.
func (c Candidate) Distance() float32 { return distance(c.Score) }

// Compare orders candidates as searches do: negative when c is better than another.
func (c Candidate) Compare(than Candidate) int {
	return cmp.Or(cmp.Compare(than.Score, c.Score), cmp.Compare(c.Order, than.Order))
}

// Merge returns the k best of the candidates that galleries found which hold different vectors, best first: the same as
// one gallery with all vectors finds, if each list is the k best of its gallery. With byOwner, lists are by owner, and
// an owner can be in several: its best vector counts.
func Merge(k int, byOwner bool, lists ...[]Candidate) []Candidate {
	best := top{k: k, byOwner: byOwner}
	for _, list := range lists {
		for _, c := range list {
			best.offer(c.Score, &row{id: c.ID, owner: c.Owner, order: c.Order})
		}
	}
	return best.sorted()
}
