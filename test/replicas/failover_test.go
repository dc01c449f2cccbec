//go:build linux

package replicas_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// afterFailover is how much longer than its database the service may be away.
const afterFailover = 2 * time.Second

// TestAttackNetwork has machines on a network of their own: three replicas, a PostgreSQL with a synchronous standby
// under Patroni, and clients. Machines lose power and network, and clocks jump.
func TestAttackNetwork(t *testing.T) {
	if *attackFor == 0 {
		t.Skip("run make prove-replicas")
	}
	n := newNetwork(t)
	p := newPair(t, n)
	c := newCluster(t, 3, true, p.url())
	c.cut = 1 // as in TestAttack
	c.users = n.join("users")
	for _, r := range c.replicas {
		r.machine = n.join("replica" + r.name)
		r.listen = r.machine.address + ":8443"
	}
	c.startAll()
	f := &failovers{pair: p, cluster: c}
	faults := []fault{
		{"replica without network", c.unplugOne},
		{"killed primary", f.of(p.killDatabase, nil)},
		{"replica cut from the database", f.cutOne},
		{"primary without power", f.of(func(s *computer) error { s.cutPower(); return nil }, (*computer).powerUp)},
		{"killed replica", c.killOne},
		{"primary without network", f.of((*computer).unplug, (*computer).plug)},
		{"paused replica", c.pauseOne},
		{"standby without power", f.standbyWithoutPower},
	}
	if skewable {
		faults = append(faults, fault{"clock of a replica jumps", c.skewOne}, fault{"and once more", c.skewOne})
	}
	attack(t, c, "machines without power and network, and a database with a standby", faults)
	report(t, f.report())
	for _, o := range f.outages {
		if o.service > o.database+afterFailover {
			t.Errorf("%s: the service was away for %v, and its database for %v", o.what, o.service, o.database)
		}
	}
}

func (m *machine) cutFor(ctx context.Context, longest time.Duration) error {
	if err := m.unplug(); err != nil {
		return err
	}
	pause(ctx, rand.N(longest))
	return m.plug()
}

func (c *cluster) unplugOne(ctx context.Context) error {
	return c.some().machine.cutFor(ctx, 20*time.Second)
}

// skewOne sets the clock of a replica, until it starts again or its clock is set once more.
func (c *cluster) skewOne(ctx context.Context) error {
	by := []time.Duration{-10 * time.Minute, -time.Minute, 0, time.Minute, 10 * time.Minute}[rand.IntN(5)]
	r := c.some()
	c.t.Logf("the clock of replica %s: %v", r.name, by)
	return setClock(ctx, r.cmd.Process.Pid, by)
}

// failovers takes the primary away, and measures how long the database and the service were away.
type failovers struct {
	*pair
	cluster *cluster
	outages []outage
}

// outage is how long a server of the database took to accept writes after the primary had gone, and each replica to
// acknowledge some.
type outage struct {
	what              string
	database, service time.Duration
}

// cutOne cuts a replica from both servers of the database; clients still reach it.
func (f *failovers) cutOne(ctx context.Context) error {
	m := f.cluster.some().machine
	if err := m.cutFrom(f.servers[0].machine, f.servers[1].machine); err != nil {
		return err
	}
	pause(ctx, rand.N(20*time.Second))
	return m.mend()
}

func (f *failovers) standbyWithoutPower(ctx context.Context) error {
	s := f.standby(ctx)
	s.cutPower()
	pause(ctx, rand.N(10*time.Second))
	if err := s.powerUp(); err != nil {
		return err
	}
	return f.whole(ctx)
}

// of returns a fault of the primary: what takes it away, and what brings it back once the other server is the primary.
func (f *failovers) of(take, bring func(*computer) error) func(context.Context) error {
	return func(ctx context.Context) error {
		primary := f.primary(ctx)
		if primary == nil {
			return errors.New("there is no primary")
		}
		other := f.standby(ctx)
		begun := time.Now()
		if err := take(primary); err != nil {
			return err
		}
		// The measurement ends before the attack does.
		o, err := f.measure(context.WithoutCancel(ctx), begun, other)
		if err != nil {
			return err
		}
		f.outages = append(f.outages, o)
		if bring != nil {
			if err := bring(primary); err != nil {
				return err
			}
		}
		return f.whole(ctx)
	}
}

// measure waits until a server of the database accepts writes, and each replica has acknowledged some.
func (f *failovers) measure(ctx context.Context, begun time.Time, other *computer) (outage, error) {
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	o := outage{what: "loss of the primary"}
	var all sync.WaitGroup
	var failed error
	all.Go(func() {
		failed = f.writable(ctx, other)
		o.database = time.Since(begun)
	})
	served := make([]time.Duration, len(f.cluster.replicas))
	for i, r := range f.cluster.replicas {
		all.Go(func() {
			at, err := r.client()
			for err == nil && ctx.Err() == nil {
				a, asked := acknowledged(ctx, at)
				if asked == nil && a.status == http.StatusOK {
					served[i] = time.Since(begun)
					return
				}
				pause(ctx, 50*time.Millisecond)
			}
		})
	}
	all.Wait()
	for i, s := range served {
		if s == 0 {
			return o, fmt.Errorf("replica %c has acknowledged nothing two minutes after the loss of the primary", 'A'+i)
		}
		o.service = max(o.service, s)
	}
	return o, failed
}

// acknowledged makes a replica write, with a resource's tags, and waits for three seconds.
func acknowledged(ctx context.Context, at *client) (answer, error) {
	ctx, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	return at.arm(ctx, http.MethodPatch, account("default"), `{"tags":{"written":"`+time.Now().String()+`"}}`)
}

