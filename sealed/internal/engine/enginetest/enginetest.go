// Package enginetest is the conformance suite of storage engines: the test of an engine calls Run.
package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Place is somewhere an engine keeps its rows. Open opens what lies there; a place of an engine that forgets has
// Forgets set, and its Open returns an empty engine each time. A place that is Shared may be open several times.
type Place struct {
	Open    func(tb testing.TB) (engine.Engine, error)
	Forgets bool
	Shared  bool
}

// Run runs the suite; newPlace returns an empty place.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, p Place)
	}{
		{"reads its writes and nobody else's", testIsolation},
		{"leaves nothing of what failed", testRollback},
		{"scans in order", testScan},
		{"keeps a snapshot", testSnapshot},
		{"reads what is there", testRead},
		{"reads ahead what is there", testPrefetch},
		{"makes transactions serial", testSerial},
		{"keeps scopes apart", testScopes},
		{"refuses what is not sealed", testUnsealed},
		{"stops with its context", testContext},
		{"waits to close", testClose},
		{"keeps what it acknowledged", testDurable},
		{"agrees with a map", testModel},
		{"opens once, or is shared", testOnce},
		{"makes transactions of two engines serial", testTwoSerial},
		{"keeps scopes of two engines apart", testTwoScopes},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newPlace(t)) })
	}
}

// Value makes a sealed value that can be told from others by n.
func Value(n int) format.Sealed {
	return format.AuthInstance(make([]byte, format.KeySize), binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func open(t testing.TB, p Place) engine.Engine {
	t.Helper()
	e, err := p.Open(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func put(t testing.TB, e engine.Engine, key string, n int) {
	t.Helper()
	if err := e.Update(context.Background(),
		func(w engine.Writer) error { return w.Put([]byte(key), Value(n)) }); err != nil {
		t.Fatal(err)
	}
}

// holds checks that a reader finds n under key; n < 0 means nothing.
func holds(t testing.TB, r engine.Reader, key string, n int) {
	t.Helper()
	got, ok, err := r.Get([]byte(key))
	switch {
	case err != nil:
		t.Errorf("get %q: %v", key, err)
	case n < 0 && ok:
		t.Errorf("%q is there, want nothing", key)
	case n >= 0 && (!ok || !bytes.Equal(got, Value(n).Bytes())):
		t.Errorf("%q is not %d", key, n)
	}
}

func view(t testing.TB, e engine.Engine, fn func(engine.Reader)) {
	t.Helper()
	if err := e.View(context.Background(), func(r engine.Reader) error { fn(r); return nil }); err != nil {
		t.Error(err)
	}
}

func scan(t testing.TB, r engine.Reader, from, to []byte) (keys []string) {
	t.Helper()
	for row, err := range r.Scan(from, to) {
		if err != nil {
			t.Error(err)
		}
		keys = append(keys, string(row.Key))
	}
	return keys
}

func testScan(t *testing.T, p Place) {
	e := open(t, p)
	keys := []string{"\x00", "a", "a\x00", "ab", "b", "\xff", "\xff\xff"}
	for i, k := range []int{3, 1, 6, 0, 4, 2, 5} {
		put(t, e, keys[k], i)
	}
	check := func(r engine.Reader) {
		for _, c := range []struct {
			from, to []byte
			want     []string
		}{
			{nil, nil, keys},
			{[]byte{}, nil, keys},
			{[]byte("a"), []byte("b"), keys[1:4]},
			{[]byte("a\x00"), []byte("ab\x00"), keys[2:4]},
			{[]byte("b"), nil, keys[4:]},
			{[]byte("c"), []byte("d"), nil},
			{[]byte("b"), []byte("a"), nil},
		} {
			if got := scan(t, r, c.from, c.to); !slices.Equal(got, c.want) {
				t.Errorf("scan %q to %q: got %q, want %q", c.from, c.to, got, c.want)
			}
		}
		for range r.Scan(nil, nil) {
			break // must not leave anything open, which Close would tell
		}
	}
	view(t, e, check)
	err := e.Update(t.Context(), func(w engine.Writer) error {
		check(w)
		if err := errors.Join(w.Delete([]byte("ab")), w.Put([]byte("aa"), Value(9))); err != nil {
			return err
		}
		if got := scan(t, w, []byte("a"), []byte("b")); !slices.Equal(got, []string{"a", "a\x00", "aa"}) {
			t.Errorf("own writes: got %q", got)
		}
		for row, err := range w.Scan(nil, nil) { // deletes while it walks
			if err != nil {
				return err
			}
			if err := w.Delete(bytes.Clone(row.Key)); err != nil {
				return err
			}
		}
		if got := scan(t, w, nil, nil); got != nil {
			t.Errorf("after all were deleted: got %q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testSnapshot(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "a", 1)
	view(t, e, func(r engine.Reader) {
		holds(t, r, "c", -1)
		put(t, e, "a", 2)
		put(t, e, "b", 2)
		holds(t, r, "a", 1)
		holds(t, r, "b", -1)
		if got := scan(t, r, nil, nil); !slices.Equal(got, []string{"a"}) {
			t.Errorf("snapshot shows %q", got)
		}
	})
}

func testRead(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "a", 1)
	put(t, e, "b", 2)
	err := e.Read(t.Context(), func(r engine.Reader) error {
		holds(t, r, "a", 1)
		holds(t, r, "c", -1)
		if got := scan(t, r, []byte("b"), nil); !slices.Equal(got, []string{"b"}) {
			t.Errorf("the rows from b on are %q", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	cause := errors.New("cause")
	if err := e.Read(t.Context(), func(engine.Reader) error { return cause }); !errors.Is(err, cause) {
		t.Errorf("got %v, want what the function returned", err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	end(cause)
	if err := e.Read(ctx, func(engine.Reader) error { return nil }); !errors.Is(err, cause) {
		t.Errorf("with an ended context: got %v, want its cause", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Read(t.Context(), func(engine.Reader) error { return nil }); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, engine.ErrClosed)
	}
}

// testPrefetch reads ahead, where the engine does that, and changes rows before and after it.
func testPrefetch(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "a", 1)
	put(t, e, "b", 1)
	ahead := func(r engine.Reader) {
		if read := engine.Prefetcher(r); read != nil {
			read([]byte("a"), []byte("b"), []byte("none"))
			for i := range 300 { // more than it has to keep
				read(fmt.Appendf(nil, "a%d", i), []byte("b"))
			}
		}
	}
	view(t, e, func(r engine.Reader) {
		ahead(r)
		put(t, e, "a", 2)
		for range 2 {
			holds(t, r, "a", 1)
			holds(t, r, "b", 1)
			holds(t, r, "none", -1)
		}
	})
	if err := e.Read(t.Context(), func(r engine.Reader) error {
		ahead(r)
		put(t, e, "a", 3)
		holds(t, r, "a", 3)
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := e.Update(t.Context(), func(w engine.Writer) error {
		if err := w.Put([]byte("a"), Value(4)); err != nil {
			return err
		}
		ahead(w)
		holds(t, w, "a", 4)
		holds(t, w, "b", 1)
		holds(t, w, "none", -1)
		if err := errors.Join(w.Delete([]byte("b")), w.Put([]byte("none"), Value(5))); err != nil {
			return err
		}
		holds(t, w, "b", -1)
		holds(t, w, "none", 5)
		return nil
	}); err != nil {
		t.Error(err)
	}
}
