package custody_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// mood is how a store answers.
type mood string

const (
	yes     mood = "yes"
	no      mood = "no"
	wrong   mood = "wrong" // another key answers in its place
	expired mood = "expired"
	silent  mood = "silent"
)

// modelGrace is the grace of the model test.
const modelGrace = 10 * time.Minute

// modelStore is what the model knows of a store.
type modelStore struct {
	name    string
	mood    mood
	lastYes time.Time
	noSince time.Time // of a refusal without a yes in between
}

// model says, from the rules of the manual alone, when data is open. It knows nothing of polls: the test has every
// store asked before and after each change of its mood, so the model sees what the product sees.
//
//   - the first store's yes opens, and its no locks; only its yes ends that
//   - while it is silent, open data stays open for the grace after the last yes of any store that may serve
//   - from 60 s of silence on, a yes of another one that may serve opens or keeps open; of several, the first in their
//     order serves
//   - a no of another one that began during the silence locks then, and only a yes of that one or of the first ends it;
//     until its yes, none beside it may serve, also if it is silent by now
//   - none may serve if the last answer of the first was a no
//   - an answer of another key is a no; an expired key says yes, or no if the policy says so
//   - if the policy says so, what a no has locked opens only after an unlock
type model struct {
	first   *modelStore
	others  []*modelStore
	policy  custody.Policy
	open    bool
	revoked bool      // locked by a no
	heard   time.Time // the last answer of the first, or the start
	lastYes time.Time // of any store, when it could serve
	// refused is whose no is in force; nil: nobody's. Of several that begin at once, either may be heard first.
	refused  *modelStore
	refusing []*modelStore
}

// says returns what a store's answer means: yes, no or silent.
func (m *model) says(s *modelStore) mood {
	switch {
	case s.mood == wrong, s.mood == expired && m.policy.LockOnExpiry:
		return no
	case s.mood == expired:
		return yes
	}
	return s.mood
}

// mayOpen opens the data, unless it must be unlocked first.
func (m *model) mayOpen() {
	if !m.open && m.revoked && m.policy.ManualRestore {
		return
	}
	m.open, m.revoked = true, false
}

// late reports whether others may serve in place of the first.
func (m *model) late(now time.Time) bool {
	return len(m.others) > 0 && m.says(m.first) == silent && now.Sub(m.heard) >= time.Minute
}

// refusesInOutage reports whether a store beside the first has said no since that was heard last, and no yes after it.
func (m *model) refusesInOutage(s *modelStore) bool { return s.noSince.After(m.heard) }

// mayServe reports whether a yes of a store beside the first counts.
func (m *model) mayServe(s *modelStore) bool {
	return (m.refused == nil || m.refused == s) && !slices.ContainsFunc(m.others, func(other *modelStore) bool {
		return other != s && m.refusesInOutage(other)
	})
}

// look brings the model to a time, with moods that have not changed since it was looked at last.
func (m *model) look(now time.Time) {
	for _, s := range m.others {
		switch m.says(s) {
		case yes:
			s.lastYes, s.noSince = now, time.Time{}
		case no:
			if s.noSince.IsZero() {
				s.noSince = now
			}
		}
	}
	switch m.says(m.first) {
	case yes:
		m.mayOpen()
		m.refused = nil
		m.heard, m.lastYes = now, now
		return
	case no:
		m.open, m.revoked, m.refused = false, true, m.first
		m.heard = now
		return
	}
	// what happened since the last look, in its order: a pause may be longer than the grace
	if m.late(now) && m.open {
		for _, s := range m.others {
			if m.says(s) == no && m.refusesInOutage(s) {
				m.refusing = append(m.refusing, s)
			}
		}
		if len(m.refusing) > 0 {
			m.open, m.revoked, m.refused = false, true, m.refusing[0]
		}
	}
	for _, s := range m.others {
		if s.lastYes.After(m.lastYes) && m.mayServe(s) {
			m.lastYes = s.lastYes
		}
	}
	if !now.Before(m.lastYes.Add(modelGrace)) {
		m.open = false
	}
	for range m.others { // what one ends may let another serve
		for _, s := range m.others {
			if m.late(now) && m.says(s) == yes && m.mayServe(s) {
				m.refused = nil
				m.mayOpen()
				m.lastYes = now
			}
		}
	}
}

