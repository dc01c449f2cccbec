// Package prove attacks the guarantees of the real program: it kills the program, steals and damages its files, and
// shows that acknowledged data is never lost, that deleted data stays deleted, and that a copy of the disk without its
// root key opens nothing. The package consists of tests.
//
// A plain test run takes a few rounds of each; `make prove` runs all parts in full and writes a report, `make
// prove-crash` and its like run one. VISAGE_ROUNDS sets how often the program is killed. Each run prints its seed;
// VISAGE_SEED repeats the choices of a run, but not the timing of the kernel.
package prove
