// Package visage holds the words of the product: the ids, tiers, principals and refusals that its rooms share. It does
// no I/O and imports nothing of ours. A noun lives here only when two rooms that may not know each other both need it.
package visage
