package custody

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/audit"
)

var update = flag.Bool("update", false, "write docs/custody-states.md anew")

var (
	tableNow    = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	tableAsked  = tableNow.Add(-30 * time.Second)
	tableGrace  = time.Hour
	tablePolicy = Policy{Grace: tableGrace}
	policies    = []Policy{tablePolicy, {Grace: tableGrace, LockOnExpiry: true},
		{Grace: tableGrace, ManualRestore: true}}
)

// allEvents returns all events: answers of every class, and events that come too late.
func allEvents() []event {
	var all []event
	for _, class := range classes {
		for _, round := range []uint64{1, 0} {
			all = append(all,
				event{kind: keyAnswered, class: class, round: round, subject: "The key", explanation: "No."})
		}
	}
	all = append(all, event{kind: keyAnswered, class: classUnknown, notAsked: true, round: 1, subject: "The key",
		explanation: "Not permitted."})
	for _, class := range classes {
		all = append(all,
			event{kind: keyAnswered, class: class, store: 1, round: 1, subject: "The key", explanation: "No."})
	}
	for _, class := range []class{classDenied, classUnknown} {
		all = append(all,
			event{kind: openingFailed, class: class, store: 1, lockCount: 1, round: 1, explanation: "No."})
	}
	all = append(all, event{kind: opened, lockCount: 1, store: 1, asked: tableAsked, subject: "The second key"})
	for _, lockCount := range []uint64{1, 0} {
		all = append(all, event{kind: opened, lockCount: lockCount, asked: tableAsked, subject: "The key"},
			event{kind: opened, lockCount: lockCount, asked: tableAsked, expired: true, subject: "The key"})
		for _, class := range []class{classDenied, classWrong, classUnknown} {
			for _, round := range []uint64{1, 0} {
				all = append(all,
					event{kind: openingFailed, class: class, lockCount: lockCount, round: round, explanation: "No."})
			}
		}
	}
	for _, kind := range []eventKind{stepAnswered, lockRequested, unlockRequested, unlocked, resourceDeleted,
		resourceRecovered, changeBegun, changeCommitted, finishedCustomer, finishedService, changeUndone,
		policyChanged, answersDiscarded} {
		all = append(all, event{kind: kind, stores: 1, asked: tableAsked})
	}
	return all
}

// flaw returns the contradiction in a state; empty: the state is possible.
func (s state) flaw() string {
	shut := slices.Contains([]Condition{Revoked, Unavailable, Locked}, s.Condition)
	switch {
	case !slices.Contains(conditions, s.Condition):
		return "it has no condition"
	case s.DataLocked != shut:
		return "condition and lock disagree"
	case s.DataLocked != (s.Code != ""):
		return "code and lock disagree"
	case s.OwnerLocked && !s.DataLocked:
		return "locked by its owner but not locked"
	case s.Deleted && s.customerInvolved() && !s.DataLocked:
		return "deleted under a customer's key but not locked"
	case s.Opening && (!s.DataLocked || s.OwnerLocked || s.Deleted || !s.customerDecides()):
		return "opening although it must not open"
	case !s.DataLocked && !s.customerDecides() && s.Condition != ServiceManaged:
		return "a condition of a customer's key under the service's key"
	case !s.DataLocked && s.Holder == byCustomer && s.Condition == ServiceManaged:
		return "service-managed under a customer's key"
	case !s.DataLocked && s.Holder == byCustomer && s.LastOK.IsZero():
		return "served by a key that has never answered"
	case !s.DataLocked && (s.Condition == Active || s.Condition == Degraded) && s.LastOK.IsZero():
		return "served by a key that has never answered"
	case !s.customerDecides() && !s.DataLocked && !s.LastOK.IsZero():
		return "an answer of a key under the service's key"
	case s.Condition == Revoked && s.LockCause.Code != codeRevoked:
		return "revoked without a stored cause"
	case !s.DataLocked && s.LockCause != (lockCause{}):
		return "a stored cause of a lock without a lock"
	case s.Stores < 2 && (s.Serving > 0 || s.RefusedBy != noStore):
		return "another key serves or refuses, and there is none"
	case s.Serving > 0 && (s.DataLocked || s.Answer != classUnknown || s.Condition != Degraded):
		return "another key serves, although the first is not silent or the data is locked"
	case s.Serving > 0 && tableNow.Sub(s.Heard) < failOverAfter:
		return "another key serves although the first was heard just now"
	case s.Serving > 0 && !s.Others[s.Serving-1].Answer.yes():
		return "a key serves that has not said yes"
	case s.RefusedBy != noStore && !s.DataLocked:
		return "a refusal without a lock"
	}
	return ""
}

