package sealed

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"unsafe"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Row is a stored row as an intruder sees it.
type Row struct {
	Key, Value    []byte
	Space         SpaceID
	Kind          byte
	Container, ID string
}

// String names the row for messages.
func (r Row) String() string { return fmt.Sprintf("%s/%c/%s/%s", r.Space, r.Kind, r.Container, r.ID) }

// Root reports whether the row belongs to the root container.
func (r Row) Root() bool { return r.Container == rootContainer.String() }

// Rows returns all rows of the store.
func (s *Store) Rows(t testing.TB) (rows []Row) {
	err := s.engine.View(context.Background(), func(r engine.Reader) error {
		for row, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			out := Row{Key: bytes.Clone(row.Key), Value: bytes.Clone(row.Value), Space: SpaceID(row.Key[:16]), Kind: row.Key[16]}
			if len(row.Key) == keySize {
				container, id := idAt(row.Key)
				out.Container, out.ID = container.String(), id.String()
			}
			rows = append(rows, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Overwrite does what an intruder with the disk can: it stores any value under any key, or removes it when value is nil.
func (s *Store) Overwrite(t testing.TB, key, value []byte) {
	err := s.engine.Update(context.Background(), func(w engine.Writer) error {
		if value == nil {
			return w.Delete(key)
		}
		return w.Put(key, *(*format.Sealed)(unsafe.Pointer(&value))) // the compiler refuses; an intruder does not ask it
	})
	if err != nil {
		t.Fatal(err)
	}
}

// SmallPages makes pages hold few entries from now on, so that few records make high trees.
func (s *Store) SmallPages() { s.pageSlots, s.pageFill = 6, 4 }
