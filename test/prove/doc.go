// Package prove attacks the guarantees of the real program: it kills it, steals and damages its files, and shows that
// what was acknowledged is never lost, that what was deleted stays deleted, and that a copy of the disk without its
// root key opens nothing. Everything is in its tests.
//
// A plain test run takes a few rounds of each; `make prove` runs all parts in full and writes a report, `make
// prove-crash` and its like run one. VISAGE_ROUNDS says how often the program is killed. Each run prints its seed;
// VISAGE_SEED repeats the choices of one, though not the moments at which the kernel does its part.
package prove
