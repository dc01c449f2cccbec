package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed"
)

// Of the processes that share a store, one signs checkpoints and keeps nodes, as long as it has the claim. That saves
// the others the work. The order of checkpoints does not depend on it: each is appended only behind a smaller one.
const (
	dutyClaim = "audit/sign"
	dutyLasts = 10 * time.Second // after its process has ended: so long nothing is signed
	dutyAsk   = 3 * time.Second  // between two attempts to get it
	dutyWait  = time.Second      // so long one attempt waits for the store: entries wait with it
)

// duty is the right to sign.
type duty struct {
	claim *sealed.Claim // nil: another process has it, or nothing was to be signed yet
	next  time.Time     // when it is asked for again
}

// takeDuty reports whether this process signs, after it has asked for the right if it has not got it. The caller holds
// writing.
func (l *Log) takeDuty(ctx context.Context) (bool, error) {
	if !l.shared {
		return true, nil
	}
	if d := l.duty.claim; d != nil && d.Context().Err() == nil {
		return true, nil
	}
	l.duty.claim = nil
	if time.Now().Before(l.duty.next) {
		return false, nil
	}
	ctx, stop := context.WithTimeout(ctx, dutyWait)
	defer stop()
	claim, err := l.store.Claim(ctx, dutyClaim, dutyLasts)
	if err != nil {
		l.duty.next = time.Now().Add(dutyAsk)
	}
	if errors.Is(err, sealed.ErrClaimed) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for the right to sign: %w", err)
	}
	l.duty.claim = claim
	return true, nil
}

// onDuty reports whether this process signs.
func (l *Log) onDuty() bool {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	return !l.shared || l.duty.claim != nil && l.duty.claim.Context().Err() == nil
}

// resign lets another process sign.
func (l *Log) resign() {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	if l.duty.claim != nil {
		l.duty.claim.Release()
		l.duty.claim = nil
	}
}
