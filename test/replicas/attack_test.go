//go:build linux

package replicas_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/test/postgres"
)

var (
	attackFor  = flag.Duration("attack", 0, "attack three replicas for so long each; 0: not at all")
	reportFile = flag.String("report", "", "file for the report of the attack, in Markdown")
)

// Promises of docs/operations/cluster.md, as far as they hold whatever happens to a replica that answers.
const (
	// A replica answers from no directory that it has not compared with the store for a second.
	formerKeyFor = time.Second
	// Every replica asks a customer's key by itself within a minute.
	disabledKeyFor = time.Minute
	// When one replica has been refused by the key, the others close the data within a second.
	refusedKeyFor = time.Second
	// A key that is enabled again is asked within this time.
	enabledKeyAfter = time.Minute
)

// fault is something that happens to a cluster while clients use it. It is over when it returns.
type fault struct {
	name string
	do   func(ctx context.Context) error
}

// TestAttack kills and pauses replicas, and breaks the database's connections and processes, while clients use them.
func TestAttack(t *testing.T) {
	if *attackFor == 0 {
		t.Skip("run make prove-replicas")
	}
	c := newCluster(t, 3, true, newDatabase(t))
	c.cut = 1 // a few people, so that replicas search groups together
	c.startAll()
	attack(t, c, "killed and paused replicas, and a database that crashes", []fault{
		{"killed replica", c.killOne},
		{"paused replica", c.pauseOne},
		{"cut connections to the database", c.cutConnections},
		{"crash of the database", c.crashDatabase},
	})
}

// some returns a replica by chance.
func (c *cluster) some() *replica { return c.replicas[rand.IntN(len(c.replicas))] }

func (c *cluster) killOne(ctx context.Context) error {
	r := c.some()
	r.kill()
	pause(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
	return r.start()
}

// pauseOne stops a replica for less or more than others wait before they take over its place.
func (c *cluster) pauseOne(ctx context.Context) error {
	r := c.some()
	if err := r.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, []time.Duration{time.Second, 5 * time.Second, 20 * time.Second}[rand.IntN(3)])
	return r.signal(syscall.SIGCONT)
}

// cutConnections ends the sessions of all replicas.
func (c *cluster) cutConnections(context.Context) error {
	return postgres.Shared(c.t).Try("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
		"WHERE application_name = 'visage'")
}

