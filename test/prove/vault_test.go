package prove_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	random "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// counted is the only record of a resource in the storm: a number that only rises.
type counted struct {
	N int
}

var numbers = sealed.NewTable[counted]("prove.numbers", 1)

// storm is resources under customers' keys in vaults behind a bad network, in a bubble, served by replicas.
type storm struct {
	t        *testing.T
	vaults   *stormyVaults
	policy   custody.Policy
	all      []*resource
	replicas []*stormReplica
	turn     atomic.Uint64 // of the replicas, which are used one after the other
}

// stormReplica is one of the processes that serve the resources.
type stormReplica struct {
	open    func() *sealed.Store
	store   *sealed.Store
	inside  chan struct{} // holds a token for each user; a mutex would stop the bubble's time
	custody *custody.Custody
	running atomic.Pointer[custody.Custody] // the same, for the store
	halt    func()
}

// mostInside is how many may use custody at once.
const mostInside = 64

// resource is one of the storm's resources, with its true state.
type resource struct {
	id    sealed.SpaceID
	vault string

	mu        sync.Mutex
	granted   bool      // its vault allows its keys to be used
	withdrawn time.Time // since when its vault denies them; zero: it does not

	acked int // the last stored number, used by its observer only
}

func newStorm(
	t *testing.T, replicas, n int, policy custody.Policy, pairs []*rsa.PrivateKey, chance *random.Rand,
) *storm {
	t.Helper()
	memory := func(engine string, root *sourcetest.Fake, report func(sealed.Event)) *sealed.Store {
		store, err := sealed.Open(t.Context(), sealed.Config{
			Engine: "memory:" + engine, Shared: engine != "", Report: report,
			Protectors: []sealed.Protector{{Name: "fake", Kind: "fake", Source: root}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	s := &storm{t: t, policy: policy}
	engine, root := "", sourcetest.NewFake("service")
	if replicas > 1 {
		engine = t.Name()
	}
	for range replicas {
		at := &stormReplica{inside: make(chan struct{}, mostInside)}
		at.open = func() *sealed.Store {
			return memory(engine, root, func(e sealed.Event) { // custody hears of the locks of its store
				if c := at.running.Load(); c != nil && errors.Is(e.Err, sealed.ErrLockedElsewhere) {
					c.LockedElsewhere(e.Space)
				}
			})
		}
		at.store = at.open()
		s.replicas = append(s.replicas, at)
	}
	s.vaults = newStormyVaults(t, memory("", sourcetest.NewFake("vaults"), nil), pairs, chance)
	for i := range n {
		r := &resource{id: sealed.SpaceID{1, byte(i)}, vault: fmt.Sprintf("vault%03d", i), granted: true}
		if err := s.any().store.Spaces().Create(t.Context(), r.id); err != nil {
			t.Fatal(err)
		}
		s.vaults.vault(r.vault)
		s.all = append(s.all, r)
		s.raise(s.any(), r)
	}
	for _, one := range s.replicas {
		s.start(one)
	}
	return s
}

// any returns a replica, the next one with each call.
func (s *storm) any() *stormReplica { return s.replicas[s.turn.Add(1)%uint64(len(s.replicas))] }

// start creates a custody and runs it; the one before has ended.
func (s *storm) start(at *stormReplica) {
	cfg := azure.Config{Hosts: []string{"." + vaultSuffix}, Roots: s.vaults.roots, Dial: s.vaults.listener.dial}
	shared := azure.NewVaults(cfg) // as in a server
	c, err := custody.New(s.t.Context(), custody.Config{
		Store: at.store, Audit: audit.Discard{}, Policy: s.policy,
		Open: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return azure.NewVaults(cfg).Open(key, vaultCredential{as})
		},
		Watch: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return shared.Open(key, vaultCredential{as})
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			s.t.Errorf("run custody: %v", err)
		}
	}()
	at.running.Store(c)
	at.custody, at.halt = c, func() { cancel(); <-ended }
}

// restart ends custody of each replica when it is not in use, and starts another, over a store that is opened anew if
// another replica keeps what it has.
func (s *storm) restart() {
	for _, at := range s.replicas {
		for range mostInside {
			at.inside <- struct{}{}
		}
		at.halt()
		if len(s.replicas) > 1 {
			if err := at.store.Close(); err != nil {
				s.t.Error(err)
			}
			at.store = at.open()
		}
		s.start(at)
		for range mostInside {
			<-at.inside
		}
	}
}

// with runs do with the present custody of a replica.
func (s *storm) with(do func(c *custody.Custody)) { s.any().with(do) }

func (at *stormReplica) with(do func(c *custody.Custody)) {
	at.inside <- struct{}{}
	defer func() { <-at.inside }()
	do(at.custody)
}

// end stops custody and waits until its idle connections have closed.
func (s *storm) end() {
	for _, at := range s.replicas {
		at.halt()
		if err := at.store.Close(); err != nil {
			s.t.Error(err)
		}
	}
	time.Sleep(5 * time.Minute)
}

func (s *storm) state(at *stormReplica, r *resource) (state custody.Status) {
	at.with(func(c *custody.Custody) {
		var err error
		if state, err = c.Status(s.t.Context(), r.id); err != nil {
			s.t.Errorf("state of %s: %v", r.vault, err)
		}
	})
	return state
}

// raise stores the next number.
func (s *storm) raise(at *stormReplica, r *resource) error {
	err := at.store.Space(r.id).Update(s.t.Context(), func(tx sealed.Tx) error {
		return numbers.In().Put(tx, "n", counted{r.acked + 1})
	})
	if err == nil {
		r.acked++
	}
	return err
}

// read reads the number; a number other than the last stored one fails the test.
func (s *storm) read(at *stormReplica, r *resource) error {
	return at.store.Space(r.id).View(s.t.Context(), func(rd sealed.Reader) error {
		got, err := numbers.In().Get(rd, "n")
		if err == nil && got.N != r.acked {
			s.t.Errorf("%s: read %d, but %d was stored", r.vault, got.N, r.acked)
		}
		return err
	})
}

// use reads or writes, and returns the outcome in the words of the lifecycle: "" for success, else the code of the
// refusal.
func (s *storm) use(at *stormReplica, r *resource, write bool) string {
	at.inside <- struct{}{}
	defer func() { <-at.inside }()
	err := s.read(at, r)
	if err == nil && write {
		err = s.raise(at, r)
	}
	refusal, ok := errors.AsType[*visage.Refusal](err)
	switch {
	case err == nil:
		return ""
	case ok:
		return refusal.Code
	case errors.Is(err, sealed.ErrLockedElsewhere): // before custody has looked
		return "locked elsewhere"
	case errors.Is(err, sealed.ErrGrace): // before custody has locked: the lease ends by itself
		return answers[custody.Unavailable]
	}
	s.t.Errorf("%s: %v", r.vault, err)
	return "error"
}

// grant makes the vault allow or deny the keys, in one of three ways.
func (s *storm) grant(r *resource, on bool, way int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx := s.t.Context()
	var err error
	switch way % 3 {
	case 0:
		_, err = s.vaults.keys.UpdateVault(ctx, officer(), r.vault, func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = vaultPolicies(on)
			return v, nil
		})
	case 1:
		for _, ref := range s.vaults.versions(r.vault) {
			_, e := s.vaults.keys.UpdateKey(ctx, officer(), ref, keyvault.KeyChange{Enabled: &on})
			err = errors.Join(err, e)
		}
	case 2:
		for _, name := range []string{"one", "two"} {
			do := s.vaults.keys.DeleteKey
			if on {
				do = s.vaults.keys.RecoverKey
			}
			_, e := do(ctx, officer(), keyvault.Ref{Vault: r.vault, Name: name})
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		s.t.Errorf("%s: grant %t, way %d: %v", r.vault, on, way, err)
	}
	r.granted, r.withdrawn = on, time.Time{}
	if !on {
		r.withdrawn = time.Now()
	}
}

// enable encrypts a resource with its first key and waits until the change is complete.
func (s *storm) enable(r *resource) {
	s.t.Helper()
	for _, name := range []string{"two", "one"} {
		key, err := s.vaults.key(r.vault, name)
		if err != nil {
			s.t.Fatal(err)
		}
		if name == "one" {
			s.with(func(c *custody.Custody) {
				key.Version = ""
				if _, err := c.Enable(s.t.Context(), r.id, key, vaultIdentity); err != nil {
					s.t.Fatal(err)
				}
			})
		}
	}
	s.until(r, time.Minute, func(st custody.Status) bool {
		return st.Condition == custody.Active && st.Operation.Progress == custody.Succeeded
	})
}

// until waits for a state at all replicas and returns how long that took.
func (s *storm) until(r *resource, most time.Duration, is func(custody.Status) bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for _, at := range s.replicas {
		for !is(s.state(at, r)) {
			if time.Since(began) > most {
				s.t.Errorf("%s: not in %v: %+v", r.vault, most, s.state(at, r))
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return time.Since(began)
}

// answers is the answer to data requests in each condition of the lifecycle.
var answers = map[custody.Condition]string{
	custody.ServiceManaged: "", custody.Active: "", custody.Degraded: "",
	custody.Revoked: "EncryptionKeyRevoked", custody.Locked: "EncryptionKeyRevoked",
	custody.Unavailable: "EncryptionKeyUnavailable",
}

// TestVaultStorm runs every kind of change on resources while their owners revoke and restore keys, half of all
// requests to the vaults fail in every way of a network or a lying proxy, and the service restarts sometimes. At any
// time, each resource is in a state of the lifecycle, its data is answered as that state says, no stored number is lost
// or changed, nothing is served for longer than the grace after the vault denied the key, and when the faults end all
// resources recover within minutes.
func TestVaultStorm(t *testing.T) {
	t.Run("one server", func(t *testing.T) { vaultStorm(t, 1) })
	t.Run("two replicas", func(t *testing.T) { vaultStorm(t, 2) })
}

func vaultStorm(t *testing.T, replicas int) {
	r := chance(t)
	resources, hours := 4, 1
	if n := rounds(t, 0); n > 0 {
		resources, hours = 12, n
	}
	pairs := someKeys(t, 5)
	var met map[custody.Condition]int
	var did map[fault]int
	var looks, changes, recovered int
	var slowest time.Duration
	synctest.Test(t, func(t *testing.T) {
		const grace = 10 * time.Minute
		s := newStorm(t, replicas, resources, custody.Policy{Grace: grace}, pairs,
			random.New(random.NewPCG(r.Uint64(), 1)))
		for _, one := range s.all {
			s.enable(one)
		}
		s.vaults.turn(weather{"storm", 0.5, allFaults})
		ctx, stop := context.WithTimeout(t.Context(), time.Duration(hours)*time.Hour)
		defer stop()
		var actors sync.WaitGroup
		met = map[custody.Condition]int{}
		var mu sync.Mutex // guards the counts
		for i, one := range s.all {
			walk, watch := random.New(random.NewPCG(r.Uint64(), uint64(i))),
				random.New(random.NewPCG(r.Uint64(), uint64(i)))
			actors.Go(func() {
				n := s.walk(ctx, one, walk)
				mu.Lock()
				defer mu.Unlock()
				changes += n
			})
			actors.Go(func() {
				seen := s.watch(ctx, one, watch, grace)
				mu.Lock()
				defer mu.Unlock()
				for cond, n := range seen {
					met[cond] += n
					looks += n
				}
			})
		}
		for pause(ctx, 23*time.Minute) {
			s.restart()
		}
		actors.Wait()
		s.vaults.turn(weather{})
		for _, one := range s.all {
			s.with(func(c *custody.Custody) {
				if err := c.Unlock(t.Context(), one.id); err != nil && !isRefusal(err) {
					t.Errorf("unlock %s: %v", one.vault, err)
				}
			})
			if !one.granted {
				for _, way := range []int{2, 0, 1} { // undo all three ways, whichever was used
					s.giveBack(one, way)
				}
			}
			took := s.until(one, 5*time.Minute, func(st custody.Status) bool {
				return answers[st.Condition] == "" && st.Operation.Progress != custody.Running &&
					s.use(s.any(), one, true) == ""
			})
			slowest = max(slowest, took)
			recovered++
		}
		did = s.vaults.counts()
		s.end()
	})
	for cond, want := range answers {
		if met[cond] == 0 && hours > 1 {
			t.Errorf("no resource was ever %s (data answered with %q): the storm did not cover it", cond, want)
		}
		t.Attr("looks-"+string(cond), fmt.Sprint(met[cond]))
	}
	total := 0
	for _, f := range append([]fault{pass}, allFaults...) {
		total += did[f]
		if did[f] == 0 && hours > 1 {
			t.Errorf("the proxy never applied %q", f)
		}
	}
	t.Attr("requests", fmt.Sprint(total))
	t.Attr("faults", fmt.Sprint(total-did[pass]))
	t.Attr("changes", fmt.Sprint(changes))
	t.Attr("looks", fmt.Sprint(looks))
	t.Attr("resources-well-in-the-end", fmt.Sprintf("%d-of-%d", recovered, resources))
	t.Attr("slowest-to-be-well", slowest.String())
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*visage.Refusal](err)
	return ok
}

// giveBack undoes one way of denying, also if another was used.
func (s *storm) giveBack(r *resource, way int) {
	if way == 2 {
		for _, name := range []string{"one", "two"} {
			_, err := s.vaults.keys.RecoverKey(s.t.Context(), officer(), keyvault.Ref{Vault: r.vault, Name: name})
			if err != nil && !isRefusal(err) {
				s.t.Errorf("recover %s: %v", name, err)
			}
		}
		return
	}
	s.grant(r, true, way)
}

// walk changes a resource at random times until ctx ends, and returns how often.
func (s *storm) walk(ctx context.Context, r *resource, chance *random.Rand) (n int) {
	way := 0
	for ; pause(ctx, 30*time.Second+time.Duration(chance.Int64N(int64(4*time.Minute)))); n++ {
		name := []string{"one", "two"}[chance.IntN(2)]
		var err error
		switch draw := chance.IntN(100); {
		case draw < 30 && r.granted:
			way = chance.IntN(3)
			s.grant(r, false, way)
		case draw < 50 || !r.granted && draw < 75:
			if !r.granted {
				s.grant(r, true, way)
			}
		case draw < 70:
			var key visage.KeyRef
			if key, err = azure.ParseKey("https://"+r.vault+"."+vaultSuffix, name, ""); err == nil {
				s.with(func(c *custody.Custody) { _, err = c.Enable(ctx, r.id, key, vaultIdentity) })
			}
		case draw < 74:
			s.with(func(c *custody.Custody) { _, err = c.Disable(ctx, r.id) })
		case draw < 86:
			if r.granted {
				_, err = s.vaults.key(r.vault, name) // a new version, which is followed
			}
		case draw < 88:
			s.with(func(c *custody.Custody) { err = c.Lock(ctx, r.id) })
		case draw < 98:
			s.with(func(c *custody.Custody) { err = c.Unlock(ctx, r.id) })
		default:
			s.with(func(c *custody.Custody) {
				c.Recheck(visage.KeyRef{Vault: "https://" + r.vault + "." + vaultSuffix, Name: name})
			})
		}
		if err != nil && !isRefusal(err) && ctx.Err() == nil {
			s.t.Errorf("%s: %v", r.vault, err)
		}
	}
	return n
}

// watch observes a resource until ctx ends, and counts the states it has seen.
func (s *storm) watch(
	ctx context.Context, r *resource, chance *random.Rand, grace time.Duration,
) map[custody.Condition]int {
	const settling = 10 * time.Second // the time in which running requests end and a change of state is visible
	seen := map[custody.Condition]int{}
	// since when state and data contradict each other at a replica: each asks the vault by itself
	contradicts := map[*stormReplica]time.Time{}
	for pause(ctx, time.Second+time.Duration(chance.Int64N(int64(6*time.Second)))) {
		at := s.any()
		before := s.state(at, r)
		code := s.use(at, r, chance.IntN(3) == 0)
		after := s.state(at, r)
		seen[after.Condition]++
		want, named := answers[after.Condition]
		if !named {
			s.t.Errorf("%s: unknown state %q", r.vault, after.Condition)
		}
		if op := after.Operation; op.ID != "" && op.Progress != custody.Running && op.Progress != custody.Succeeded &&
			op.Progress != custody.Failed {
			s.t.Errorf("%s: the operation is %+v", r.vault, op)
		}
		if after.Code != want {
			s.t.Errorf("%s: %s has the code %q, want %q", r.vault, after.Condition, after.Code, want)
		}
		switch since := contradicts[at]; {
		case code == want || before.Condition != after.Condition:
			delete(contradicts, at)
		case since.IsZero():
			contradicts[at] = time.Now()
		case time.Since(since) > settling:
			s.t.Errorf("%s: %s since %v, but its data is answered with %q", r.vault, after.Condition, after.Since, code)
			delete(contradicts, at)
		}
		r.mu.Lock()
		withdrawn := r.withdrawn
		r.mu.Unlock()
		if code == "" && !withdrawn.IsZero() && time.Since(withdrawn) > grace+time.Minute &&
			after.Operation.Progress != custody.Running &&
			(after.Condition == custody.Active || after.Condition == custody.Degraded) {
			s.t.Errorf("%s: served %v after the vault denied the key: %+v", r.vault, time.Since(withdrawn), after)
		}
	}
	return seen
}

// TestTimeToBlock measures for how long data is still served after a customer has revoked the key, and still refused
// after it was restored, in good and bad weather.
func TestTimeToBlock(t *testing.T) {
	r := chance(t)
	resources, each := 5, 1
	if n := rounds(t, 0); n > 0 {
		resources, each = 50, max(1, n/10)
	}
	pairs := someKeys(t, 5)
	const grace = 15 * time.Minute
	const minute = time.Minute
	for _, c := range []struct {
		weather
		block, recover time.Duration // at most
	}{
		{weather{"clear", 0, nil}, minute, minute},
		{weather{"slow", 1, []fault{late}}, minute, minute},
		{weather{"lossy", 0.5, losses}, grace + minute, grace},
		{weather{"throttled", 0.5, burdens}, grace + minute, grace},
		{weather{"lying", 0.2, slices.Concat(nonsense, lies)}, grace + minute, grace},
		{weather{"storm", 0.5, allFaults}, grace + minute, 2 * grace},
		{weather{"dark", 1, []fault{dropped}}, grace + minute, minute}, // restored when the outage ends
	} {
		var block, back []time.Duration
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(t, 1, resources, custody.Policy{Grace: grace}, pairs,
				random.New(random.NewPCG(r.Uint64(), 1)))
			for _, one := range s.all {
				s.enable(one)
			}
			for range each {
				s.vaults.turn(weather{})
				for _, one := range s.all {
					s.until(one, 2*minute, func(st custody.Status) bool { return st.Condition == custody.Active })
				}
				s.vaults.turn(c.weather)
				block = append(block, s.each(func(i int, one *resource) time.Duration {
					s.grant(one, false, i)
					return s.while(one, c.block, func(code string) bool { return code == "" })
				})...)
				if c.share == 1 && c.what[0] == dropped {
					s.vaults.turn(weather{})
				}
				back = append(back, s.each(func(i int, one *resource) time.Duration {
					s.grant(one, true, i)
					return s.while(one, c.recover, func(code string) bool { return code != "" })
				})...)
			}
			s.end()
		})
		for what, took := range map[string][]time.Duration{"block": block, "recover": back} {
			slices.Sort(took)
			at := func(p int) time.Duration {
				return took[min(len(took)*p/100, len(took)-1)].Round(100 * time.Millisecond)
			}
			t.Attr(c.name+"-"+what, fmt.Sprintf("p50-%v-p99-%v-max-%v-of-%d", at(50), at(99), at(100), len(took)))
		}
	}
}

// each runs do for every resource, each at a time of its own.
func (s *storm) each(do func(int, *resource) time.Duration) []time.Duration {
	took := make([]time.Duration, len(s.all))
	var all sync.WaitGroup
	for i, one := range s.all {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 700 * time.Millisecond)
			took[i] = do(i, one)
		})
	}
	all.Wait()
	return took
}

// while waits while so holds for the data's answer, and returns how long that was.
func (s *storm) while(r *resource, most time.Duration, so func(code string) bool) time.Duration {
	began := time.Now()
	for so(s.use(s.any(), r, false)) {
		if time.Since(began) > most {
			s.t.Errorf("%s: still so after %v: %+v", r.vault, most, s.state(s.any(), r))
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}
