package bench_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed"
)

// BenchmarkErasing erases records from containers of two sizes, one at a time and ten thousand together, durably: when
// a call returns, the key that opened the records in every older copy of the data is destroyed.
func BenchmarkErasing(b *testing.B) {
	const small, large, many, batch = 10_000, 200_000, 10_000, 2_000
	store := openStore(b, b.TempDir())
	data := make([]byte, recordBytes)
	erase := func(space *sealed.Space, from, to int) time.Duration {
		start := time.Now()
		_, err := space.Erase(b.Context(), func(tx sealed.Tx) error {
			for i := from; i < to; i++ {
				if err := blobs.In("all").Delete(tx, strconv.Itoa(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatalf("erase: %v", err)
		}
		return time.Since(start)
	}
	for i, size := range []int{small, large} {
		space := makeSpace(b, store, [16]byte{byte(i + 1)})
		for from := 0; from < size; from += batch {
			err := space.Update(b.Context(), func(tx sealed.Tx) error {
				for i := from; i < from+batch; i++ {
					binary.BigEndian.PutUint64(data, uint64(i))
					if err := blobs.In("all").Add(tx, strconv.Itoa(i), blob{data}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatalf("fill the container: %v", err)
			}
		}
		const ones = 200
		var times []time.Duration
		for n := range ones {
			times = append(times, erase(space, n, n+1))
		}
		slices.Sort(times)
		milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		atMost(b, fmt.Sprintf("erasing: one of %d", size), milliseconds(times[ones*95/100]), 50, "ms",
			fmt.Sprintf("95 of 100 within; median %.1f ms, longest %.1f ms of %d", milliseconds(times[ones/2]),
				milliseconds(times[ones-1]), ones))
		if size == large {
			var whole time.Duration
			for from := ones; from < ones+many; from += batch {
				whole += erase(space, from, from+batch)
			}
			atMost(b, fmt.Sprintf("erasing: %d of %d", many, size), whole.Seconds(), 5, "s",
				fmt.Sprintf("in batches of %d", batch))
		}
	}
	for b.Loop() { // the loop above has measured, once
	}
}
