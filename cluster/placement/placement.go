// Package placement decides which replicas of the service search which collections: a pure function of the members and
// the collection, so that replicas that know the same members agree without asking one another.
//
// # Replicas by rendezvous
//
// Every member gets a number for a collection, from a hash of both names, and the members with the highest numbers
// serve it (rendezvous hashing: Thaler and Ravishankar, 1998). A member that joins takes over only what it serves from
// then on, one that leaves gives only what it had; nothing moves between the others. Members with more memory serve
// more: with h uniform in (0,1], the number is weight ÷ -log h, by which a member is the highest with a probability of
// its share of all weights. Numbers are compared in integers, because rounding differs between processors.
//
// # Partitions
//
// A collection that is larger than a partition may be is split into a power of two of them by the hash of the face id.
// When the number doubles, each partition is split in two, and one of the two stays where it was. Few large parts are
// not balanced by chance, so that a member takes of one collection at most a quarter more than its share (bounded
// loads: Mirrokni, Thorup and Zadimoghaddam, 2016), and then somewhat more moves than must; see Members.Place.
package placement

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// Node is a member that can serve collections.
type Node struct {
	Name   string // distinct among the members, and the same for as long as the member has the collections loaded
	Budget int64  // bytes that it has for galleries: its weight, at least 1
}

// mostNodes bounds the members, so that placing a collection is never slow: each place costs one hash a member.
const mostNodes = 1024

// Members are those between whom collections are placed. The zero value has none. It never changes, and is safe for
// concurrent use.
type Members struct {
	nodes []Node // by name
	total uint64 // of the budgets
}

// New checks nodes, whose order does not matter.
func New(nodes []Node) (Members, error) {
	if len(nodes) > mostNodes {
		return Members{}, fmt.Errorf("at most %d members can serve collections; got %d", mostNodes, len(nodes))
	}
	m := Members{nodes: slices.Clone(nodes)}
	slices.SortFunc(m.nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	for i, n := range m.nodes {
		switch {
		case n.Name == "":
			return Members{}, fmt.Errorf("a member has no name")
		case i > 0 && m.nodes[i-1].Name == n.Name:
			return Members{}, fmt.Errorf("two members are called %q", n.Name)
		case n.Budget < 1 || n.Budget > mostBudget:
			return Members{}, fmt.Errorf("the budget of member %q must be 1 to %d bytes; got %d", n.Name,
				int64(mostBudget), n.Budget)
		}
		m.total += uint64(n.Budget)
	}
	return m, nil
}

// mostBudget is a pebibyte: the budgets of all members together stay below 2^60.
const mostBudget = 1 << 50

// Place returns, for each of a number of partitions, the nodes that serve it: copies of them, different nodes, the one
// with the highest number first, or all nodes if there are fewer. partitions is a power of two, as Partitions returns.
//
// With one partition, what moves when a member joins or leaves is only what must. With more, no node serves more than
// a quarter above its share of them, rounded up, as long as enough other nodes exist; where that bound sends a
// partition to its next node, a change of the members can also move a partition between two that stay.
func (m Members) Place(collection string, partitions, copies int) [][]Node {
	places := make([][]Node, partitions)
	loads := make([]int, len(m.nodes))
	for p := range places {
		order := m.rank(collection, prefix(p, partitions))
		// Nodes within their bound come first; stable, so that each half keeps its order.
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Compare(m.excess(a, loads[a], partitions, copies), m.excess(b, loads[b], partitions, copies))
		})
		for _, n := range order[:min(copies, len(order))] {
			loads[n]++
			places[p] = append(places[p], m.nodes[n])
		}
	}
	return places
}