// writable waits until a server of the database accepts a write.
func (f *failovers) writable(ctx context.Context, s *computer) error {
	conf, err := pgx.ParseConfig("postgres://postgres@" + s.address +
		":5432/postgres?sslmode=verify-full&sslrootcert=" + f.authority)
	if err != nil {
		return err
	}
	conf.DialFunc = s.dial
	try := func() error {
		ctx, stop := context.WithTimeout(ctx, 2*time.Second)
		defer stop()
		conn, err := pgx.ConnectConfig(ctx, conf)
		if err != nil {
			return err
		}
		defer conn.Close(ctx) // what is written is committed
		for {
			if _, err = conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS accepted (at timestamptz); "+
				"INSERT INTO accepted VALUES (now())"); err == nil || ctx.Err() != nil {
				return err
			}
			pause(ctx, 10*time.Millisecond)
		}
	}
	for err = try(); err != nil; err = try() {
		if ctx.Err() != nil {
			return fmt.Errorf("the standby did not become the primary: %w", err)
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}

func (f *failovers) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Loss of the primary\n\nPatroni has %s. The service is the last of three replicas to "+
		"acknowledge a write.\n\n| database away | service away | difference |\n| --- | --- | --- |\n", patroniTiming)
	for _, o := range f.outages {
		fmt.Fprintf(&b, "| %.1f s | %.1f s | %.1f s |\n", o.database.Seconds(), o.service.Seconds(),
			(o.service - o.database).Seconds())
	}
	return b.String()
}

// TestReplicasAreReplaced restarts replicas one after another, and kills one, while clients use them that repeat a
// request once, at another replica: no request fails.
func TestReplicasAreReplaced(t *testing.T) {
	t.Parallel() // most of the time it waits
	c := newCluster(t, 2, true, newDatabase(t))
	c.startAll()
	a := newSite(t, c.replicas[0])
	must(a.face(t.Context(), "PUT", "largefacelists/guests",
		`{"name":"g","recognitionModel":"recognition_04"}`)).want(t, 200)
	users := startUsers(t, c, a.key)
	for _, r := range c.replicas {
		users.meanwhile(t, r.stop)
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		users.refresh(t, r)
	}
	users.meanwhile(t, c.replicas[0].kill)
	if err := c.replicas[0].start(); err != nil {
		t.Fatal(err)
	}
	users.refresh(t, c.replicas[0])
	users.meanwhile(t, func() {})
	users.end(t)
}

// users use replicas at the same time, and repeat what fails once, at another replica.
type users struct {
	stop    context.CancelFunc
	all     sync.WaitGroup
	clients []atomic.Pointer[client]
	done    atomic.Int64
	again   atomic.Int64
	mu      sync.Mutex
	failed  []string
	added   []string // ids of faces that were acknowledged
}

func startUsers(t *testing.T, c *cluster, key string) *users {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	u := &users{stop: stop, clients: make([]atomic.Pointer[client], len(c.replicas))}
	t.Cleanup(func() { stop(); u.all.Wait() })
	for i, r := range c.replicas {
		u.refresh(t, r)
		for n := range 3 {
			u.all.Go(func() {
				w := &workload{}
				w.photos.Store(int64(1000 * (3*i + n)))
				for ctx.Err() == nil {
					u.use(ctx, i, key, "POST", "largefacelists/guests/persistedfaces", w.photo("somebody"))
					u.use(ctx, i, key, "POST", "detect?recognitionModel=recognition_04", w.photo("somebody"))
					u.use(ctx, i, key, "GET", "largefacelists/guests", nil)
				}
			})
		}
	}
	return u
}

// refresh takes the address of a replica that has started.
func (u *users) refresh(t *testing.T, r *replica) {
	t.Helper()
	c, err := r.client()
	if err != nil {
		t.Fatal(err)
	}
	u.clients[r.name[0]-'A'].Store(c)
}

// use makes a request at one replica, and if it fails at the next one.
func (u *users) use(ctx context.Context, at int, key, method, path string, body any) {
	for try := range 2 {
		c := u.clients[(at+try)%len(u.clients)].Load()
		a, ok := askAs(ctx, c, key, method, path, body)
		switch {
		case ok && a.status < 300:
			u.done.Add(1)
			if id := a.text("persistedFaceId"); id != "" {
				u.mu.Lock()
				u.added = append(u.added, id)
				u.mu.Unlock()
			}
			return
		case ctx.Err() != nil:
			return
		case try == 0:
			u.again.Add(1)
		default:
			u.mu.Lock()
			u.failed = append(u.failed, fmt.Sprintf("%s %s: %s", method, path, a))
			u.mu.Unlock()
		}
	}
}

// forgive forgets the requests that have failed twice until now.
func (u *users) forgive() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed = nil
}

// meanwhile waits, after what it does, until users have made some more requests.
func (u *users) meanwhile(t *testing.T, do func()) {
	t.Helper()
	do()
	before := u.done.Load()
	soon(t, "requests go on", func() bool { return u.done.Load() > before+100 })
}

func (u *users) end(t *testing.T) {
	t.Helper()
	u.stop()
	u.all.Wait()
	t.Logf("%d requests, of which %d were repeated", u.done.Load(), u.again.Load())
	for _, f := range u.failed {
		t.Errorf("failed twice: %s", f)
	}
	if u.again.Load() == 0 {
		t.Error("no replica was away while it was used")
	}
}
