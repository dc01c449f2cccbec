package postgres_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// face is a sealed value that can be told from others by n, of about the size of a sealed face.
func face(n int) format.Sealed {
	document := binary.BigEndian.AppendUint64(make([]byte, 560), uint64(n))
	return format.AuthInstance(make([]byte, format.KeySize), document)
}

// load fills an engine with rows under keys, which it sorts and returns without repetitions.
func load(tb testing.TB, e *postgres.Engine, keys [][]byte) [][]byte {
	tb.Helper()
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	const atOnce = 10_000
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(keys)) // the order in which records come
	for some := range slices.Chunk(order, atOnce) {
		var b engine.Batch
		for _, i := range some {
			b.Keys, b.Values = append(b.Keys, keys[i]), append(b.Values, face(i))
		}
		if err := e.Load(tb.Context(), b); err != nil {
			tb.Fatal(err)
		}
	}
	return keys
}

// randomKeys are n keys with a prefix and ids of 16 bytes.
func randomKeys(prefix string, n int) (keys [][]byte) {
	r := rand.New(rand.NewPCG(3, 4))
	for range n {
		key := append([]byte(prefix), make([]byte, 16)...)
		binary.BigEndian.PutUint64(key[len(prefix):], r.Uint64())
		binary.BigEndian.PutUint64(key[len(prefix)+8:], r.Uint64())
		keys = append(keys, key)
	}
	return keys
}

// TestLongScans: scans that are long enough to be read in parts yield what a short one yields, whatever the keys are
// like, as it was when the snapshot began, and while other rows are read.
func TestLongScans(t *testing.T) {
	server := pgtest.Shared(t)
	clustered := randomKeys("k", 10_000) // then three dense places, far from each other
	for i := range 10_000 {
		clustered = append(clustered, fmt.Appendf(nil, "k\x01\x00\x00%015d", i), fmt.Appendf(nil, "k\x80%015d", i))
	}
	for i := range 20_000 {
		clustered = append(clustered, fmt.Appendf(nil, "k\xff\xff\xff\xff\xff\xff\xff\xff%08d", i))
	}
	for name, keys := range map[string][][]byte{"random": randomKeys("k", 50_000), "clustered": clustered} {
		t.Run(name, func(t *testing.T) {
			e := open(t, postgres.Config{URL: server.Database(t)})
			keys := load(t, e, keys)
			parted := false
			err := e.View(t.Context(), func(r engine.Reader) error {
				n := 0
				for row, err := range r.Scan([]byte("k"), []byte("l")) {
					if err != nil {
						return err
					}
					if n == len(keys) || !bytes.Equal(row.Key, keys[n]) {
						return fmt.Errorf("row %d of %d has the key %x", n, len(keys), row.Key)
					}
					if !bytes.Equal(row.Value, face(n).Bytes()) {
						return fmt.Errorf("row %d has another value", n)
					}
					n++
					switch {
					case n == 100: // of which the scan must not see anything
						err = e.Update(t.Context(), func(w engine.Writer) error {
							if err := w.Delete(keys[len(keys)-1]); err != nil {
								return err
							}
							return w.Put(append(bytes.Clone(keys[len(keys)-1]), 0), enginetest.Value(0))
						})
						if err != nil {
							return err
						}
					case n%1000 == 0:
						parted = parted || e.Stats().Busy >= 3
						if _, ok, err := r.Get(keys[len(keys)-n/2]); err != nil || !ok {
							return fmt.Errorf("another row of the snapshot: %v, %v", ok, err)
						}
					}
				}
				if n != len(keys) {
					return fmt.Errorf("%d rows, want %d", n, len(keys))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if !parted {
				t.Error("nothing was read in parts")
			}
		})
	}
}

// TestLongScansThatEndEarly: whoever stops a scan leaves no connection behind, and Close waits for none.
func TestLongScansThatEndEarly(t *testing.T) {
	e := open(t, postgres.Config{URL: pgtest.Shared(t).Database(t)})
	keys := load(t, e, randomKeys("k", 50_000))
	for _, end := range []int{2_100, 10_000, len(keys)} {
		for range 9 { // more than there are places for snapshots, with two more of each
			err := e.View(t.Context(), func(r engine.Reader) error {
				n := 0
				for _, err := range r.Scan([]byte("k"), []byte("l")) {
					if n++; err != nil || n == end {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatalf("end after %d: %v", end, err)
			}
		}
	}
}

// TestLongScanThatLosesAConnection fails as a whole when a connection that reads a part is lost.
func TestLongScanThatLosesAConnection(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	e := open(t, postgres.Config{URL: address})
	load(t, e, randomKeys("k", 60_000))
	err := e.View(t.Context(), func(r engine.Reader) error {
		cut := false
		for _, err := range r.Scan([]byte("k"), []byte("l")) {
			if err != nil {
				if _, _, after := r.Get([]byte("k")); after == nil {
					t.Error("the snapshot is used after it was lost")
				}
				return err
			}
			if !cut && e.Stats().Busy >= 3 {
				cut = true
				terminate(t, server, address)
			}
		}
		return nil
	})
	if _, out := errors.AsType[visage.Outage](err); !out {
		t.Errorf("a scan whose connections are cut says %v", err)
	}
	recovers(t, e, "after")
}

// TestLongScanWithoutMoreConnections is read over the one connection that it has when the database gives no other.
func TestLongScanWithoutMoreConnections(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	database := name(t, address)
	open(t, postgres.Config{URL: address}) // makes the schema
	server.Exec(t, database, `CREATE ROLE lone LOGIN;
		GRANT USAGE ON SCHEMA visage TO lone; GRANT ALL ON ALL TABLES IN SCHEMA visage TO lone`)
	t.Cleanup(func() { server.Exec(t, database, "DROP OWNED BY lone; DROP ROLE lone") })
	e := open(t, postgres.Config{URL: server.URL("lone", database)})
	keys := load(t, e, randomKeys("k", 50_000))
	n := 0
	err := e.View(t.Context(), func(r engine.Reader) error {
		for _, err := range r.Scan([]byte("k"), []byte("l")) {
			if err != nil {
				return err
			}
			if n++; n == 100 {
				server.Exec(t, database, "ALTER ROLE lone CONNECTION LIMIT 1; SELECT count(pg_terminate_backend(pid)) "+
					"FROM pg_stat_activity WHERE usename = 'lone' AND state = 'idle'")
			}
		}
		return nil
	})
	if err != nil || n != len(keys) {
		t.Errorf("%d rows, want %d: %v", n, len(keys), err)
	}
}

// BenchmarkScan reads rows of 600 bytes in the order of their keys, which were written in another order, in a snapshot
// and, for comparison, without one, where a scan is never split.
func BenchmarkScan(b *testing.B) {
	e, err := postgres.Open(b.Context(), postgres.Config{URL: pgtest.Shared(b).Database(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	const rows = 300_000
	load(b, e, randomKeys("k", rows))
	for name, read := range map[string]func(fn func(engine.Reader) error) error{
		"snapshot": func(fn func(engine.Reader) error) error { return e.View(b.Context(), fn) },
		"live":     func(fn func(engine.Reader) error) error { return e.Read(b.Context(), fn) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				err := read(func(r engine.Reader) error {
					n := 0
					for _, err := range r.Scan([]byte("k"), []byte("l")) {
						if err != nil {
							return err
						}
						n++
					}
					if n != rows {
						return fmt.Errorf("%d rows, want %d", n, rows)
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
