// Package bench measures the performance targets of Visage, each beside its baseline in one run. It consists of
// benchmarks; README.md says what they compare and how to run them.
package bench
