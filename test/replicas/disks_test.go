//go:build linux

package replicas_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/test/postgres"
)

// disks are the volumes of replicas and of their database, each with a file system of its own.
type disks struct {
	*cluster
	server *postgres.Server
	data   *volume // of the database
	log    *volume // of its write-ahead log
	keys   *volume // of the epoch keys and anchors, which all replicas mount
	local  []*volume
	back   map[string]*longest // how long all replicas took to acknowledge a write after a fault, by its name
}

// newDisks makes a cluster of n replicas on volumes, none of which runs yet.
func newDisks(t *testing.T, n int) *disks {
	t.Helper()
	d := &disks{data: newVolume(t, "data", 1024), log: newVolume(t, "log", 256), keys: newVolume(t, "keys", 16),
		back: map[string]*longest{}}
	for i := range n {
		d.local = append(d.local, newVolume(t, string(rune('a'+i)), 16))
	}
	d.server = postgres.StartWith(t, postgres.Options{Data: d.data.base, Log: d.log.base,
		Settings: []string{"max_wal_size = 96MB", "restart_after_crash = on"}})
	d.cluster = newCluster(t, n, true, d.server.Database(t))
	t.Cleanup(func() { // before the volumes go
		_, _ = d.keys.thaw(), d.log.thaw() // they may not be frozen
		d.cluster.end()
		for _, v := range d.local {
			v.unmount()
		}
	})
	for i, r := range d.replicas {
		err := os.Remove(r.keys())
		if err == nil {
			err = d.local[i].also(r.dir())
		}
		if err == nil {
			err = os.Mkdir(r.keys(), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d.keysOn(d.keys)
	d.startAll()
	return d
}

// keysOn has the replicas of a cluster find their keys on a volume.
func (c *cluster) keysOn(v *volume) {
	c.t.Helper()
	c.mounted = true
	c.t.Cleanup(func() { // before the folder is removed
		c.end()
		v.unmount()
	})
	for _, r := range c.replicas {
		if err := v.also(r.keys()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// end kills the replicas that run.
func (c *cluster) end() {
	for _, r := range c.replicas {
		if r.cmd != nil {
			r.kill()
		}
	}
}

// TestVolumeOfKeysFails takes the volume of epoch keys away from two replicas, breaks it, fills it, and makes it
// read-only. What they acknowledge meanwhile, and what was there before, is there when it is back, also for a process
// that has to open all keys anew. It runs alone: processes that other tests start with mounts of their own would keep
// this volume in use after it has failed, so that it could not be mounted again.
func TestVolumeOfKeysFails(t *testing.T) {
	v := newVolume(t, "keys", 16)
	c := newCluster(t, 2, true, newDatabase(t))
	c.keysOn(v)
	c.startAll()
	a, b := newSite(t, c.replicas[0]), newSite(t, c.replicas[1])
	heard := newAnswers()
	a.heard, b.heard = heard, heard
	w := &workload{}
	must(a.face(t.Context(), "PUT", "facelists/guests", `{"name":"g","recognitionModel":"recognition_04"}`)).want(t, 200)
	there, removed := map[string]bool{}, map[string]bool{} // as was acknowledged
	add := func(at *site) answer {
		said := must(at.face(t.Context(), "POST", "facelists/guests/persistedfaces", w.photo("somebody")))
		if id := said.text("persistedFaceId"); said.status == http.StatusOK {
			there[id] = true
		}
		return said
	}
	remove := func(at *site) (said answer) {
		for id := range there {
			said = must(at.face(t.Context(), "DELETE", "facelists/guests/persistedfaces/"+id, nil))
			delete(there, id) // or nobody knows what became of it
			if said.status == http.StatusOK {
				removed[id] = true
			}
			break
		}
		return said
	}
	a.vaultFor("safe")
	a.resourceUnder("turned")
	turn := func(at *site) answer { // which needs an epoch key of its own
		key := must(at.vault(t.Context(), "safe", "POST", "/keys/turned/rotate", nil))
		if key.status != http.StatusOK {
			return key
		}
		return must(at.manage(t.Context(), http.MethodPatch, turnedPath, useVersion(keyVersion(key))))
	}
	same := func(when string) {
		t.Helper()
		for _, at := range []*site{a, b} {
			soon(t, "the data at replica "+at.name+" "+when, func() bool {
				said := must(at.face(t.Context(), "GET", "facelists/guests", nil))
				var list struct {
					PersistedFaces []struct{ PersistedFaceID string }
				}
				if said.status != http.StatusOK || json.Unmarshal(said.body, &list) != nil {
					return false
				}
				found := 0
				for _, f := range list.PersistedFaces {
					if removed[f.PersistedFaceID] {
						t.Fatalf("%s is there, and was deleted", f.PersistedFaceID)
					}
					if there[f.PersistedFaceID] {
						found++
					}
				}
				return found == len(there)
			})
		}
	}
	for range 16 {
		add(a).want(t, 200)
	}
	remove(b).want(t, 200)
	for _, f := range []struct {
		name       string
		begin, end func() error
	}{
		{"gone", v.gone, v.mount},
		{"I/O errors", v.breakDown, v.mend},
		{"read-only", v.readOnly, v.writable},
		{"full", v.fill, v.clear},
	} {
		if err := f.begin(); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		for _, at := range []*site{a, b} {
			t.Logf("%s: deleted: %d, added: %d, keys changed: %d", f.name, remove(at).status, add(at).status,
				turn(at).status)
		}
		if err := f.end(); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		soon(t, "a deletion after: "+f.name, func() bool { return remove(a).status == http.StatusOK })
		soon(t, "an enrolment after: "+f.name, func() bool { return add(b).status == http.StatusOK })
	}
	same("when all is back")
	for _, r := range c.replicas {
		r.kill()
	}
	c.startAll()
	same("after a start")
	_, wrong := heard.report()
	for _, said := range wrong {
		t.Error(said)
	}
}

// TestAttackDisks fills, breaks, freezes and takes away the disks of replicas and of their database, while clients use
// them.
func TestAttackDisks(t *testing.T) {
	if *attackFor == 0 {
		t.Skip("run make prove-replicas")
	}
	d := newDisks(t, 3)
	attack(t, d.cluster, "disks that are full, read-only, broken, hung and gone", d.faults(8*time.Second))
	report(t, d.report())
	d.whole()
}

// faults are all that happens to disks, each for at most so long.
func (d *disks) faults(most time.Duration) []fault {
	briefly := func(begin, end func() error) func(context.Context) error {
		return func(ctx context.Context) error { return during(ctx, most/8, most, begin, end) }
	}
	all := []fault{
		{"epoch keys: full", briefly(d.keys.fill, d.keys.clear)},
		{"database: full", d.ofDatabase(briefly(d.data.fill, d.data.clear))},
		{"epoch keys: read-only", briefly(d.keys.readOnly, d.keys.writable)},
		{"database: read-only", briefly(d.readOnly, d.writable)},
		{"epoch keys: gone", briefly(d.keys.gone, d.keys.mount)},
		{"log of the database: full", d.ofDatabase(briefly(d.log.fill, d.log.clear))},
		{"epoch keys: I/O errors", briefly(d.keys.breakDown, d.keys.mend)},
		{"database: I/O errors", d.breaking(d.data, most)},
		{"epoch keys: gone from one replica", d.goneFromOne(most)},
		{"replica's directory: full", d.localFault(most, (*volume).fill, (*volume).clear)},
		{"log of the database: I/O errors", d.breaking(d.log, most)},
		{"epoch keys: hung", briefly(d.keys.freeze, d.keys.thaw)},
		{"replica's directory: read-only", d.localFault(most, (*volume).readOnly, (*volume).writable)},
		{"log of the database: hung", briefly(d.log.freeze, d.log.thaw)},
	}
	for i, f := range all {
		all[i].do = func(ctx context.Context) error {
			// A fault ends before the attack does, and so does what is measured after it.
			if err := f.do(ctx); err != nil {
				return err
			}
			return d.recovers(context.WithoutCancel(ctx), f.name)
		}
	}
	return all
}

// readOnly lets no transaction of the database write.
func (d *disks) readOnly() error { return d.setReadOnly("on") }

func (d *disks) writable() error { return d.setReadOnly("off") }

func (d *disks) setReadOnly(to string) error {
	return d.server.Try("postgres", "ALTER SYSTEM SET default_transaction_read_only = "+to+";\n"+
		"SELECT pg_reload_conf()")
}

// ofDatabase has the database run again after what may have ended it, as its supervisor would.
func (d *disks) ofDatabase(do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		main, err := d.server.Process()
		if err != nil {
			return err
		}
		if err := do(ctx); err != nil {
			return err
		}
		// It either recovers by itself, or it has ended.
		for deadline := time.Now().Add(time.Minute); runs(main) && d.server.Try("postgres", "SELECT 1") != nil; {
			if time.Now().After(deadline) {
				return errors.New("the database does not answer")
			}
			pause(ctx, 50*time.Millisecond)
		}
		if !runs(main) {
			d.server.Revive(d.t)
		}
		return nil
	}
}

// breaking breaks a disk of the database for a while. The database is killed with it, and starts on the mended disk.
func (d *disks) breaking(v *volume, most time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		all, err := d.processes()
		if err != nil {
			return err
		}
		return during(ctx, most/8, most, v.breakDown, func() error {
			for _, s := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
				for _, pid := range all {
					_ = syscall.Kill(pid, s) // it may have ended
				}
				pause(context.WithoutCancel(ctx), 200*time.Millisecond)
			}
			if err := v.mend(); err != nil {
				return err
			}
			d.server.Revive(d.t)
			return nil
		})
	}
}

// processes are those of the database.
func (d *disks) processes() ([]int, error) {
	main, err := d.server.Process()
	if err != nil {
		return nil, err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", main, main))
	if err != nil {
		return nil, err
	}
	all := []int{main}
	for _, field := range strings.Fields(string(children)) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err != nil {
			return nil, err
		}
		all = append(all, pid)
	}
	return all, nil
}

// runs reports whether a process has not ended.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// goneFromOne takes the volume of the keys away from one replica.
func (d *disks) goneFromOne(most time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		at := d.some().keys()
		return during(ctx, most/8, most, func() error { return d.keys.detach(at) },
			func() error { return d.keys.attach(at) })
	}
}

// localFault is of the volume of a replica's own directory. The replica is killed in between: it starts on that volume,
// or says why it does not and starts afterwards.
func (d *disks) localFault(
	most time.Duration, begin, end func(*volume) error,
) func(context.Context) error {
	return func(ctx context.Context) error {
		r := d.some()
		v := d.local[r.name[0]-'A']
		var refused error
		err := during(ctx, most/8, most, func() error { return begin(v) }, func() error {
			r.kill()
			refused = r.start()
			return end(v)
		})
		if err == nil && refused != nil {
			d.t.Logf("replica %s does not start: %s", r.name, lastLine(r))
			err = r.start()
		}
		return err
	}
}

func lastLine(r *replica) string {
	lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	return lines[len(lines)-1]
}

// recovers waits until every replica acknowledges a write again. None has ended.
func (d *disks) recovers(ctx context.Context, after string) error {
	begun := time.Now()
	for _, r := range d.replicas {
		at, err := r.client()
		for err == nil {
			select {
			case <-r.ended:
				return fmt.Errorf("replica %s has ended by itself", r.name)
			default:
			}
			if a, asked := acknowledged(ctx, at); asked == nil && a.status == http.StatusOK {
				break
			}
			if time.Since(begun) > time.Minute {
				return fmt.Errorf("replica %s acknowledges nothing a minute after the disk is back", r.name)
			}
			pause(ctx, 50*time.Millisecond)
		}
		if err != nil {
			return err
		}
		at.http.CloseIdleConnections()
	}
	if d.back[after] == nil {
		d.back[after] = &longest{}
	}
	d.back[after].take(time.Since(begun))
	return nil
}

// whole makes sure that nothing is left of faults, at any replica: erasures go on, and no volume is full.
func (d *disks) whole() {
	d.t.Helper()
	for _, r := range d.replicas {
		soon(d.t, "replica "+r.name+" is ready", func() bool { return r.ready(d.t) == "" })
	}
}

// ready returns what keeps a replica from being well; empty: nothing.
func (r *replica) ready(t *testing.T) string {
	t.Helper()
	at, err := r.client()
	if err != nil {
		return err.Error()
	}
	defer at.http.CloseIdleConnections()
	a, err := at.send(t.Context(), "GET", origin+"/readyz", "Accept", "text/plain", nil)
	switch {
	case err != nil:
		return err.Error()
	case a.status != http.StatusOK || strings.Contains(string(a.body), "storage:"):
		return a.String()
	}
	return ""
}

func (d *disks) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### After a fault of a disk\n\nUntil every replica has acknowledged a write, at the longest:\n\n"+
		"| fault | longest |\n| --- | --- |\n")
	for _, f := range d.faults(0) {
		if took := d.back[f.name]; took != nil {
			fmt.Fprintf(&b, "| %s | %.1f s |\n", f.name, took.d.Seconds())
		}
	}
	return b.String()
}