// allStates returns all possible states, as far as On distinguishes them.
func allStates() []state {
	var all []state
	closures := []lockCause{{}, {codeUnavailable, "No answer.", tableNow.Add(-time.Hour)},
		{codeRevoked, "No.", tableNow.Add(-time.Hour)}, {codeRevoked, "No.", tableNow.Add(-longLocked - time.Hour)}}
	for bits := range 1 << 4 {
		s := state{Round: 1, LockCount: 1, DataLocked: bits&1 > 0, OwnerLocked: bits&2 > 0, Deleted: bits&4 > 0,
			Opening: bits&8 > 0}
		if s.DataLocked {
			s.Code = codeRevoked
		}
		for _, s.Holder = range []holder{byService, byCustomer} {
			for _, s.Change = range []changeStage{noChange, reversible, committed} {
				for _, s.Condition = range conditions {
					for _, s.LockCause = range closures {
						for _, s.Answer = range []class{"", classOK} {
							for _, ok := range []time.Time{{}, tableNow.Add(-time.Minute),
								tableNow.Add(-2 * tableGrace)} {
								s.LastOK = ok
								if s.flaw() == "" {
									all = append(all, s)
									all = append(all, withSecond(s)...)
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// withSecond returns the states that a state under one key can be in with a second one.
func withSecond(s state) []state {
	if s.Holder != byCustomer || s.Change != noChange || s.Deleted || s.Answer != "" { // other answers come below
		return nil
	}
	var all []state
	s.Stores = 2
	long, short, earlier := tableNow.Add(-2*failOverAfter), tableNow.Add(-failOverAfter/2), tableNow.Add(-time.Hour)
	for _, s.Answer = range []class{classOK, classUnknown, classDenied} {
		for _, s.Heard = range []time.Time{long, short} {
			for _, other := range []otherStore{{}, {Answer: classUnknown, LastOK: earlier},
				{Answer: classOK, LastOK: short}, {Answer: classDenied, NoSince: short, LastOK: earlier},
				{Answer: classDenied, NoSince: earlier}} {
				s.Others[0] = other
				for _, s.Serving = range []int{0, 1} {
					for _, s.RefusedBy = range []refusal{noStore, firstRefuses, refusedBy(1)} {
						if s.flaw() == "" {
							all = append(all, s)
						}
					}
				}
			}
		}
	}
	return all
}

// comes reports whether an event can occur in a state: events of a change need a change in the right stage.
func (e event) comes(s state) bool {
	switch e.kind {
	case keyAnswered, opened, openingFailed:
		return e.store < max(s.Stores, 1)
	case stepAnswered:
		return s.Change != noChange && s.customerDecides()
	case changeBegun:
		return s.Change == noChange
	case changeCommitted, changeUndone:
		return s.Change == reversible
	case finishedCustomer:
		return s.Change != noChange && s.customerDecides() && (s.DataLocked || !s.LastOK.IsZero())
	case finishedService:
		return s.Change == committed && s.Holder == byCustomer
	}
	return true
}

// TestStates applies every event to every state under every policy and checks the promises of custody.
func TestStates(t *testing.T) {
	states, events := allStates(), allEvents()
	steps := 0
	for _, p := range policies {
		for _, s := range states {
			for _, e := range events {
				if e.store > 0 && !e.comes(s) {
					continue
				}
				next, effects := s.On(e, p, tableNow)
				for _, broken := range promises(s, e, p, next, effects) {
					t.Fatalf("%s:\n from %+v\n by %+v under %+v\n to %+v\n with %+v", broken, s, e, p, next, effects)
				}
				steps++
			}
		}
	}
	if len(states) < 500 || steps < 50_000 {
		t.Errorf("%d states and %d steps are too few to be all", len(states), steps)
	}
}

// promises returns the promises that a transition breaks.
func promises(s state, e event, p Policy, next state, effects []effect) (broken []string) {
	hold := func(is bool, what string) {
		if !is {
			broken = append(broken, what)
		}
	}
	find := func(kind effectKind) *effect {
		if i := slices.IndexFunc(effects, func(f effect) bool { return f.kind == kind }); i >= 0 {
			return &effects[i]
		}
		return nil
	}
	current := e.kind == keyAnswered && e.round == s.Round && e.store == 0
	second := e.kind == keyAnswered && e.round == s.Round && e.store == 1 && !s.Deleted
	yes := current && (e.class == classOK || e.class == classExpired)
	no := current && (e.class == classDenied || e.class == classWrong || e.class == classExpired && p.LockOnExpiry)
	load, relock, lease, kept := find(loadKeys), find(lockData), find(renewUntil), find(storeNote)

	if e.comes(s) {
		hold(next.flaw() == "", "an impossible state: "+next.flaw())
	}

	// Only a yes of the current round opens data under a customer's key. Loading keys has them unwrapped, so a
	// recovery may load keys without an earlier answer.
	own := !next.customerInvolved() && (e.kind == unlocked || e.kind == changeUndone || e.kind == finishedService)
	silent := s.Answer == classUnknown && tableNow.Sub(s.Heard) >= time.Minute // the first of two keys
	serves := second && silent && (e.class == classOK || e.class == classExpired && !p.LockOnExpiry) &&
		s.RefusedBy != firstRefuses
	hold(load == nil || yes && !no || serves || e.kind == resourceRecovered || own,
		"keys are loaded although the key has not said yes")
	hold(load == nil || load.lockCount == next.LockCount, "loading has no effect from the start")
	if s.DataLocked && !next.DataLocked {
		service := e.kind == resourceRecovered && !s.customerInvolved()
		hold(service || e.kind == opened && e.lockCount == s.LockCount, "the data opens without an answer")
	}
	hold(!next.Opening || s.Opening || load != nil, "opening, but no keys are loaded")

	// Data that its owner has locked, or that is deleted, never opens.
	if next.OwnerLocked || next.Deleted {
		hold(load == nil && !next.Opening, "locked by its owner or deleted, but keys are loaded")
		hold(!s.DataLocked || next.DataLocked, "locked by its owner or deleted, but open")
	}
	hold(!(s.OwnerLocked || s.Deleted) || !s.mayOpen(p, tableNow), "locked by its owner or deleted, but it may open")
	hold(!s.OwnerLocked || next.OwnerLocked || e.kind == unlocked, "the owner's lock ends without an unlock")
	hold(!s.Deleted || next.Deleted || e.kind == resourceRecovered, "recovered without a recovery")

	// A refusal locks, and a missing answer does not end it.
	if no && s.customerDecides() && !s.Deleted {
		hold(next.DataLocked && next.Condition == Revoked && relock != nil, "a refusal does not lock")
	}
	if s.Condition == Revoked && e.kind == keyAnswered {
		hold(next.Condition == Revoked && next.Since.Equal(s.Since), "an answer ends the condition revoked")
	}
	if s.DataLocked && current && e.class == classUnknown {
		hold(next.DataLocked && next.Condition == s.Condition && lease == nil, "a missing answer unlocks something")
	}
	long := s.LockCause.Code == codeRevoked && tableNow.Sub(s.LockCause.Since) > longLocked
	if s.Condition == Revoked && (yes && !no || serves) && (p.ManualRestore || long) {
		hold(load == nil, "the data opens without the required unlock")
	}

	// A lease ends no later than the last yes plus the grace.
	if lease != nil {
		hold(!next.DataLocked, "a lease for locked data")
		hold(!lease.until.IsZero() || !next.customerDecides(), "a lease without end")
		hold(lease.until.IsZero() || !lease.until.After(next.LastOK.Add(p.Grace)), "a lease beyond the grace")
	}
	if !next.LastOK.Equal(s.LastOK) && !next.LastOK.IsZero() {
		earlier := current && e.class == classUnknown && next.LastOK.Equal(s.Others[0].LastOK)
		first := current && e.class == classUnknown && s.LastOK.IsZero() && s.Change == committed // its grace begins
		hold(yes || e.kind == stepAnswered || e.kind == opened || first || serves || earlier,
			"the time of a yes without a yes")
	}
	if (e.kind == opened || e.kind == stepAnswered) && next.LastOK.After(s.LastOK) {
		hold(next.LastOK.Equal(e.asked), "the grace begins when the keys are loaded, and not when the key said yes")
	}
	if current && e.class == classUnknown && !s.LastOK.IsZero() {
		hold(lease == nil || s.Stores == 2 && s.Others[0].LastOK.After(s.LastOK), "a missing answer renews the lease")
	}
	if current && e.notAsked && s.customerDecides() && !s.Deleted {
		hold(!next.firstSilent(tableNow) && next.Serving == 0, "another key serves though the first was not asked")
		hold(s.LastOK.IsZero() || lease == nil, "a key that was not asked renews the lease")
		hold(next.mayPromote(tableNow) != nil, "a key that was not asked can be replaced")
	}

	// A second key decides nothing while the first answers, and its refusal locks only in place of a first that is
	// silent. A lock by a refusal ends by a yes of the key that has refused, or of the first.
	if second {
		hold(serves || lease == nil && load == nil && next.LastOK.Equal(s.LastOK), "the second key decides")
		hold(!s.DataLocked || next.DataLocked, "an answer opens the data without loading its keys")
		refusal := e.class == classDenied || e.class == classWrong || e.class == classExpired && p.LockOnExpiry
		fresh := s.Others[0].NoSince.IsZero() || !s.Others[0].NoSince.Before(s.Heard)
		inPlace := refusal && silent && fresh && !s.DataLocked
		hold((relock != nil) == inPlace, "the second key locks out of turn, or does not lock in its turn")
		alarm := find(auditEvent) != nil && slices.ContainsFunc(effects,
			func(f effect) bool { return f.audit == audit.CustodyRefusal && f.outcome == audit.Refused })
		hold(alarm == (refusal && s.Others[0].NoSince.IsZero()), "an alarm too much or too few")
	}
	if s.RefusedBy != next.RefusedBy && e.kind != finishedCustomer && e.kind != finishedService {
		switch next.RefusedBy {
		case noStore:
			hold(yes && !no || serves && s.RefusedBy == refusedBy(1) || e.kind == opened,
				"a refusal ends without a yes")
		case firstRefuses:
			hold(no || e.kind == openingFailed && e.store == 0, "the first key has not refused")
		default:
			hold(second && s.RefusedBy == noStore, "the second key has not refused")
		}
	}
	hold(next.Serving == 0 || next.Serving == s.Serving || serves || e.kind == opened && e.store == 1,
		"another key serves without a yes")
	hold(!yes || next.Serving == 0, "the first key answers, and another one serves")

	// Late answers and openings change nothing.
	late := e.kind == keyAnswered && e.round != s.Round || (e.kind == opened || e.kind == openingFailed) &&
		e.lockCount != s.LockCount
	hold(!late || next == s && effects == nil, "a late event changes something")

	hold(e.kind != openingFailed || e.round == s.Round && e.store == 0 || relock == nil,
		"the refusal of an earlier round locks")
	hold(!s.Deleted || e.kind != keyAnswered || next == s && effects == nil, "an answer changes a deleted resource")
	hold(load == nil || !s.Opening || relock != nil || own, "keys are loaded twice at once")

	// State and data are locked together, and both numbers only rise.
	hold((relock != nil) == (next.LockCount > s.LockCount), "the locks are miscounted")
	hold(!next.DataLocked || s.DataLocked || relock != nil, "locked, but the data is not")
	hold(relock == nil || relock.why == next.Condition, "the data is locked with another refusal")
	hold(next.Round >= s.Round && next.LockCount >= s.LockCount, "a number falls")
	hold(e.kind != unlocked || s.Deleted || !s.DataLocked || s.Opening && s.Condition == Unavailable ||
		next.Round > s.Round, "answers from before the unlock count")

	// The note follows the state: after a lock, and before an unlock.
	switch {
	case e.kind == unlockRequested:
		hold(next == s && kept != nil && kept.must && !kept.ownerLocked && kept.lockCause == lockCause{} &&
			kept.refusedBy == s.RefusedBy,
			"unlocked before the note is stored")
	case kept != nil:
		hold(kept.ownerLocked == next.OwnerLocked && kept.lockCause == next.LockCause &&
			kept.refusedBy == next.RefusedBy,
			"the note disagrees with the state")
	case e.kind == unlocked:
		hold(!next.OwnerLocked && next.LockCause == lockCause{}, "the state disagrees with the note of the unlock")
	case e.kind == finishedCustomer, e.kind == finishedService: // they come with a note of their own
	default:
		hold(next.OwnerLocked == s.OwnerLocked && next.LockCause == s.LockCause && next.RefusedBy == s.RefusedBy,
			"a change of the state is not stored")
	}
	return broken
}

// TestUnlockIsKept checks that, whatever happens between the record of an unlock and the unlock itself, the stored note
// finally agrees with the state.
func TestUnlockIsKept(t *testing.T) {
	between := 0
	for _, s := range allStates() {
		for _, e := range allEvents() {
			if !e.comes(s) || slices.Contains([]eventKind{lockRequested, unlockRequested, unlocked}, e.kind) {
				continue // admins wait for each other
			}
			if e.kind == finishedCustomer || e.kind == finishedService {
				continue // they come with a note of their own
			}
			_, effects := s.On(event{kind: unlockRequested}, tablePolicy, tableNow)
			mid, more := s.On(e, tablePolicy, tableNow)
			last, most := mid.On(event{kind: unlocked}, tablePolicy, tableNow)
			var kept effect
			for _, f := range slices.Concat(effects, more, most) {
				if f.kind == storeNote {
					kept = f
				}
			}
			if kept.ownerLocked != last.OwnerLocked || kept.lockCause != last.LockCause ||
				kept.refusedBy != last.RefusedBy {
				t.Fatalf("%+v and %+v are unlocked as %+v, and kept as %+v", s, e, last, kept)
			}
			between++
		}
	}
	if between < 10_000 {
		t.Errorf("%d cases are too few to be all", between)
	}
}

// TestStoredOnlyLocks checks that no stored state opens data under a customer's key. Data under the service's key alone
// is open without end.
func TestStoredOnlyLocks(t *testing.T) {
	for _, holder := range []holder{byService, byCustomer} {
		for _, change := range []changeStage{noChange, reversible, committed} {
			for _, ownerLocked := range []bool{false, true} {
				for _, closed := range []lockCause{{}, {Code: codeUnavailable}, {Code: codeRevoked, Reason: "No."}} {
					e := event{kind: started, stored: stored{holder: holder, change: change, ownerLocked: ownerLocked,
						lockCause: closed}}
					next, effects := state{}.On(e, tablePolicy, tableNow)
					if next.customerInvolved() && !next.DataLocked || ownerLocked && !next.DataLocked {
						t.Errorf("%+v opens it: %+v", e.stored, next)
					}
					if closed.Code == codeRevoked && !ownerLocked && next.customerInvolved() &&
						next.Condition != Revoked {
						t.Errorf("%+v is no longer revoked: %+v", e.stored, next)
					}
					for _, f := range effects {
						if f.kind == renewUntil && f.until.IsZero() && !next.customerInvolved() && !ownerLocked {
							continue
						}
						if f.kind != lockData && f.kind != updateWatch {
							t.Errorf("%+v: %+v", e.stored, f)
						}
					}
				}
			}
		}
	}
}

// TestStatesAreClosed follows all events from the states of a start, and checks that no impossible state is reached.
func TestStatesAreClosed(t *testing.T) {
	known := map[state]bool{}
	simple := func(s state) state { // as far as On distinguishes states
		if s.Round = 1; !s.LastOK.IsZero() {
			s.LastOK = tableNow.Add(-time.Minute)
		}
		s.LockCount, s.Since, s.Reason, s.Cause, s.FirstOK = 1, time.Time{}, "", "", time.Time{}
		if s.Stores < 2 {
			s.Answer, s.Heard, s.Others = "", time.Time{}, [MaxStores - 1]otherStore{}
		} else {
			s.Heard = tableNow.Add(-2 * failOverAfter)
			for i := range s.Others {
				o := &s.Others[i]
				if o.Cause = ""; !o.LastOK.IsZero() {
					o.LastOK = tableNow.Add(-failOverAfter / 2)
				}
				if !o.NoSince.IsZero() {
					o.NoSince = tableNow.Add(-failOverAfter)
				}
			}
		}
		if s.Code != "" {
			s.Code = codeRevoked
		}
		if s.LockCause != (lockCause{}) {
			s.LockCause.Since, s.LockCause.Reason = tableNow.Add(-time.Hour), "No."
		}
		return s
	}
	var next []state
	for _, stored := range []stored{{holder: byService}, {holder: byCustomer}, {holder: byService, change: reversible},
		{holder: byService, change: committed}, {holder: byCustomer, stores: 2},
		{holder: byCustomer, stores: 2, refusedBy: firstRefuses,
			lockCause: lockCause{Code: codeRevoked, Reason: "No."}}} {
		s, _ := state{}.On(event{kind: started, stored: stored}, tablePolicy, tableNow)
		next = append(next, simple(s))
	}
	for len(next) > 0 {
		s := next[0]
		if next = next[1:]; known[s] {
			continue
		}
		known[s] = true
		if flaw := s.flaw(); flaw != "" {
			t.Fatalf("%s: %+v", flaw, s)
		}
		for _, e := range allEvents() {
			if e.comes(s) {
				to, _ := s.On(e, tablePolicy, tableNow)
				next = append(next, simple(to))
			}
		}
	}
	if len(known) < 50 {
		t.Errorf("only %d states are reached", len(known))
	}
}

// rows returns the representative states of the document, with their names.
func rows() (names []string, states []state) {
	answers := map[Condition]class{Active: classOK, Degraded: classUnknown, Revoked: classDenied,
		Unavailable: classUnknown, Locked: classOK}
	add := func(name string, s state) {
		s.Round, s.LockCount = 1, 1
		if s.Stores < 2 {
			s.Answer = answers[s.Condition]
		}
		if s.Opening {
			s.Answer = classOK
		}
		if s.DataLocked {
			s.Code = s.Condition.refusal().Code
		}
		if s.Condition == Revoked && s.LockCause == (lockCause{}) {
			s.LockCause = lockCause{codeRevoked, "No.", tableNow.Add(-time.Hour)}
		}
		names, states = append(names, name), append(states, s)
	}
	ok := tableNow.Add(-time.Minute)
	add("service-managed", state{Holder: byService, Condition: ServiceManaged})
	add("service-managed + change reversible",
		state{Holder: byService, Change: reversible, Condition: ServiceManaged})
	add("service-managed + change committed", state{Holder: byService, Change: committed, Condition: ServiceManaged})
	add("active", state{Holder: byCustomer, Condition: Active, LastOK: ok})
	add("active + change reversible", state{Holder: byCustomer, Change: reversible, Condition: Active, LastOK: ok})
	add("active + change committed", state{Holder: byCustomer, Change: committed, Condition: Active, LastOK: ok})
	add("degraded", state{Holder: byCustomer, Condition: Degraded, LastOK: ok})
	add("degraded, grace over", state{Holder: byCustomer, Condition: Degraded, LastOK: tableNow.Add(-2 * tableGrace)})
	add("revoked", state{Holder: byCustomer, Condition: Revoked, DataLocked: true})
	add("revoked for over 30 days", state{Holder: byCustomer, Condition: Revoked, DataLocked: true,
		LockCause: lockCause{codeRevoked, "No.", tableNow.Add(-longLocked - time.Hour)}})
	add("unavailable", state{Holder: byCustomer, Condition: Unavailable, DataLocked: true})
	add("unavailable + opening", state{Holder: byCustomer, Condition: Unavailable, DataLocked: true, Opening: true,
		LastOK: ok})
	add("locked by owner", state{Holder: byCustomer, Condition: Locked, DataLocked: true, OwnerLocked: true})
	two := func(s state) state {
		s.Holder, s.Stores, s.Answer, s.Heard = byCustomer, 2, classUnknown, tableNow.Add(-2*failOverAfter)
		return s
	}
	said := otherStore{Answer: classOK, LastOK: ok}
	add("degraded, two keys", two(state{Condition: Degraded, LastOK: ok}))
	add("degraded, two keys, the second serves",
		two(state{Condition: Degraded, LastOK: ok, Serving: 1, Others: [MaxStores - 1]otherStore{said}}))
	add("revoked by the first of two keys", two(state{Condition: Revoked, DataLocked: true, RefusedBy: firstRefuses}))
	add("revoked by the second of two keys",
		two(state{Condition: Revoked, DataLocked: true, RefusedBy: refusedBy(1)}))
	add("unavailable, two keys", two(state{Condition: Unavailable, DataLocked: true}))
	add("deleted", state{Holder: byCustomer, Condition: Locked, DataLocked: true, Deleted: true})
	return names, states
}

// TestStatesDocument keeps docs/custody-states.md up to date: go test ./custody -run TestStatesDocument -update
func TestStatesDocument(t *testing.T) {
	file := filepath.Join("..", "docs", "custody-states.md")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- Below: written by TestStatesDocument of custody. -->\n"
	head, have, found := strings.Cut(string(raw), mark)
	if !found {
		t.Fatalf("%s has no line %q", file, mark)
	}
	want := table()
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./custody -run TestStatesDocument -update", file)
	}
	if err := os.WriteFile(file, []byte(head+mark+want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// table writes a section for each event: the states that it changes, the next states, and the effects.
func table() string {
	var b strings.Builder
	names, states := rows()
	for _, s := range states {
		if flaw := s.flaw(); flaw != "" {
			return flaw
		}
	}
	section := func(title string, e event) {
		var lines, ignored, impossible []string
		for i, s := range states {
			next, effects := s.On(e, tablePolicy, tableNow)
			switch {
			case !e.comes(s):
				impossible = append(impossible, names[i])
			case next == s && effects == nil:
				ignored = append(ignored, names[i])
			default:
				lines = append(lines, fmt.Sprintf("| %s | %s | %s |\n", names[i], next.becomes(s), described(effects)))
			}
		}
		fmt.Fprintf(&b, "\n### %s\n\n| state | becomes | effects |\n| --- | --- | --- |\n%s", title,
			strings.Join(lines, ""))
		for _, rest := range []struct {
			title string
			names []string
		}{{"Ignored in", ignored}, {"Cannot occur in", impossible}} {
			if rest.names != nil {
				fmt.Fprintf(&b, "\n%s: %s.\n", rest.title, strings.Join(rest.names, "; "))
			}
		}
	}
	for _, e := range allEvents() {
		title := strings.ToUpper(string(e.kind[:1])) + string(e.kind[1:])
		switch {
		case (e.kind == keyAnswered || e.kind == openingFailed) && e.store > 0:
			title = "Second key: " + strings.ToLower(title[:1]) + title[1:] + ": " + string(e.class)
		case e.store > 0:
			title = "Second key: " + strings.ToLower(title[:1]) + title[1:]
		case (e.kind == keyAnswered || e.kind == openingFailed) &&
			(e.round == 0 || e.kind == openingFailed && e.lockCount == 0),
			e.kind == opened && e.lockCount == 0:
			continue // too late: nothing, in every state
		case e.notAsked:
			title = "This instance does not ask the key"
		case e.kind == keyAnswered, e.kind == openingFailed:
			title += ": " + string(e.class)
		case e.expired:
			title += ", the key has expired"
		}
		section(title, e)
	}
	return b.String()
}

// becomes names a state as the rows are named, and says whether a new round has begun since an earlier state.
func (s state) becomes(before state) string {
	name, round := s.name(), ""
	if name == before.name() {
		name = "the same"
	}
	if s.Round != before.Round {
		round = ", new round"
	}
	return name + round
}

// name returns the condition as it is shown, and what else is true of a state.
func (s state) name() string {
	name := string(s.Condition)
	switch {
	case s.Deleted && s.Condition == Locked:
		name = "deleted"
	case s.OwnerLocked:
		name = "locked by owner"
	}
	add := func(is bool, what string) {
		if is {
			name += " + " + what
		}
	}
	add(s.Change != noChange, "change "+string(s.Change))
	add(s.Opening, "opening")
	add(s.Serving > 0, "the second key serves")
	add(s.RefusedBy == firstRefuses, "the first key has refused")
	add(s.RefusedBy > firstRefuses, "the second key has refused")
	add(s.Deleted && name != "deleted", "deleted")
	add(s.Deleted && s.OwnerLocked && s.Condition == Locked, "locked by owner")
	if s.OwnerLocked && s.Condition != Locked {
		name += fmt.Sprintf(" (under the lock: %s)", s.Condition)
	}
	return name
}

func described(effects []effect) string {
	var all []string
	for _, f := range effects {
		switch f.kind {
		case lockData:
			all = append(all, fmt.Sprintf("lock the data (%s)", f.why))
		case renewUntil:
			switch left := f.until.Sub(tableNow); {
			case f.until.IsZero():
				all = append(all, "renew the lease without end")
			case left <= 0:
				all = append(all, "end the lease")
			default:
				short := strings.NewReplacer("h0m0s", "h", "m0s", "m").Replace(left.String())
				all = append(all, fmt.Sprintf("renew the lease to %s from now", short))
			}
		case auditEvent:
			all = append(all, fmt.Sprintf("audit `%s` %s", f.audit, f.outcome))
		default:
			all = append(all, string(f.kind))
		}
	}
	return strings.Join(all, "; ")
}
