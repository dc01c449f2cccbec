// Package gallery finds the vectors nearest to a probe, exactly and at the speed of memory, and keeps within a budget
// which sets of vectors are in memory.
//
// It knows vectors, ids and owners (a person with several faces is one owner of several vectors) and nothing of where
// they come from. Distances are cosine distances of unit vectors: 0 same … 2 opposite.
//
// # How a search is exact without reading everything
//
// Of a vector x its numbers in full are kept, and a code: for each number the cell, of 256 equal ones, that it lies in.
// The upper halves of the codes of all vectors lie together, the front plane, and so do the lower halves, the back plane.
// Besides there is the sketch, a code of four cells a number. What a search leaves out it has proved to be too far:
//
//   - With one probe it reads the sketch of every vector and compares in full what the sketch does not rule out, the most
//     promising first. Where that is much, it reads the planes instead for a while.
//   - With several it reads the front plane of every vector once for all, the back plane of those that may still be near
//     enough for one of them, and compares in full what is left.
//
// The proof needs three vectors in angles. Let g be the vector that a code stands for, the middle of each number's cell,
// in any unit: only its direction counts. Let p be the probe and u the probe rounded to codes of its own. Angles between
// vectors keep the triangle inequality, so
//
//	∠(u,g) ≤ ∠(u,p) + ∠(p,x) + ∠(x,g)
//
// (With unit vectors a, b and c and the parts of a and c that are perpendicular to b, cos∠(a,c) = cos∠(a,b)·cos∠(b,c) +
// ⟨a⊥,c⊥⟩, and ⟨a⊥,c⊥⟩ ≥ -|a⊥|·|c⊥| = -sin∠(a,b)·sin∠(b,c) by Cauchy–Schwarz. So cos∠(a,c) ≥ cos(∠(a,b)+∠(b,c)).)
//
// When x shall have a score of at least s, the dot product ⟨p,x⟩, then ∠(p,x) ≤ θ with cos θ = s/(|p|·|x|). Write
// γ = ∠(u,p), which is computed once for the probe, and β = ∠(x,g), which is computed when x is added: its sine is the
// norm of the quantisation error, of x less its projection on g, for |x| = 1. If θ+γ is below a right angle, as β always
// is, a vector with that score has
//
//	cos∠(u,g) ≥ cos(θ+γ+β) = cos(θ+γ)·cos β - sin(θ+γ)·sin β
//
// and, multiplied by |u|·|g|,
//
//	⟨u,g⟩ ≥ |u|·cos(θ+γ)·|g|cos β - |u|·sin(θ+γ)·|g|sin β
//
// On the left is a sum of products of small integers, which processors form sixty-four at a time. On the right are two
// weights that belong to the probe and two numbers that belong to the vector, its mark: how far g reaches along x and how
// far it reaches beside. A vector that fails cannot have the score. All is rounded so that this stays true: |g|cos β and
// its weight down, |g|sin β and its weight up, the score itself down by more than a float32 can be wrong, and |x| is that
// of the longest vector of the gallery. If θ+γ is a right angle or more the test says nothing and every vector passes.
//
// The test is the same for the sketch, for the front plane and for both planes together; only g, and with it β, differs:
// for spread numbers sin β is about 0.34, 0.1 and 0.007.
//
// The score s that is asked for is the largest distance of the query or, once k matches are known, that of the worst of
// them, so it rises during the search; a vector that was left out for a lower s is left out for a higher one too. While
// too few matches are known nothing is left out. Where codes say little (all vectors near each other, or a score that
// nobody has) many pass and the search does more work, up to comparing everything in full. It is never wrong.
//
// Scores are dot products of float32 numbers, summed in float64 in a fixed order and rounded to float32 once, on every
// machine alike. Of equal ones the lower Order comes first.
//
// # What it costs
//
// A face takes a quarter of a byte a number in the sketch, half a byte in each plane, four bytes in full, 12 bytes of
// marks and 40 of id, owner and order: 724 bytes for 128 numbers. A search with one probe that wants only what is near
// reads little more than the sketch, 36 bytes a face then, and one that has to look among the far ones the front plane as
// well, 68 bytes.
package gallery