// serving returns which store keeps the data open: 0 the first, or nobody while it is silent.
func (m *model) serving(now time.Time) int {
	if m.open && m.late(now) {
		for i, s := range m.others {
			if m.says(s) == yes && m.mayServe(s) {
				return i + 1
			}
		}
	}
	return 0
}

// unsure reports whether the grace ends about now: which of two answers at once was heard first decides then.
func (m *model) unsure(now time.Time) bool {
	return m.says(m.first) == silent && now.Sub(m.lastYes.Add(modelGrace)).Abs() < 15*time.Second
}

// changed notes that the stores of the resource have changed, in which each has answered.
func (m *model) changed(now time.Time, first *modelStore, others ...*modelStore) {
	m.first, m.others, m.heard, m.lastYes, m.refused = first, others, now, now, nil
	for _, s := range others {
		s.lastYes, s.noSince = now, time.Time{}
	}
}

// modelRun is one sequence of the model test.
type modelRun struct {
	*storeAndVaults
	random *rand.Rand
	model  model
	spare  []*modelStore // stores that do not protect the data
	log    []string
}

func (r *modelRun) vault(s *modelStore) *vault { return r.vaults["https://"+s.name+".vault.example"] }

func (r *modelRun) key(s *modelStore) visage.KeyRef {
	return visage.KeyRef{Vault: "https://" + s.name + ".vault.example", Name: "k"}
}

// newest returns the newest version of a store's key.
func (r *modelRun) newest(s *modelStore) visage.KeyRef {
	key := r.key(s)
	r.vault(s).set(func(v *vault) {
		versions := v.keys["k"].versions
		key.Version = versions[len(versions)-1].id
	})
	return key
}

// rotate makes a new version of a store's key, which expires when the others do.
func (r *modelRun) rotate(s *modelStore) {
	r.vault(s).add("k")
	r.set(s, s.mood)
}

