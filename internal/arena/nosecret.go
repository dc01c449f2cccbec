//go:build !goexperiment.runtimesecret

package arena

// Erasing reports whether Do erases the copies that its function leaves on stacks, in registers and on the heap.
const Erasing = false

// Do runs f. In builds with GOEXPERIMENT=runtimesecret it also erases the copies of secrets that f makes.
func Do(f func()) { f() }
