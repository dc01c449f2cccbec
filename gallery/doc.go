// Package gallery finds the vectors nearest to a probe, exactly and at the speed of memory. Encode vectors, Add them to
// a Gallery, and Search it. A Pool keeps the galleries of many groups within a budget of memory: it loads one when it
// is asked for, and drops it when its lease ends.
//
// It knows vectors, ids and owners (a person with several faces is one owner of several vectors) and nothing of where
// they come from. Distances are cosine distances of unit vectors: 0 same … 2 opposite.
//
// # How a search is exact without reading everything
//
// A vector is held once, as its Code: 16 bits a number, spread over four planes. The two uppermost bits of the numbers
// of all vectors lie together, the sketch; so do the next two, the second plane, the four after them, the third, and
// the last eight. The upper bits of a number say in which of 4, 16 or 256 equal cells it lies. A search goes from plane
// to plane, and what it leaves out it has proved to be too far:
//
//   - With one probe it reads the sketch of every vector, and the second plane of those that the sketch does not rule
//     out. Where these are many, it reads both of all for a while.
//   - With several it reads sketch and second plane of some vectors at a time, as few as stay in the processor's first
//     cache, and all probes meet them there. Where these leave many, and the processor can multiply so much, it reads
//     the third plane with them for a while.
//
// Then it reads the third plane of what is left, unless it has, and compares the whole codes, in integers, of what that
// leaves.
//
// Templates are turned before they become codes (see Code), so that the upper bits say as much as they can.
//
// The proof needs angles. Let x be a vector and g what its upper bits stand for, the middle of each number's cell, in
// any unit: only its direction counts. Let p be the probe and u the probe to its upper eight bits. Angles between
// vectors keep the triangle inequality, so
//
//	∠(u,g) ≤ ∠(u,p) + ∠(p,x) + ∠(x,g)
//
// (With unit vectors a, b and c and the parts of a and c that are perpendicular to b, cos∠(a,c) = cos∠(a,b)·cos∠(b,c) +
// ⟨a⊥,c⊥⟩, and ⟨a⊥,c⊥⟩ ≥ -|a⊥|·|c⊥| = -sin∠(a,b)·sin∠(b,c) by Cauchy–Schwarz. So cos∠(a,c) ≥ cos(∠(a,b)+∠(b,c)).)
//
// For x to have a score of at least s, the cosine of ∠(p,x), then ∠(p,x) ≤ θ with cos θ = s. Write γ = ∠(u,p), which is
// computed once for the probe, and β = ∠(x,g), which is computed when x is added: its sine is the norm of the
// quantisation error, of x less its projection on g, for |x| = 1. If θ+γ is below a right angle, as β always is, a
// vector with that score has
//
//	cos∠(u,g) ≥ cos(θ+γ+β) = cos(θ+γ)·cos β - sin(θ+γ)·sin β
//
// and, multiplied by |u|·|g|,
//
//	⟨u,g⟩ ≥ |u|·cos(θ+γ)·|g|cos β - |u|·sin(θ+γ)·|g|sin β
//
// On the left is a sum of products of small integers, which processors form sixty-four at a time. On the right are two
// weights that belong to the probe and two numbers that belong to the vector, its mark: how far g reaches along x and
// how far it reaches beside. A vector that fails cannot have the score. All is rounded so that this stays true: |g|cos
// β and its weight down, |g|sin β and its weight up, and the score itself down by more than a float32 can be wrong. If
// θ+γ is a right angle or more the test says nothing and every vector passes; so it is for a probe whose upper eight
// bits are all zero, for which γ counts as a right angle.
//
// The test is the same for the sketch, for it and the second plane, and for these and the third; only g, and with it β,
// differs: for templates of 128 to 512 numbers β is about 23 to 25, 6 and 0.4 degrees.
//
// The score s that is asked for is the largest distance of the query or, once k matches are known, that of the worst of
// them, so it rises during the search; a vector that was left out for a lower s is left out for a higher one too. While
// too few matches are known nothing is left out. Where codes say little (all vectors near each other, or a score that
// no vector has) many pass and the search does more work, at worst comparing every code in full. The result is exact in
// every case.
//
// Scores are exact sums of products of integers, multiplied by what makes a cosine of them and rounded to float32 once,
// on every machine alike. Of equal ones the lower Order comes first.
//
// # What it costs
//
// A face takes two bytes a number, 16 bytes of marks and length, and 40 of id, owner and order: 312 bytes for 128
// numbers. A search with one probe that wants only what is near reads little more than the sketch, 36 bytes a face
// then, and one that has to look among the far ones the second plane as well, 72 bytes.
package gallery
