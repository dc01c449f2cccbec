//go:build goexperiment.runtimesecret

package arena

import "runtime/secret"

// Erasing says whether Do erases what its function leaves behind on stacks, in registers and on the heap.
const Erasing = true

// Do runs f so that the copies of secrets it makes on the way are erased when it returns (package runtime/secret).
func Do(f func()) { secret.Do(f) }
