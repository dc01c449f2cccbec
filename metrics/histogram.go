package metrics

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"
)

// The buckets of a histogram of latencies: one for everything shorter than shortest, eight for each doubling from there
// on, and one for everything from longest on.
const (
	perDoubling = 8
	shortest    = 1 << 16 // ns, 66 µs
	longest     = 1 << 37 // ns, 137 s
	buckets     = 1 + perDoubling*(37-16) + 1
)

// PercentileError is how far a percentile may be from the true one, relative to it, between 66 µs and 137 s: a bucket
// is 2^(1/8) wide, and its geometric middle stands for all that fell into it. Shorter latencies count as 66 µs, longer
// ones as 137 s.
const PercentileError = 0.045

// histogram counts latencies by bucket.
type histogram [buckets]uint64

// bucketOf returns the bucket of a latency.
func bucketOf(d time.Duration) int {
	switch {
	case d < shortest:
		return 0
	case d >= longest:
		return buckets - 1
	}
	return min(1+int((math.Log2(float64(d))-16)*perDoubling), buckets-2)
}

// middleOf returns the latency that stands for a bucket.
func middleOf(bucket int) time.Duration {
	switch bucket {
	case 0:
		return shortest
	case buckets - 1:
		return longest
	}
	return time.Duration(math.Exp2(16 + (float64(bucket)-0.5)/perDoubling))
}

// percentile returns the smallest latency that at least the given share of all requests did not exceed; zero if there
// were none.
func (h *histogram) percentile(share float64) time.Duration {
	var all uint64
	for _, n := range h {
		all = sum(all, n)
	}
	if all == 0 {
		return 0
	}
	rank := max(1, uint64(math.Ceil(share*float64(all))))
	var seen uint64
	for bucket, n := range h {
		if seen = sum(seen, n); seen >= rank {
			return middleOf(bucket)
		}
	}
	return longest // rounding of the rank: there are at least all of them
}

// appendTo appends the buckets that are not empty: how many, and of each the distance from the one before and its
// count.
func (h *histogram) appendTo(b []byte) []byte {
	filled := 0
	for _, n := range h {
		if n > 0 {
			filled++
		}
	}
	b = binary.AppendUvarint(b, uint64(filled))
	before := 0
	for bucket, n := range h {
		if n > 0 {
			b = binary.AppendUvarint(b, uint64(bucket-before))
			b = binary.AppendUvarint(b, n)
			before = bucket
		}
	}
	return b
}

// addFrom adds the buckets that appendTo has written.
func (h *histogram) addFrom(r *reader) {
	bucket := 0
	for i := range r.count(buckets) {
		step := r.count(buckets - 1 - bucket)
		n := r.number()
		if bucket += step; n == 0 || i > 0 && step == 0 {
			r.fail()
		}
		if r.bad {
			return
		}
		h[bucket] = sum(h[bucket], n)
	}
}

// sum adds two counts and stays at the largest when they exceed it, so that damaged or invented figures cannot wrap
// around.
func sum(a, b uint64) uint64 {
	total, carry := bits.Add64(a, b, 0)
	if carry > 0 {
		return math.MaxUint64
	}
	return total
}
