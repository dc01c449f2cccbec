// Package bench measures what Visage promises in numbers, each against its target in one run. Everything is in its
// benchmarks; README.md says what they compare and how to run them.
package bench
