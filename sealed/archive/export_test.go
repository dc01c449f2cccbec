package archive

import "github.com/visage-face/visage/internal/durable"

// Before has fn called before each step of writing a chunk, and its error taken for the step's.
func (a *Archive) Before(fn func(step durable.Step, file string) error) { a.before = fn }