// excess returns 0 for a node that can take one more partition within its bound, and else how many bounds it has taken.
func (m Members) excess(n, load, partitions, copies int) int {
	if partitions == 1 {
		return 0
	}
	// A quarter more than the share, in integers: 5/4 × partitions × copies × budget / total, rounded up.
	hi, lo := bits.Mul64(uint64(5*partitions*copies), uint64(m.nodes[n].Budget))
	share, rest := bits.Div64(hi, lo, 4*m.total)
	if rest > 0 {
		share++
	}
	return load / int(max(share, 1))
}

// rank returns the indexes of all nodes, the one with the highest number for a partition first.
func (m Members) rank(collection string, prefix uint64) []int {
	logs := make([]uint64, len(m.nodes))
	order := make([]int, len(m.nodes))
	for i, n := range m.nodes {
		order[i], logs[i] = i, negativeLog(hash("visage placement", n.Name, collection, prefix))
	}
	slices.SortFunc(order, func(a, b int) int {
		// weight[a] ÷ logs[a] > weight[b] ÷ logs[b], without dividing; both products have less than 90 bits.
		aHi, aLo := bits.Mul64(uint64(m.nodes[a].Budget), logs[b])
		bHi, bLo := bits.Mul64(uint64(m.nodes[b].Budget), logs[a])
		return cmp.Or(cmp.Compare(bHi, aHi), cmp.Compare(bLo, aLo), cmp.Compare(a, b))
	})
	return order
}

// mostPartitions is the largest number of partitions of a collection.
const mostPartitions = 1 << 14

// Partitions returns how many partitions a collection has that needs that many bytes, when one may need at most most,
// and it has now partitions (0: it is new): a power of two. It becomes more as soon as partitions are too large, and
// fewer only when the fewer are at most half full, so that a collection whose size varies about a limit is not split
// again and again.
func Partitions(bytes, most int64, now int) int {
	count := 1
	for count < mostPartitions && (bytes-1)/int64(count) >= max(most, 1) {
		count *= 2
	}
	for count < now && bytes/int64(count) > max(most, 1)/2 {
		count *= 2
	}
	return count
}

// Partition returns the partition of a face, among a power of two of them: 0 to partitions-1.
func Partition(face [16]byte, partitions int) int {
	// The upper bits: when the number doubles, partition p becomes 2p and 2p+1.
	return int(hash("visage partition", string(face[:]), "", 0) >> 1 >> (63 - log2(partitions)))
}

// prefix names partition p of a number of partitions, so that of the two into which it is split the first has the same
// name, and stays in its place: the upper bits of the hashes of its faces, and zeros.
func prefix(p, partitions int) uint64 { return uint64(p) << (63 - log2(partitions)) }

func log2(powerOfTwo int) int {
	if bits.OnesCount(uint(powerOfTwo)) != 1 {
		panic(fmt.Sprintf("placement: %d partitions, which is no power of two", powerOfTwo))
	}
	return bits.TrailingZeros(uint(powerOfTwo))
}

// hash returns a number that nobody can choose by choosing names: customers name collections, and could else bring all
// of theirs to one member.
func hash(use, a, b string, n uint64) uint64 {
	var in []byte
	for _, s := range []string{use, a, b} {
		in = binary.BigEndian.AppendUint32(in, uint32(len(s)))
		in = append(in, s...)
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(in, n))
	return binary.BigEndian.Uint64(sum[:])
}

// logBits are the bits behind the point of a logarithm.
const logBits = 32

// negativeLog returns -log2(h ÷ 2^64), rounded up to logBits behind the point: at least 1, below 2^39. It squares, bit
// by bit, in integers, which gives the same on all processors.
func negativeLog(h uint64) uint64 {
	h = max(h, 1)
	zeros := bits.LeadingZeros64(h)
	m := h << zeros // 1 to 2, with 63 bits behind the point
	log := uint64(63 - zeros)
	for range logBits {
		hi, lo := bits.Mul64(m, m)
		log <<= 1
		if hi >= 1<<63 { // the square is 2 or more
			log |= 1
			m = hi
		} else {
			m = hi<<1 | lo>>63
		}
	}
	return 64<<logBits - log
}
