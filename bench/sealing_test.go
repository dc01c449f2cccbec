package bench_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/visage-face/visage/sealed"
)

// recordBytes is the size of the records of these benchmarks: that of a face as it was stored before templates became
// codes. Today's face of 192 numbers has 424 bytes.
const recordBytes = 600

// blob is a record that is stored without an encoding and without padding, like the faces of the service.
type blob struct{ data []byte }

func (r blob) MarshalBinary() ([]byte, error) { return r.data, nil }

func (r *blob) UnmarshalBinary(data []byte) error {
	r.data = append([]byte(nil), data...)
	return nil
}

var blobs = sealed.NewTable[blob]("bench/blobs", 1, sealed.FixedSize())

// BenchmarkSealing compares durable writes of records, one a transaction, through the sealed store with unsealed writes
// to the same engine in the same configuration. The unsealed side exists only here. The two take turns in short
// stretches, and the median ratio of neighbours counts. The processor time of the sealed side is measured over its
// stretches.
func BenchmarkSealing(b *testing.B) {
	for _, c := range []struct {
		writers int
		target  float64
	}{{1, 1.2}, {16, 1.3}} {
		writers := c.writers
		b.Run(fmt.Sprintf("writers-%d", writers), func(b *testing.B) {
			dir := b.TempDir()
			store := openStore(b, filepath.Join(dir, "sealed"))
			space := makeSpace(b, store, [16]byte{1})
			plain := openPlain(b, filepath.Join(dir, "plain"))
			stretch := 50 * writers // short, so that both halves of a pair meet the same disk
			var sealedTimes, plainTimes []time.Duration
			var ratios []float64
			var serial atomic.Uint64
			sealOne := func(data []byte) error {
				id := strconv.FormatUint(serial.Add(1), 10)
				return space.Update(b.Context(),
					func(tx sealed.Tx) error { return blobs.In("all").Add(tx, id, blob{data}) })
			}
			plainOne := func(data []byte) error {
				key := make([]byte, 49) // as long as a sealed row's key, and also ending in a random id
				if _, err := rand.Read(key[33:]); err != nil {
					return err
				}
				return plain.Set(key, data, pebble.Sync)
			}
			var busy []time.Duration // processor time of a stretch
			sealAll := func() time.Duration {
				took, used := writeAll(b, writers, stretch, sealOne)
				busy = append(busy, used)
				return took
			}
			pair := func(sealedFirst bool) (s, p time.Duration) {
				if sealedFirst {
					s = sealAll()
				}
				p, _ = writeAll(b, writers, stretch, plainOne)
				if !sealedFirst {
					s = sealAll()
				}
				return s, p
			}
			pair(true)
			busy = busy[:0]
			for b.Loop() {
				for range 10 {
					s, p := pair(len(ratios)%2 == 0)
					sealedTimes, plainTimes = append(sealedTimes, s), append(plainTimes, p)
					ratios = append(ratios, float64(s)/float64(p))
				}
			}
			slices.Sort(ratios)
			each := func(times []time.Duration) float64 {
				return float64(median(times)) / float64(stretch) / float64(time.Microsecond)
			}
			note := fmt.Sprintf("median of %d pairs of %d writes; %.0f µs a write against %.0f µs", len(ratios),
				stretch, each(sealedTimes),
				each(plainTimes))
			atMost(b, fmt.Sprintf("sealing: durable writes, %d at once", writers), ratios[len(ratios)/2], c.target,
				"times", note)
			if writers > 1 {
				atMost(b, fmt.Sprintf("sealing: processor time a durable write, %d at once", writers), each(busy), 20,
					"µs",
					fmt.Sprintf("median of %d stretches, user and system time of the process", len(busy)))
			}
		})
	}
}

// writeAll writes count random records from the given number of goroutines, and returns the elapsed time and the
// processor time of this process.
func writeAll(b *testing.B, writers, count int, write func(data []byte) error) (took, busy time.Duration) {
	b.Helper()
	records := make([][]byte, count)
	for i := range records {
		records[i] = make([]byte, recordBytes)
		if _, err := rand.Read(records[i]); err != nil {
			b.Fatalf("make a record: %v", err)
		}
	}
	var next atomic.Int64
	var all sync.WaitGroup
	used := processorTime(b)
	start := time.Now()
	for range writers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if err := write(records[i]); err != nil {
					b.Errorf("write a record: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	took, busy = time.Since(start), processorTime(b)-used
	if b.Failed() {
		b.FailNow()
	}
	return took, busy
}

// openPlain opens the engine with the configuration of the sealed store.
func openPlain(b *testing.B, dir string) *pebble.DB {
	b.Helper()
	cache := pebble.NewCache(64 << 20)
	defer cache.Unref()
	options := &pebble.Options{Cache: cache, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatNewest,
		Logger: silent{}}
	options.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range options.Levels {
		options.Levels[i].BlockSize = 32 << 10
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, options)
	if err != nil {
		b.Fatalf("open the engine: %v", err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Errorf("close the engine: %v", err)
		}
	})
	return db
}

// silent discards the engine's log.
type silent struct{}

func (silent) Infof(string, ...any)         {}
func (silent) Errorf(string, ...any)        {}
func (silent) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// BenchmarkScan reads a container of a million records: every page and every record is opened and decoded.
func BenchmarkScan(b *testing.B) {
	const records = 1_000_000
	store := openStore(b, b.TempDir())
	space := makeSpace(b, store, [16]byte{1})
	fill(b, space, records)
	var times []time.Duration
	for b.Loop() {
		if len(times) == 3 {
			continue // the median of three is enough
		}
		runtime.GC()
		seen := 0
		start := time.Now()
		err := space.View(b.Context(), func(r sealed.Reader) error {
			for record, err := range blobs.In("all").All(r) {
				if err != nil {
					return err
				}
				if len(record.data) != recordBytes {
					return fmt.Errorf("a record of %d bytes", len(record.data))
				}
				seen++
			}
			return nil
		})
		times = append(times, time.Since(start))
		if err != nil || seen != records {
			b.Fatalf("scan: %d records, %v", seen, err)
		}
	}
	atMost(b, "sealing: scan and open 1,000,000 records", median(times).Seconds(), 3, "s",
		fmt.Sprintf("median of %d scans", len(times)))
}

// fill writes records to a space, and leaves it in the state of one without recent writes.
func fill(b *testing.B, space *sealed.Space, records int) {
	b.Helper()
	const batch = 2_000
	data := make([]byte, recordBytes)
	for from := 0; from < records; from += batch {
		err := space.Update(b.Context(), func(tx sealed.Tx) error {
			for i := from; i < min(from+batch, records); i++ {
				binary.BigEndian.PutUint64(data, uint64(i))
				if err := blobs.In("all").Put(tx, strconv.Itoa(i), blob{data}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatalf("fill the container: %v", err)
		}
	}
	if err := space.Fold(b.Context()); err != nil {
		b.Fatalf("fold: %v", err)
	}
}
