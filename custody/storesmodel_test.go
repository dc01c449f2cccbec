package custody_test

import (
	"context"
	"fmt"
	"math/rand/v2"
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
	yes    mood = "yes"
	no     mood = "no"
	silent mood = "silent"
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
//   - while it is silent, open data stays open for the grace after the last yes of either
//   - from 60 s of silence on, a yes of the second opens or keeps open, unless the last answer of the first was a no
//   - a no of the second that began during the silence locks then, and only a yes ends that
type model struct {
	first, second *modelStore // second: nil if there is none
	open          bool
	heard         time.Time // the last answer of the first, or the start
	barred        bool      // the last answer of the first was a no
	barredBySec   bool      // the second has said no in its place
}

// look brings the model to a time, with moods that have not changed since it was looked at last.
func (m *model) look(now time.Time) {
	if m.second != nil {
		switch m.second.mood {
		case yes:
			m.second.lastYes, m.second.noSince = now, time.Time{}
		case no:
			if m.second.noSince.IsZero() {
				m.second.noSince = now
			}
		}
	}
	switch m.first.mood {
	case yes:
		m.open, m.barred, m.barredBySec = true, false, false
		m.heard, m.first.lastYes = now, now
		return
	case no:
		m.open, m.barred = false, true
		m.heard = now
		return
	}
	last := m.first.lastYes
	if m.second != nil && m.second.lastYes.After(last) {
		last = m.second.lastYes
	}
	if !now.Before(last.Add(modelGrace)) {
		m.open = false
	}
	if m.second == nil || now.Sub(m.heard) < time.Minute {
		return
	}
	switch {
	case m.second.mood == yes && !m.barred:
		m.open, m.barredBySec = true, false
	case m.second.mood == no && m.open && m.second.noSince.After(m.heard):
		m.open, m.barredBySec = false, true
	}
}

// serving returns whether the second store keeps the data open.
func (m *model) serving(now time.Time) bool {
	return m.open && m.second != nil && m.first.mood == silent && m.second.mood == yes &&
		now.Sub(m.heard) >= time.Minute
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
}

// set changes the mood of a store.
func (r *modelRun) set(s *modelStore, to mood) {
	s.mood = to
	r.vault(s).set(func(v *vault) {
		switch to {
		case yes:
			v.fail = nil
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
	err, s := r.read(spaceA), r.state(spaceA)
	serving := 0
	if r.model.serving(time.Now()) {
		serving = 1
	}
	if (err == nil) != r.model.open || s.Serving != serving {
		r.t.Fatalf("%q\nread: %v; the model says open %v, serving %d; it is %d\n%+v", r.log, err, r.model.open,
			serving, s.Serving, s)
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
	answers := func(s *modelStore) bool { return s == nil || s.mood == yes }
	switch r.random.IntN(10) {
	case 0:
		r.say("restart")
		r.halt()
		r.openCustody()
		r.run()
		m.open, m.heard = false, now
		m.first.lastYes, m.first.noSince = time.Time{}, time.Time{}
		if m.second != nil {
			m.second.lastYes, m.second.noSince = time.Time{}, time.Time{}
		}
	case 1: // add
		if m.second != nil {
			return
		}
		s := r.spare[0]
		if r.command("add "+s.name, answers(m.first) && answers(s), func() (custody.Operation, error) {
			return r.custody.AddStore(r.t.Context(), spaceA, r.newest(s), principal)
		}) {
			m.second, r.spare = s, r.spare[1:]
			m.second.noSince = time.Time{}
		}
	case 2: // remove the second
		if m.second == nil {
			return
		}
		if r.command("remove the second", answers(m.first), func() (custody.Operation, error) {
			return r.custody.RemoveStore(r.t.Context(), spaceA, r.key(m.second))
		}) {
			r.spare = append(r.spare, m.second)
			m.second = nil
		}
	case 3: // remove the first
		if m.second == nil {
			return
		}
		if r.command("remove the first", answers(m.first) && answers(m.second), func() (custody.Operation, error) {
			return r.custody.RemoveStore(r.t.Context(), spaceA, r.key(m.first))
		}) {
			r.spare = append(r.spare, m.first)
			m.first, m.second, m.heard = m.second, nil, now
		}
	case 4:
		allowed := m.second != nil && m.serving(now) && !m.barred && now.Sub(m.heard) >= time.Hour
		if r.command("promote", allowed, func() (custody.Operation, error) {
			return r.custody.PromoteStore(r.t.Context(), spaceA)
		}) {
			r.spare = append(r.spare, m.first)
			m.first, m.second, m.heard = m.second, nil, now
		}
	case 5: // the first moves to a new version, whatever the second does
		r.vault(m.first).add("k")
		r.command("rotate the first", answers(m.first), func() (custody.Operation, error) {
			return r.custody.Enable(r.t.Context(), spaceA, r.newest(m.first), principal)
		})
	case 6:
		if m.second == nil {
			return
		}
		r.vault(m.second).add("k")
		r.command("rotate the second", answers(m.first) && answers(m.second), func() (custody.Operation, error) {
			return r.custody.AddStore(r.t.Context(), spaceA, r.newest(m.second), principal)
		})
	case 7: // opens nothing by itself, and ends no refusal
		r.do("unlock", r.custody.Unlock)
	case 8:
		r.do("lock", r.custody.Lock)
		m.open = false
		r.ask()
		m.open = false
		r.check()
		r.do("unlock", r.custody.Unlock)
	case 9:
		r.do("delete", r.custody.Suspend)
		r.do("recover", r.custody.Recover)
		m.open, m.heard = false, time.Now()
	}
	r.settled(spaceA)
	time.Sleep(time.Millisecond)
}

func runModel(t *testing.T, seed uint64) {
	const third = "https://third.vault.example"
	r := &modelRun{storeAndVaults: newStoreAndVaultsWith(t, memory(), custody.Policy{Grace: modelGrace}),
		random: rand.New(rand.NewPCG(seed, 2))}
	r.vaults[third] = newVault(third)
	one, two := &modelStore{name: "first", mood: yes}, &modelStore{name: "second", mood: yes}
	r.spare = []*modelStore{{name: "third", mood: yes}}
	for _, v := range r.vaults {
		v.add("k")
	}
	r.run()
	r.enabled(spaceA, r.newest(one))
	if _, err := r.custody.AddStore(t.Context(), spaceA, r.newest(two), principal); err != nil {
		t.Fatal(err)
	}
	r.model = model{first: one, second: two}
	r.ask()
	time.Sleep(time.Millisecond) // no two answers have the same time
	pauses := []time.Duration{5 * time.Second, 20 * time.Second, 45 * time.Second, 61 * time.Second, 65 * time.Second,
		2 * time.Minute, 9 * time.Minute, 11 * time.Minute, 65 * time.Minute}
	for range 6 {
		moods := []mood{yes, yes, silent, silent, no}
		for _, s := range append([]*modelStore{r.model.first, r.model.second}, r.spare...) {
			if s != nil && r.random.IntN(2) == 0 {
				r.set(s, moods[r.random.IntN(len(moods))])
				r.say("%s: %s", s.name, s.mood)
			}
		}
		r.ask()
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

// TestStoresAgainstModel compares a thousand random sequences of silence, no and yes of two stores, with restarts, and
// with changes of the stores, locks, unlocks and deletions in between, with the model.
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
