//go:build goexperiment.runtimesecret

package arena

import "runtime/secret"

// Erasing reports whether Do erases the copies that its function leaves on stacks, in registers and on the heap.
const Erasing = true

// Do runs f and erases the copies of secrets that f makes when it returns (package runtime/secret).
func Do(f func()) { secret.Do(f) }
