// Package prove kills, steals and damages: it shows on the real program that what was acknowledged is never lost, that
// what was deleted stays deleted, and that a copy of the disk without its root key is noise. Everything is in its
// tests.
//
// A plain test run takes a few rounds of each; `make prove` runs all parts in full and writes a report, `make
// prove-crash` and its like run one. VISAGE_ROUNDS says how often the program is killed. Each run prints its seed;
// VISAGE_SEED repeats the choices of one, though not the moments at which the kernel does its part.
package prove