// crashDatabase kills a process of the database, which then ends all sessions and recovers from its log.
func (c *cluster) crashDatabase(context.Context) error {
	for {
		pid := postgres.Shared(c.t).Exec(c.t, "postgres", "SELECT pid FROM pg_stat_activity "+
			"WHERE application_name = 'visage' LIMIT 1")
		n, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		if err := syscall.Kill(n, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
}

func (r *replica) signal(s syscall.Signal) error { return r.cmd.Process.Signal(s) }

// attack has clients use a cluster while faults happen to it, one after another, and then checks what they were told.
func attack(t *testing.T, c *cluster, title string, faults []fault) {
	w := newWorkload(t, c)
	ctx, stop := context.WithTimeout(t.Context(), *attackFor)
	defer stop()
	var all sync.WaitGroup
	var disabled atomic.Pointer[closure]
	open := make([]atomic.Bool, len(w.clients))
	for id := range 3 {
		all.Go(func() { w.liveFaces(ctx, id) })
		all.Go(func() { w.look(ctx, 10+id) })
		all.Go(func() { w.resources(ctx, 60+id) })
		all.Go(func() { w.serves(ctx, 80+id) })
	}
	for id := range 2 {
		all.Go(func() { w.people(ctx, 20+id) })
		all.Go(func() { w.uses(ctx, 30+id) })
		all.Go(func() { w.reads(ctx, open, &disabled) })
	}
	all.Go(func() { w.locks(ctx, 40) })
	all.Go(func() { w.revokes(ctx, &disabled) })
	all.Go(func() { w.rotates(ctx, 50) })
	all.Go(func() { w.usesTurned(ctx) })
	all.Go(func() { w.turns(ctx, 70) })
	all.Go(func() { w.shows(ctx, 71) })
	all.Go(func() { w.regenerates(ctx) })

	counts := map[string]int{}
	for n := 0; ctx.Err() == nil; n++ {
		pause(ctx, time.Duration(1000+rand.IntN(3000))*time.Millisecond)
		f := faults[n%len(faults)]
		t.Logf("%8.3fs %s", time.Since(w.history.begun).Seconds(), f.name)
		if err := f.do(ctx); err != nil {
			t.Errorf("%s: %v", f.name, err)
			stop()
		}
		counts[f.name]++
	}
	all.Wait()
	w.settle()
	registers, bad := w.history.check()
	for _, b := range bad {
		t.Errorf("no order of these operations explains their answers: %s", b)
	}
	for _, said := range w.history.wrong {
		t.Error(said)
	}
	troubles, wrong := w.heard.report()
	for _, said := range wrong {
		t.Error(said)
	}
	if w.stale.d > formerKeyFor {
		t.Errorf("a former API key was accepted %v after its end", w.stale.d)
	}
	if w.grant.d > disabledKeyFor {
		t.Errorf("data was served %v after its key was disabled", w.grant.d)
	}
	if w.refused.d > refusedKeyFor {
		t.Errorf("data was served %v after another replica had refused it", w.refused.d)
	}
	if w.opened.d > enabledKeyAfter {
		t.Errorf("data was closed for %v after its key was enabled", w.opened.d)
	}
	for _, r := range c.replicas {
		if damage := r.damage.String(); damage != "" {
			t.Errorf("replica %s found damage:\n%s", r.name, damage)
		}
		wantPartitions(t, r)
	}
	report(t, w.report(title, counts, troubles, registers, len(bad)))
}

// newWorkload makes the resources that clients use.
func newWorkload(t *testing.T, c *cluster) *workload {
	t.Helper()
	w := &workload{t: t, history: newHistory(), heard: newAnswers()}
	for _, r := range c.replicas {
		s, err := r.client()
		if err != nil {
			t.Fatal(err)
		}
		s.heard = w.heard
		w.clients = append(w.clients, s)
	}
	a := newSite(t, c.replicas[0])
	w.current.Store(&apiKey{text: a.key})
	a.vaultFor("safe")
	w.owned, w.revoked, w.turned = a.resourceUnder("owned"), a.resourceUnder("revoked"), a.resourceUnder("turned")
	for _, s := range []*client{w.owned, w.revoked, w.turned} {
		soon(t, "a group under a customer's key", func() bool {
			a := must(s.face(t.Context(), "PUT", "persongroups/guests",
				`{"name":"g","recognitionModel":"recognition_04"}`))
			return a.status == http.StatusOK || a.status == http.StatusConflict
		})
	}
	w.history = newHistory()
	root := must(a.manage(t.Context(), http.MethodGet, rootKey, nil)).want(t, http.StatusOK)
	w.history.didTo(50, input{"root key", rotate, rootVersion(root)}, 0, output{yes: true})
	key := must(a.vault(t.Context(), "safe", http.MethodGet, "/keys/turned/", nil)).want(t, http.StatusOK)
	w.newVersion(50, keyVersion(key), 0, output{yes: true})
	return w
}

// settle looks at every replica for every subject, and opens the data of both customers' keys.
func (w *workload) settle() {
	ctx := w.t.Context()
	soon(w.t, "the customer's key is enabled", func() bool { return w.enableKey(ctx, true) })
	soon(w.t, "the owner unlocks the resource", func() bool {
		call := w.history.now()
		a, err := w.any().arm(ctx, http.MethodPost, account("owned")+"/encryption:unlock", nil)
		w.history.did(91, "lock", unlock, call, output{unknown: err != nil || a.status != http.StatusOK, yes: true})
		return err == nil && a.status == http.StatusOK
	})
	var all sync.WaitGroup
	for i, at := range w.clients {
		all.Go(func() {
			for _, s := range slices.Concat(w.live, w.known) {
				ok := w.eventually(ctx, func() bool { return w.lookFor(ctx, 100+i, s, at, at) })
				if !ok {
					w.history.say("replica %c does not answer for %s", 'A'+i, s.register)
					return
				}
			}
			for _, r := range w.made {
				if !w.eventually(ctx, func() bool { return w.servesAt(ctx, 100+i, r, at) }) {
					w.history.say("replica %c does not say whether %s is there", 'A'+i, r.register)
				}
			}
			w.settleTurned(ctx, 100+i, at)
			for name, key := range map[string]string{"owned": w.owned.key, "revoked": w.revoked.key} {
				var a answer
				ok := w.eventually(ctx, func() bool {
					a, _ = askAs(ctx, at, key, "GET", "persongroups/guests", nil)
					return a.status == http.StatusOK
				})
				if !ok {
					w.history.say("replica %c does not open the resource %s, whose key is enabled: %s", 'A'+i, name, a)
				}
			}
		})
	}
	all.Wait()
	w.checked = len(w.live) + len(w.known) + len(w.made)
}

// eventually asks again for a minute.
func (w *workload) eventually(ctx context.Context, is func() bool) bool {
	for until := time.Now().Add(time.Minute); time.Now().Before(until); pause(ctx, 100*time.Millisecond) {
		if is() {
			return true
		}
	}
	return false
}

func (w *workload) report(title string, faults, troubles map[string]int, registers, bad int) string {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "## Replicas: %s\n\n%v, %s\n\n| what | count |\n| --- | --- |\n", title, *attackFor, load())
	row := func(what string, n any) { fmt.Fprintf(&b, "| %s | %v |\n", what, n) }
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		row("fault: "+name, faults[name])
	}
	for _, v := range []verb{enrol, remove, find, lock, unlock, use, discard, restore, erase, serve, rotate, show} {
		row(fmt.Sprintf("%s: answered, and not known", v), fmt.Sprintf("%d, %d", h.answered[v], h.unknown[v]))
	}
	for _, name := range slices.Sorted(maps.Keys(troubles)) {
		row("answer: "+name, troubles[name])
	}
	row("faces, persons, resources, locks and keys whose histories were checked", registers)
	row("histories that no order explains", bad)
	row("other wrong answers", len(h.wrong))
	row("longest use of a former API key", w.stale.d.Round(time.Millisecond))
	row("longest use of data under a disabled key", w.grant.d.Round(time.Millisecond))
	row("and at one replica after another one had refused it", w.refused.d.Round(time.Millisecond))
	row("longest wait for data whose key was enabled again", w.opened.d.Round(time.Millisecond))
	row("faces, persons and resources looked for at each replica at the end", w.checked)
	return b.String()
}

// load is how busy the machine is.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load unknown"
	}
	return "load " + strings.Join(strings.Fields(string(b))[:3], " ")
}

// report writes a part of the report.
func report(t *testing.T, text string) {
	t.Helper()
	t.Log("\n" + text)
	if *reportFile == "" {
		return
	}
	if err := os.MkdirAll(filepath.Dir(*reportFile), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*reportFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
