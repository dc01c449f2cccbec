package bench_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// BenchmarkLoad fills a gallery from a million sealed faces, as the service does, beside a loop that only reads and
// opens the same records. The two take turns.
func BenchmarkLoad(b *testing.B) {
	const faces = 1_000_000
	store := openStore(b, b.TempDir())
	space := makeSpace(b, store, [16]byte{1})
	fillSpace(b, space, faces)
	var bare, loads []time.Duration
	for b.Loop() {
		if len(loads) == 5 {
			continue // the median of five is enough
		}
		var seen atomic.Int64
		bare = append(bare, readFaces(b, space, func([]byte) error {
			seen.Add(1)
			return nil
		}))
		if seen.Load() != faces {
			b.Fatalf("%d faces were read", seen.Load())
		}
		loads = append(loads, loadFaces(b, space, faces))
	}
	took, plain := median(loads).Seconds(), median(bare).Seconds()
	atMost(b, "load: 1,000,000 sealed faces", took, 2.5, "s",
		fmt.Sprintf("median of %d, %d processors", len(loads), runtime.GOMAXPROCS(0)))
	atMost(b, "load: by reading and opening alone", took/plain, 1.2, "times", fmt.Sprintf("%.2f s", plain))
}

// fillSpace stores sealed faces in a space, as they are without recent writes.
func fillSpace(b *testing.B, space *sealed.Space, faces int) {
	b.Helper()
	const batch = 4_000
	made := newCodes(templateDim)
	for from := 0; from < faces; from += batch {
		err := space.Update(b.Context(), func(tx sealed.Tx) error {
			for i := from; i < from+batch; i++ {
				if err := blobs.In("faces").Add(tx, strconv.Itoa(i),
					blob{sealedFace(i, made.code(uint64(i)))}); err != nil {
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

// loadFaces makes a gallery of the sealed faces of a space, and returns how long that took.
func loadFaces(b *testing.B, space *sealed.Space, faces int) time.Duration {
	b.Helper()
	g, err := gallery.New(templateDim)
	if err != nil {
		b.Fatalf("make a gallery: %v", err)
	}
	defer g.Close()
	g.Expect(faces)
	took := readFaces(b, space, func(face []byte) error {
		return g.Add(gallery.Entry{
			ID: gallery.ID(face[:16]), Owner: gallery.ID(face[16:32]), Order: binary.LittleEndian.Uint64(face[32:]),
			Code: face[40:],
		})
	})
	if g.Len() != faces {
		b.Fatalf("%d faces were loaded", g.Len())
	}
	return took
}

// readFaces reads and opens the sealed faces of a space, and returns how long that took.
func readFaces(b *testing.B, space *sealed.Space, visit func([]byte) error) time.Duration {
	b.Helper()
	runtime.GC()
	start := time.Now()
	err := space.View(b.Context(),
		func(r sealed.Reader) error { return blobs.In("faces").Each(b.Context(), r, visit) })
	if err != nil {
		b.Fatalf("read: %v", err)
	}
	return time.Since(start)
}

// sealedFace is a face as the service stores it: id, person, order, code.
func sealedFace(i int, code gallery.Code) []byte {
	face := make([]byte, 40, 40+len(code))
	binary.BigEndian.PutUint64(face, uint64(i)+1)
	binary.BigEndian.PutUint64(face[16:], uint64(i)+1)
	binary.LittleEndian.PutUint64(face[32:], uint64(i))
	return append(face, code...)
}
