package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/visage-face/visage/sealed"
)

// This file keeps the custody of several processes that share a store in step. Each asks the keys itself, and only the
// answers that it gets open its data. What one process stores, such as a refusal, a lock by the owner or a change of
// keys, the others follow within follow.Every: they take the note, lock, and ask the key at once.

// changed is how often the note of a resource was changed, under the resource's id.
type changed struct {
	ID    []byte
	Count uint64
}

var changes = sealed.NewTable[changed]("custody/changed", 1)

func readChanges(r sealed.Reader) (map[sealed.SpaceID]uint64, error) {
	all := map[sealed.SpaceID]uint64{}
	for rec, err := range changes.In().All(r) {
		if err != nil {
			return nil, err
		}
		if len(rec.ID) != len(sealed.SpaceID{}) {
			return nil, fmt.Errorf("a changed resource has an id of %d bytes", len(rec.ID))
		}
		all[sealed.SpaceID(rec.ID)] = rec.Count
	}
	return all, nil
}

// publish tells the other processes that the note of a resource has changed. If that fails, they find out when they ask
// the key the next time.
func (c *Custody) publish(ctx context.Context, sp *space) {
	if !c.shared {
		return
	}
	err := c.changes.Update(context.WithoutCancel(ctx), func(tx sealed.Tx, now map[sealed.SpaceID]uint64) error {
		return changes.In().Put(tx, sp.id.String(), changed{sp.id[:], now[sp.id] + 1})
	})
	if err != nil {
		c.log.WarnContext(ctx, "a change of a resource's key not published", "resource", sp.id.String(), "err", err)
	}
}

// lockedForAll reports whether data that is locked because of an event is locked at other processes too: when the key
// has refused here, or its owner locks it. That a key gives no answer here says nothing about others, and what follows
// from the store they know.
func lockedForAll(before state, e event, why Condition) bool {
	switch e.kind {
	case keyAnswered, openingFailed, lockRequested:
		return why != Unavailable && !(before.DataLocked && before.Condition == why)
	}
	return false
}

// lockTime is how long a lock waits for the store to tell the other processes. Those that hear nothing, because the
// store does not answer, can read nothing either.
const lockTime = 2 * time.Second

// lockElsewhere has the other processes refuse the data from their next transaction on. They look at what is stored
// then, and ask the key: a lock by the owner is told once more when it is stored. A store that does not take it in time
// is told in the background for as long as the data is locked here.
func (c *Custody) lockElsewhere(ctx context.Context, sp *space) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTime)
	defer cancel()
	err := sp.bundle.LockElsewhere(ctx)
	if errors.Is(err, sealed.ErrNoSpace) {
		return nil
	}
	if err != nil {
		c.log.ErrorContext(ctx, "a resource is not locked at other processes yet", "resource", sp.id.String(), "err",
			err)
		sp.bundle.LockElsewhereLater(func() bool { return sp.stateNow().DataLocked })
	}
	return err
}

// noticeChanges notes the resources whose notes have changed, for Run.
func (c *Custody) noticeChanges(now map[sealed.SpaceID]uint64) {
	c.pendingMu.Lock()
	defer c.pendingMu.Unlock()
	if c.counts != nil {
		for id, count := range now {
			if _, noted := c.pending[id]; !noted && c.counts[id] != count {
				c.pending[id] = false
			}
		}
	}
	c.counts = now
	wake(c.wake)
}

// LockedElsewhere tells custody that the store refuses the data of a resource here, because another process has locked
// it or changed its keys. It returns at once.
func (c *Custody) LockedElsewhere(id sealed.SpaceID) { c.lookSoon(id, true) }

// lookSoon has Run look at a resource; refused: the store refuses its data.
func (c *Custody) lookSoon(id sealed.SpaceID, refused bool) {
	c.pendingMu.Lock()
	defer c.pendingMu.Unlock()
	c.pending[id] = c.pending[id] || refused
	wake(c.wake)
}

