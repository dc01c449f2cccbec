//go:build linux && !amd64

package replicas_test

import (
	"context"
	"errors"
	"time"
)

const skewable = false

// setClock is written for one processor.
func setClock(context.Context, int, time.Duration) error {
	return errors.New("the clock of a process cannot be set on this processor")
}
