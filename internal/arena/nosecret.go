//go:build !goexperiment.runtimesecret

package arena

// Erasing says whether Do erases what its function leaves behind on stacks, in registers and on the heap.
const Erasing = false

// Do runs f. In builds with GOEXPERIMENT=runtimesecret it also erases the copies of secrets that f makes on the way.
func Do(f func()) { f() }