// takePending returns the resources to be looked at, and whether the store refuses their data.
func (c *Custody) takePending() map[sealed.SpaceID]bool {
	c.pendingMu.Lock()
	defer c.pendingMu.Unlock()
	all := maps.Clone(c.pending)
	clear(c.pending)
	return all
}

// look brings what is known of a resource to what another process has stored.
func (c *Custody) look(ctx context.Context, id sealed.SpaceID, refused bool) {
	c.mu.Lock()
	known := c.spaces[id] != nil
	c.mu.Unlock()
	sp, err := c.space(ctx, id)
	if err == nil && known {
		err = c.lookAt(ctx, sp, refused)
		wake(c.wake) // a change of an ended process may be left
	}
	if errors.Is(err, sealed.ErrNoSpace) {
		if sp != nil {
			c.forget(sp)
		}
		return
	}
	if err != nil && ctx.Err() == nil {
		c.log.ErrorContext(ctx, "keys of a resource not read", "resource", id.String(), "err", err)
	}
}

func (c *Custody) lookAt(ctx context.Context, sp *space, refused bool) error {
	n, keys, err := sp.stored(ctx)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	if sp.busy { // this process changes the keys, and is the only one; release has Run look again
		sp.missed, sp.refused = true, sp.refused || refused
		sp.mu.Unlock()
		return nil
	}
	news, shut := !sameNote(n, sp.note), sp.state.DataLocked
	sp.adoptNoteLocked(n, keys)
	var all []*followUp
	events := sp.state.catchUp(sp.storedStateLocked(), refused)
	for _, e := range events {
		all = append(all, c.applyEventLocked(sp, e))
	}
	locked, byService := sp.state.DataLocked, !sp.state.customerInvolved() && !sp.state.OwnerLocked && !sp.state.Deleted
	sp.mu.Unlock()
	for _, t := range all {
		err = errors.Join(err, c.runFollowUp(ctx, sp, t))
		if t.load != nil {
			err = errors.Join(err, c.openWithServiceKey(ctx, sp, t.load))
		}
	}
	c.assignWatch(sp)
	switch {
	case (refused || shut) && byService: // nothing that was asked for here has opened it
		err = errors.Join(err, sp.bundle.Load(ctx, nil))
	case n.Flow != nil && (!locked || n.Flow.committed()):
		c.openDuringChange(ctx, sp, *n.Flow, locked)
	case locked && (news || refused || len(events) > 0):
		c.askNow(sp)
	}
	return err
}

// lookAfterClaim looks at a resource whose news nobody took while this process tried to become the only one that
// changes its keys.
func (c *Custody) lookAfterClaim(ctx context.Context, sp *space) {
	if !c.shared {
		return
	}
	err := c.lookAt(ctx, sp, false)
	if err != nil && !errors.Is(err, sealed.ErrNoSpace) && ctx.Err() == nil {
		c.log.ErrorContext(ctx, "keys of a resource not read", "resource", sp.id.String(), "err", err)
	}
}

func sameNote(a, b note) bool {
	one, _ := json.Marshal(a) // notes are made of what encodes
	two, _ := json.Marshal(b)
	return string(one) == string(two)
}

// catchUp returns the events that bring a state to what another process has stored. What cannot be told from outside,
// because it depends on answers of keys, begins anew as after a start.
func (s state) catchUp(with stored, refused bool) []event {
	revoked := with.lockCause.Code == codeRevoked && !(s.DataLocked && s.Condition == Revoked)
	anew := []event{{kind: answersDiscarded}, {kind: started, stored: with}}
	switch {
	case s.Deleted:
		return nil // whoever recovers it looks again
	case refused && !s.DataLocked && (s.customerInvolved() || with.holder == byCustomer),
		with.ownerLocked != s.OwnerLocked, revoked && (with.holder == byCustomer || with.change != noChange):
		return anew
	case with.change != s.Change && with.change != noChange && with.holder == s.Holder:
		if with.change == committed {
			return []event{{kind: changeBegun}, {kind: changeCommitted}}
		}
		return []event{{kind: changeBegun}}
	case with.holder != s.Holder, with.holder == byCustomer && with.stores != s.Stores:
		return anew
	case with.change == s.Change:
		return nil
	case with.holder == byService:
		return []event{{kind: changeUndone}}
	}
	return []event{{kind: finishedCustomer, stores: with.stores, kept: true}}
}