func (r *modelRun) say(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

// ask has every key asked now. It is asked before as well, because what follows from one answer may depend on the
// other, and a poll that is confirming a refusal asks again after some seconds only.
func (r *modelRun) ask() {
	for _, wait := range []time.Duration{3 * time.Second, 0} {
		for name := range r.vaults {
			r.custody.Recheck(visage.KeyRef{Vault: name, Name: "k"})
		}
		time.Sleep(wait)
		for range 8 { // an answer leads to the next question, and each takes a moment
			time.Sleep(time.Nanosecond)
			synctest.Wait()
		}
	}
	r.model.look(time.Now())
	if several := r.model.refusing; len(several) > 1 {
		says := r.state(spaceA).Reason
		at := slices.IndexFunc(several, func(s *modelStore) bool { return strings.Contains(says, r.key(s).Vault+"/") })
		if at < 0 {
			r.t.Fatalf("%q: locked because of %q, which names none of the stores that refuse", r.log, says)
		}
		r.model.refused = several[at]
	}
	r.model.refusing = nil
}

// set changes the mood of a store.
func (r *modelRun) set(s *modelStore, to mood) {
	s.mood = to
	r.vault(s).set(func(v *vault) {
		var ends time.Time
		if to == expired {
			ends = time.Now()
		}
		for _, version := range v.keys["k"].versions {
			version.description.Expires = ends
		}
		switch to {
		case yes, expired:
			v.fail = nil
		case wrong:
			v.fail = refuse(keysource.ErrWrong, "", "another key")
		case no:
			v.fail = refuse(keysource.ErrDenied, keysource.Permission, "no")
		case silent:
			v.fail = refuse(keysource.ErrUnknown, "", "nobody there")
		}
	})
}

// check compares the product with the model.
func (r *modelRun) check() {
	r.t.Helper()
	if r.model.unsure(time.Now()) {
		return
	}
	err, s := r.read(spaceA), r.state(spaceA)
	serving := r.model.serving(time.Now())
	if (err == nil) != r.model.open || s.Serving != serving {
		r.t.Fatalf("%q\nread: %v; the model says open %v, serving %d; it is %d\n%+v", r.log, err, r.model.open,
			serving, s.Serving, s)
	}
	for i := range s.Stores {
		if want := r.model.open && i == serving && (i > 0 || r.model.first.mood != silent); s.Serves(i) != want {
			r.t.Fatalf("%q\nstore %d serves: %v; want %v\n%+v", r.log, i, s.Serves(i), want, s)
		}
	}
}

// command gives a command and compares whether it is carried out.
func (r *modelRun) command(what string, want bool, run func() (custody.Operation, error)) bool {
	r.t.Helper()
	r.say("%s", what)
	op, err := run()
	if (err == nil) != want || err == nil && op.Progress != custody.Succeeded {
		if err == nil && r.settled(spaceA).Operation.Progress == custody.Succeeded && want {
			return true
		}
		r.t.Fatalf("%q: %+v, %v; the model says %v", r.log, op, err, want)
	}
	return err == nil
}

// do gives a command that is always carried out.
func (r *modelRun) do(what string, command func(context.Context, sealed.SpaceID) error) {
	r.t.Helper()
	r.say("%s", what)
	if err := command(r.t.Context(), spaceA); err != nil {
		r.t.Fatalf("%q: %v", r.log, err)
	}
}

// act takes a random step that changes the stores of the resource.
func (r *modelRun) act() {
	m, now := &r.model, time.Now()
	wrap := func(all ...*modelStore) bool {
		return !slices.ContainsFunc(all, func(s *modelStore) bool { return s.mood != yes })
	}
	// Every change of the stores needs a first key that answers, and data that need not be unlocked.
	answers := m.says(m.first) == yes && !m.revoked
	var other *modelStore
	var rest []*modelStore // the others but that one
	if len(m.others) > 0 {
		at := r.random.IntN(len(m.others))
		other, rest = m.others[at], slices.Delete(slices.Clone(m.others), at, at+1)
	}
	switch r.random.IntN(12) {
	case 0:
		r.say("restart")
		r.halt()
		r.openCustody()
		r.run()
		m.open, m.heard, m.lastYes = false, now, time.Time{}
		for _, s := range append([]*modelStore{m.first}, m.others...) {
			s.lastYes, s.noSince = time.Time{}, time.Time{}
		}
	case 1: // add
		s := r.spare[0]
		want := answers && wrap(m.first, s) && wrap(m.others...) && len(m.others) < custody.MaxStores-1
		if r.command("add "+s.name, want, func() (custody.Operation, error) {
			return r.custody.AddStore(r.t.Context(), spaceA, r.newest(s), principal)
		}) {
			r.spare = r.spare[1:]
			m.changed(now, m.first, append(m.others, s)...)
		}
	case 2: // remove another than the first
		if other == nil {
			return
		}
		want := answers && wrap(m.first) && wrap(rest...)
		if r.command("remove "+other.name, want, func() (custody.Operation, error) {
			return r.custody.RemoveStore(r.t.Context(), spaceA, r.key(other))
		}) {
			r.spare = append(r.spare, other)
			m.changed(now, m.first, rest...)
		}
	case 3: // remove the first
		if other == nil {
			return
		}
		if r.command("remove the first", answers && wrap(m.others...), func() (custody.Operation, error) {
			return r.custody.RemoveStore(r.t.Context(), spaceA, r.key(m.first))
		}) {
			r.spare = append(r.spare, m.first)
			m.changed(now, m.others[0], m.others[1:]...)
		}
	case 4:
		serving := m.serving(now)
		allowed := serving > 0 && wrap(m.others...) && now.Sub(m.heard) >= time.Hour
		if r.command("promote", allowed, func() (custody.Operation, error) {
			return r.custody.PromoteStore(r.t.Context(), spaceA)
		}) {
			r.spare = append(r.spare, m.first)
			m.changed(now, m.others[serving-1], slices.Delete(slices.Clone(m.others), serving-1, serving)...)
		}
	case 5: // the first moves to a new version, whatever the others do
		r.rotate(m.first)
		r.command("rotate the first", answers && wrap(m.first), func() (custody.Operation, error) {
			return r.custody.Enable(r.t.Context(), spaceA, r.newest(m.first), principal)
		})
	case 6:
		if other == nil {
			return
		}
		r.rotate(other)
		r.command("rotate "+other.name, answers && wrap(other), func() (custody.Operation, error) {
			return r.custody.AddStore(r.t.Context(), spaceA, r.newest(other), principal)
		})
	case 7: // opens nothing by itself, and ends no refusal
		r.do("unlock", r.custody.Unlock)
		m.revoked = false
	case 8:
		r.do("lock", r.custody.Lock)
		m.open = false
		r.ask()
		m.open = false
		r.check()
		r.do("unlock", r.custody.Unlock)
		m.revoked = false
	case 9:
		r.do("delete", r.custody.Suspend)
		r.do("recover", r.custody.Recover)
		m.open, m.heard = false, time.Now()
	case 10: // switch to another first key
		s := r.spare[0]
		if r.command("switch to "+s.name, answers && wrap(s) && wrap(m.others...), func() (custody.Operation, error) {
			return r.custody.Enable(r.t.Context(), spaceA, r.newest(s), principal)
		}) {
			r.spare = append(r.spare[1:], m.first)
			m.changed(now, s, m.others...)
		}
	case 11:
		m.policy.LockOnExpiry, m.policy.ManualRestore = r.random.IntN(2) == 0, r.random.IntN(2) == 0
		r.do(fmt.Sprintf("%+v", m.policy), func(ctx context.Context, id sealed.SpaceID) error {
			return r.custody.SetPolicy(ctx, id, m.policy)
		})
	}
	r.settled(spaceA)
	time.Sleep(time.Millisecond)
}

func runModel(t *testing.T, seed uint64) {
	r := &modelRun{storeAndVaults: newStoreAndVaultsWith(t, memory(), custody.Policy{Grace: modelGrace}),
		random: rand.New(rand.NewPCG(seed, 2))}
	var all []*modelStore
	for _, name := range []string{"first", "second", "third", "fourth"} {
		s := &modelStore{name: name, mood: yes}
		all = append(all, s)
		if r.vault(s) == nil {
			r.vaults[r.key(s).Vault] = newVault(r.key(s).Vault)
		}
		r.vault(s).add("k")
	}
	r.run()
	r.enabled(spaceA, r.newest(all[0]))
	stores := 2 + r.random.IntN(custody.MaxStores-1) // two or three of them
	for _, s := range all[1:stores] {
		if _, err := r.custody.AddStore(t.Context(), spaceA, r.newest(s), principal); err != nil {
			t.Fatal(err)
		}
	}
	r.spare = all[stores:]
	r.model = model{policy: custody.Policy{Grace: modelGrace}, open: true}
	r.model.changed(time.Now(), all[0], all[1:stores]...)
	r.ask()
	time.Sleep(time.Millisecond) // no two answers have the same time
	pauses := []time.Duration{5 * time.Second, 20 * time.Second, 45 * time.Second, 61 * time.Second, 65 * time.Second,
		2 * time.Minute, 9 * time.Minute, 11 * time.Minute, 65 * time.Minute}
	for range 5 {
		moods := []mood{yes, yes, yes, silent, silent, silent, no, wrong, expired}
		for _, s := range slices.Concat([]*modelStore{r.model.first}, r.model.others, r.spare) {
			if r.random.IntN(2) == 0 {
				r.set(s, moods[r.random.IntN(len(moods))])
				r.say("%s: %s", s.name, s.mood)
				if !slices.Contains(r.spare, s) {
					r.ask() // one after the other: of two changes at once, either may be heard first
				}
			}
		}
		r.check()
		pause := pauses[r.random.IntN(len(pauses))]
		r.say("%v", pause)
		time.Sleep(pause)
		r.ask()
		r.check()
		r.act()
		r.ask()
		r.check()
		time.Sleep(time.Millisecond)
	}
	r.close()
}

// TestStoresAgainstModel compares a thousand random sequences of answers of two or three stores, with restarts, and
// with changes of the stores and of the policy, locks, unlocks and deletions in between, with the model.
func TestStoresAgainstModel(t *testing.T) {
	seeds := make(chan uint64)
	var work sync.WaitGroup
	first := rand.Uint64()
	for range 4 {
		work.Go(func() {
			for seed := range seeds {
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { runModel(t, seed) })
				})
			}
		})
	}
	for i := range uint64(1000) {
		seeds <- first + i
	}
	close(seeds)
	work.Wait()
}
