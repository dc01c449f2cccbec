package custody

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Status describes the state of a resource's key.
type Status struct {
	Condition Condition
	Since     time.Time
	Code      string // of the refusal of data operations; empty: they are not refused
	Reason    string // a sentence; empty: nothing is wrong
	// Cause is the answer of the key behind the condition in one word, for readers of other languages: a reason of
	// keysource, or "denied", "wrong", "unknown" or "expired". Empty: nothing is wrong, or no answer since the start.
	Cause   string
	Key     visage.KeyRef // with its present address
	Kept    visage.KeyRef // with the address at the time of enabling
	As      visage.PrincipalID
	Version string // the version in use; empty: the service's key, or one of a store whose keys have no versions
	Policy  Policy
	// KeyExpires is the expiry date of the version in use, as the vault gave it last, some minutes ago at most; zero:
	// it has none, or it is not known
	KeyExpires time.Time
	// Stores are the keys of the customer, the first one first, which the fields above are about too; see failover.go
	Stores  []Store
	Serving int // whose answers decide about the data while it is not locked, see Serves
	// LastSuccess and NextCheck are times of polls; zero: the service's key, or no answer since the start
	LastSuccess, NextCheck time.Time
	Operation              Operation // the one under way, else the last
}

// Store is the state of the customer's key in one store.
type Store struct {
	Key, Kept   visage.KeyRef // as Status.Key and Status.Kept
	Version     string        // the version in use
	Answer      string        // the class of its last answer: ok, denied, wrong, unknown, expired; empty: none yet
	Cause       string        // as Status.Cause
	LastSuccess time.Time     // the last yes; zero: none since the start
	NextCheck   time.Time
	KeyExpires  time.Time // as Status.KeyExpires
}

// Refuses reports whether the last answer was a no.
func (s Store) Refuses() bool {
	return s.Answer == string(classDenied) || s.Answer == string(classWrong)
}

// Silent reports whether the last question got no answer.
func (s Store) Silent() bool { return s.Answer == string(classUnknown) }

// Serves reports whether the answers of one of Stores keep the data open. While all stores are silent, none does: the
// data is open until the grace ends.
func (s Status) Serves(store int) bool {
	return s.Code == "" && store == s.Serving && !s.Stores[store].Silent()
}

// Status returns the state of a resource's key. It does not ask the key. Errors: sealed.ErrNoSpace.
func (c *Custody) Status(ctx context.Context, id sealed.SpaceID) (Status, error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return Status{}, fmt.Errorf("read the state of the resource's key: %w", err)
	}
	stores := c.storesOf(sp)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	now := sp.state
	s := Status{
		Condition: now.shown(), Since: now.Since, Code: now.Code, Reason: now.Reason,
		Policy: c.policyLocked(sp), LastSuccess: now.LastOK, Stores: stores, Serving: now.Serving,
	}
	if len(sp.slots) > 0 {
		s.Version = sp.slots[0].Version
	}
	if len(stores) > 0 {
		s.KeyExpires, s.NextCheck = stores[0].KeyExpires, stores[0].NextCheck
	}
	if s.Condition == Degraded || s.Condition == Revoked || s.Condition == Unavailable {
		s.Cause = now.Cause
	}
	if sp.note.Key != nil {
		s.Kept, s.As = sp.note.Key.Key, sp.note.Key.As
		s.Key = c.cfg.Today(s.Kept)
	}
	switch {
	case sp.note.Flow != nil:
		s.Operation = sp.note.Flow.operation()
	case sp.note.Last != nil:
		s.Operation = *sp.note.Last
	}
	return s, nil
}

// storesOf returns the state of the customer's keys.
func (c *Custody) storesOf(sp *space) []Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	var all []Store
	for i, k := range sp.storesLocked() {
		s := Store{Key: c.cfg.Today(k.Key), Kept: k.Key, Version: k.Version}
		if i == 0 {
			s.Answer, s.Cause, s.LastSuccess = string(sp.state.Answer), sp.state.Cause, sp.state.FirstOK
		} else {
			o := sp.state.Others[i-1]
			s.Answer, s.Cause, s.LastSuccess = string(o.Answer), o.Cause, o.LastOK
		}
		if i < len(sp.watches) {
			s.NextCheck, s.KeyExpires = sp.watches[i].next, sp.watches[i].ends
		}
		all = append(all, s)
	}
	return all
}

// SetPolicy changes the policy of a resource, also while it is locked. Refusal: InvalidEncryptionPolicy.
func (c *Custody) SetPolicy(ctx context.Context, id sealed.SpaceID, p Policy) error {
	if p.Grace == 0 {
		p.Grace = c.cfg.Policy.Grace
	}
	if p.valid() != nil {
		return visage.Refuse(visage.Invalid, "InvalidEncryptionPolicy",
			"graceSeconds must be between %d and %d; got %d.", MinGrace/time.Second, MaxGrace/time.Second,
			p.Grace/time.Second)
	}
	sp, err := c.space(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.storeAndApply(ctx, sp, func(n *note) { n.Policy = &p }, event{kind: policyChanged})
	return err
}
