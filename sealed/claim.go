package sealed

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/lease"
)

// Claim is the right of one process to do something that those which share a store must not do at once. It is renewed
// in the background until it is released. It is safe for concurrent use.
type Claim struct{ lease *lease.Claim }

// Claim claims a name, such as that of a job. At most one claim of a name is held among all processes that share the
// store. A process that does not answer any more loses its claims after ttl: another one then gets the claim, once it
// has asked for it during a whole ttl (Claim does not wait; ask again now and then). In a store that is not shared the
// claim is kept in memory. ttl is at least a second. Errors: ErrClaimed, ErrClosed.
//
// A process may be paused at any moment, lose a claim, and go on without knowing. So whatever is written under a claim
// is written in a transaction that calls Check, and whatever else is done under it must be harmless when the next
// holder does it as well.
func (s *Store) Claim(ctx context.Context, name string, ttl time.Duration) (*Claim, error) {
	if s.isClosed() {
		return nil, ErrClosed
	}
	if ttl < time.Second {
		return nil, fmt.Errorf("claim %q for %v: a claim lasts for a second or more", name, ttl)
	}
	c, err := s.leases.Claim(ctx, name, ttl)
	if err != nil {
		return nil, fmt.Errorf("claim %q: %w", name, err)
	}
	return &Claim{c}, nil
}

// Context returns a context that ends when the claim does. Its cause is ErrClaimLost, or ErrClosed. A process that was
// paused finds out late: see Store.Claim.
func (c *Claim) Context() context.Context { return c.lease.Context() }

// Fence returns the number of the claim, which is higher than that of every earlier claim of the same store. Rows that
// remember the highest number they were written under can refuse lower ones.
func (c *Claim) Fence() uint64 { return c.lease.Fence() }

// Check says, inside a transaction, whether the claim still holds when that is committed. The transaction must end with
// the error: ErrClaimLost, or the engine's.
func (c *Claim) Check(tx Tx) error {
	r := tx.writer()
	r.Use()
	return r.Below(c.lease.Check)
}

// Release gives the claim back, so that another process can have it at once. It may be called more than once.
func (c *Claim) Release() { c.lease.Release() }

// Shared reports whether other processes may have the store open at the same time, as its Config says, and its engine
// allows.
func (s *Store) Shared() bool { return s.shared }

// Replicas returns how many processes have the store open, this one among them. It is as of some seconds ago: one that
// ended without closing its store counts for 15 seconds more. It is 1 for a store that is not shared.
func (s *Store) Replicas() int { return len(s.leases.Members()) }

// Member is a process that has the store open.
type Member = lease.Member

// Members returns the processes that have the store open, this one first, as of some seconds ago: see Replicas.
func (s *Store) Members() []Member { return s.leases.Members() }

// Announce tells the other processes that have the store open something of this one, such as its address: a note of at
// most 1,024 bytes, which is sealed as claims are, and replaces the one before. They see it in Members within some
// seconds, and for as long as this process is one of them. When Announce returns an error, it is tried again in the
// background.
func (s *Store) Announce(ctx context.Context, note []byte) error {
	if s.isClosed() {
		return ErrClosed
	}
	if err := s.leases.Announce(ctx, note); err != nil {
		return fmt.Errorf("tell other processes of this one: %w", err)
	}
	return nil
}

// MemberStatus is how a process stands that has the store open, or had it open and did not close it.
type MemberStatus = lease.MemberStatus

// Survey reads how the processes stand that have the store open, this one first. One that ended without closing it is
// among them for a minute.
func (s *Store) Survey(ctx context.Context) ([]MemberStatus, error) {
	all, err := s.leases.Survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the processes that have the store open: %w", err)
	}
	return all, nil
}