// openDuringChange opens the data here while another process changes the keys: no watch asks them meanwhile, and data
// that was not used here yet does not open by itself with two data keys.
func (c *Custody) openDuringChange(ctx context.Context, sp *space, f flow, locked bool) {
	at, open := sp.stateNow(), c.loadKeys
	if locked {
		open = c.openData
	}
	if locked && (!at.mayOpen(c.policy(sp), time.Now()) || !at.customerDecides()) {
		return
	}
	err := open(ctx, sp, c.keySources(sp, &f), effect{lockCount: at.LockCount})
	if err != nil && !isKeyAnswer(err) && ctx.Err() == nil {
		c.log.WarnContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
	}
}

// claimFor is how long a change of keys seems to be under way after its process has ended.
const claimFor = 20 * time.Second

// claimAll makes this process the only one that changes the keys of a space that it has claimed for one of its
// goroutines. Error: sealed.ErrClaimed.
func (c *Custody) claimAll(ctx context.Context, sp *space) error {
	if !c.shared {
		return nil
	}
	claim, err := c.cfg.Store.Claim(ctx, "custody/"+sp.id.String(), claimFor)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	sp.held = claim
	sp.mu.Unlock()
	return sp.read(ctx) // another process may have changed the note until now
}

// claim claims a space for a new change, among the goroutines of this process and among all processes. It returns false
// while another change is under way.
func (c *Custody) claim(ctx context.Context, sp *space) bool {
	if !sp.claim(ctx) {
		return false
	}
	err := c.claimAll(ctx, sp)
	if err == nil && sp.noteNow().Flow == nil {
		return true
	}
	if err != nil && !errors.Is(err, sealed.ErrClaimed) {
		c.log.ErrorContext(ctx, "a change of keys not begun", "resource", sp.id.String(), "err", err)
	}
	sp.release()
	c.lookAfterClaim(ctx, sp)
	return false
}

// claimedFlow claims a change that is under way, for a goroutine that has claimed the space. It waits while another
// process is at it. When that has ended it, it returns false, and the goroutine has not claimed the space any more.
func (c *Custody) claimedFlow(ctx context.Context, sp *space) bool {
	for ctx.Err() == nil {
		err := c.claimAll(ctx, sp)
		if err == nil && sp.noteNow().Flow != nil {
			return true
		}
		sp.release() // meanwhile this process follows the other one
		c.lookAfterClaim(ctx, sp)
		if err == nil { // it has ended the change
			return false
		}
		if errors.Is(err, sealed.ErrNoSpace) {
			c.forget(sp)
			return false
		}
		if !errors.Is(err, sealed.ErrClaimed) {
			c.log.ErrorContext(ctx, "a change of keys not resumed", "resource", sp.id.String(), "err", err)
		}
		if !waitFor(ctx, jitter(claimFor/4)) || !sp.claimFlow() {
			return false
		}
	}
	sp.release()
	return false
}

// forgetChanges removes what was stored of resources that exist no more.
func (c *Custody) forgetChanges(ctx context.Context, existing []sealed.SpaceID) error {
	gone := maps.Clone(c.changes.Now())
	maps.DeleteFunc(gone, func(id sealed.SpaceID, _ uint64) bool { return slices.Contains(existing, id) })
	if len(gone) == 0 {
		return nil
	}
	return c.changes.Update(ctx, func(tx sealed.Tx, now map[sealed.SpaceID]uint64) error {
		for id := range gone {
			if _, still := now[id]; !still {
				continue
			}
			if err := changes.In().Delete(tx, id.String()); err != nil {
				return err
			}
		}
		return nil
	})
}
