// Package enginetest is the conformance suite of storage engines: the test of an engine calls Run.
package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
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

func testIsolation(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "old", 1)
	err := e.Update(t.Context(), func(w engine.Writer) error {
		if err := errors.Join(w.Put([]byte("new"), Value(2)), w.Delete([]byte("old")),
			w.Delete([]byte("never"))); err != nil {
			return err
		}
		holds(t, w, "new", 2)
		holds(t, w, "old", -1)
		view(t, e, func(r engine.Reader) {
			holds(t, r, "new", -1)
			holds(t, r, "old", 1)
		})
		return w.Put([]byte("new"), Value(3))
	})
	if err != nil {
		t.Fatal(err)
	}
	view(t, e, func(r engine.Reader) {
		holds(t, r, "new", 3)
		holds(t, r, "old", -1)
	})
}

func testRollback(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "a", 1)
	stop := errors.New("stop")
	err := e.Update(t.Context(), func(w engine.Writer) error {
		return errors.Join(w.Put([]byte("a"), Value(2)), w.Put([]byte("b"), Value(2)), stop)
	})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the function's error", err)
	}
	view(t, e, func(r engine.Reader) {
		holds(t, r, "a", 1)
		holds(t, r, "b", -1)
	})
	if err := e.View(t.Context(), func(engine.Reader) error { return stop }); err != stop {
		t.Errorf("view: got %v, want the function's error as it is", err)
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

func testSerial(t *testing.T, p Place) {
	e := open(t, p)
	const writers, each = 8, 25
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				err := e.Update(context.Background(), func(w engine.Writer) error {
					n := len(scan(t, w, nil, nil)) // of all rows so far: any other commit conflicts
					return w.Put(fmt.Appendf(nil, "%08d", n), Value(n))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	view(t, e, func(r engine.Reader) {
		if got := len(scan(t, r, nil, nil)); got != writers*each {
			t.Errorf("%d rows, want %d: transactions overlapped", got, writers*each)
		}
	})
}

// testScopes has transactions of one scope, of another and of all wait for each other where they must, and nowhere
// else.
func testScopes(t *testing.T, p Place) {
	e := open(t, p)
	one, other := format.ID{'a'}, format.ID{'b'}
	cause := errors.New("cause")
	waited := 0
	write := func(key string, n int) func(engine.Writer) error {
		return func(w engine.Writer) error { return w.Put([]byte(key), Value(n)) }
	}
	wait, err := e.Commit(t.Context(), one, func(w engine.Writer) error {
		for name, run := range map[string]func(context.Context) error{
			"a commit of the scope": func(ctx context.Context) error {
				_, err := e.Commit(ctx, one, write("a", 2))
				return err
			},
			"an update": func(ctx context.Context) error { return e.Update(ctx, write("a", 2)) },
		} {
			ctx, end := context.WithCancelCause(t.Context())
			result := make(chan error, 1)
			go func() { result <- run(ctx) }()
			for range 1_000 { // long enough for it to run, if it could
				runtime.Gosched()
			}
			end(cause)
			if err := <-result; !errors.Is(err, cause) {
				t.Errorf("%s ran beside a commit of the scope: %v", name, err)
			}
			waited++
		}
		wait, err := e.Commit(t.Context(), other, write("b", 1)) // does not wait
		if err != nil {
			return err
		}
		view(t, e, func(r engine.Reader) { holds(t, r, "b", 1) })
		if err := wait(); err != nil {
			return err
		}
		if err := write("a", 1)(w); err != nil {
			return err
		}
		holds(t, w, "a", 1)
		view(t, e, func(r engine.Reader) { holds(t, r, "a", -1) })
		return nil
	})
	if err != nil || waited != 2 {
		t.Fatalf("commit: %v", err)
	}
	view(t, e, func(r engine.Reader) { holds(t, r, "a", 1) })
	again, err := e.Commit(t.Context(), one, func(w engine.Writer) error { // before the first is durable
		holds(t, w, "a", 1)
		return write("a", 3)(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []func() error{again, wait} {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	failed := errors.New("failed")
	if _, err := e.Commit(t.Context(), one, func(w engine.Writer) error {
		return errors.Join(write("a", 4)(w), failed)
	}); !errors.Is(err, failed) {
		t.Errorf("commit of a function that fails: %v", err)
	}
	if err := e.Update(t.Context(), func(w engine.Writer) error { // nothing is held any more
		holds(t, w, "a", 3)
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func testUnsealed(t *testing.T, p Place) {
	e := open(t, p)
	err := e.Update(t.Context(), func(w engine.Writer) error { return w.Put([]byte("a"), format.Sealed{}) })
	if !errors.Is(err, engine.ErrUnsealed) {
		t.Errorf("got %v, want %v", err, engine.ErrUnsealed)
	}
}

func testContext(t *testing.T, p Place) {
	e := open(t, p)
	cause := errors.New("cause")
	ctx, end := context.WithCancelCause(t.Context())
	err := e.Update(ctx, func(w engine.Writer) error {
		// Another writer waits for this one, until its own context ends.
		waiting, stop := context.WithCancelCause(t.Context())
		stop(cause)
		if err := e.Update(
			waiting, func(engine.Writer) error { t.Error("ran beside another"); return nil },
		); !errors.Is(err, cause) {
			t.Errorf("waiting writer: got %v, want its cause", err)
		}
		end(cause)
		return w.Put([]byte("a"), Value(1))
	})
	if !errors.Is(err, cause) {
		t.Errorf("context ended while the function ran: got %v, want its cause", err)
	}
	if err := e.View(ctx, func(engine.Reader) error { return nil }); !errors.Is(err, cause) {
		t.Errorf("view with an ended context: got %v, want its cause", err)
	}
	view(t, e, func(r engine.Reader) { holds(t, r, "a", -1) })
}

func testClose(t *testing.T, p Place) {
	e := open(t, p)
	inside, closed := make(chan struct{}), make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() {
		err := e.View(context.Background(), func(r engine.Reader) error {
			close(inside)
			for { // until Close has begun: a new transaction is refused while this one goes on
				if err := e.View(context.Background(), func(engine.Reader) error { return nil }); err != nil {
					break
				}
				runtime.Gosched()
			}
			select {
			case <-closed:
				t.Error("closed while a transaction was under way")
			default:
			}
			_, _, err := r.Get([]byte("a"))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	closed <- e.Close()
	all.Wait()
	for range 2 {
		if err := e.View(t.Context(), func(engine.Reader) error { return nil }); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("view: got %v, want %v", err, engine.ErrClosed)
		}
		if err := e.Update(t.Context(), func(engine.Writer) error { return nil }); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("update: got %v, want %v", err, engine.ErrClosed)
		}
		if err := e.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
	}
}

func testDurable(t *testing.T, p Place) {
	if p.Forgets {
		t.Skip("this engine forgets")
	}
	for round := range 3 {
		e, err := p.Open(t)
		if err != nil {
			t.Fatal(err)
		}
		view(t, e, func(r engine.Reader) {
			if got := len(scan(t, r, nil, nil)); got != round*50 {
				t.Errorf("round %d: %d rows, want %d", round, got, round*50)
			}
		})
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { put(t, e, fmt.Sprintf("%d/%d", round, i), i) })
		}
		all.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func testModel(t *testing.T, p Place) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	model := map[string]int{}
	e, err := p.Open(t)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 150 {
		next := map[string]int{}
		for k, v := range model {
			next[k] = v
		}
		give := errors.New("give up")
		err := e.Update(t.Context(), func(w engine.Writer) error {
			for range random.IntN(12) {
				key := fmt.Sprint(random.IntN(60))
				if random.IntN(3) == 0 {
					delete(next, key)
					if err := w.Delete([]byte(key)); err != nil {
						return err
					}
				} else {
					n := random.IntN(1000)
					next[key] = n
					if err := w.Put([]byte(key), Value(n)); err != nil {
						return err
					}
				}
			}
			if random.IntN(4) == 0 {
				return give
			}
			return nil
		})
		switch {
		case err == nil:
			model = next
		case !errors.Is(err, give):
			t.Fatal(err)
		}
		if !p.Forgets && round%40 == 39 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if e, err = p.Open(t); err != nil {
				t.Fatal(err)
			}
		}
		view(t, e, func(r engine.Reader) {
			got := 0
			for row, err := range r.Scan(nil, nil) {
				if err != nil {
					t.Error(err)
				}
				if n, ok := model[string(row.Key)]; !ok || !bytes.Equal(row.Value, Value(n).Bytes()) {
					t.Errorf("round %d: row %q is not the model's", round, row.Key)
				}
				got++
			}
			if got != len(model) {
				t.Errorf("round %d: %d rows, want %d", round, got, len(model))
			}
		})
		if t.Failed() {
			break
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func testOnce(t *testing.T, p Place) {
	if p.Forgets {
		t.Skip("each of this engine's is another")
	}
	e := open(t, p)
	second, err := p.Open(t)
	switch {
	case p.Shared && err == nil:
		put(t, e, "of one", 1)
		view(t, second, func(r engine.Reader) { holds(t, r, "of one", 1) })
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	case p.Shared:
		t.Errorf("second opener: %v", err)
	case !errors.Is(err, engine.ErrInUse):
		if err == nil {
			second.Close()
		}
		t.Errorf("second opener: got %v, want %v", err, engine.ErrInUse)
	}
	put(t, e, "still", 1)
}

func two(t *testing.T, p Place) [2]engine.Engine {
	t.Helper()
	if !p.Shared {
		t.Skip("this engine's place is not shared")
	}
	return [2]engine.Engine{open(t, p), open(t, p)}
}

// testTwoSerial has writers of two engines, each with transactions of all scopes and of one, count what the others have
// written.
func testTwoSerial(t *testing.T, p Place) {
	engines := two(t, p)
	const writers, each = 4, 15
	add := func(w engine.Writer) error {
		n := len(scan(t, w, []byte("n"), []byte("o")))
		return w.Put(fmt.Appendf(nil, "n%08d", n), Value(n))
	}
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			e := engines[i%2]
			for k := range each {
				var err error
				if k%3 == 0 {
					err = e.Update(context.Background(), add)
				} else {
					err = engine.CommitAndWait(context.Background(), e, format.ID{'n'}, add)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, e := range engines {
		view(t, e, func(r engine.Reader) {
			if got := len(scan(t, r, []byte("n"), []byte("o"))); got != writers*each {
				t.Errorf("%d rows, want %d: transactions overlapped", got, writers*each)
			}
		})
	}
}

// testTwoScopes has a transaction of one engine under way while another engine commits to another scope, and is asked
// to write to the same one: that waits until its context ends.
func testTwoScopes(t *testing.T, p Place) {
	engines := two(t, p)
	cause := errors.New("cause")
	put := func(key string, n int) func(engine.Writer) error {
		return func(w engine.Writer) error { return w.Put([]byte(key), Value(n)) }
	}
	inside, leave, done := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- engine.CommitAndWait(context.Background(), engines[0], format.ID{'a'}, func(w engine.Writer) error {
			select {
			case inside <- struct{}{}:
			default: // it runs again
			}
			<-leave
			return put("a", 1)(w)
		})
	}()
	<-inside
	if err := engine.CommitAndWait(t.Context(), engines[1], format.ID{'b'}, put("b", 1)); err != nil {
		t.Errorf("commit to another scope: %v", err)
	}
	for name, run := range map[string]func(context.Context) error{
		"a commit of the scope": func(ctx context.Context) error {
			return engine.CommitAndWait(ctx, engines[1], format.ID{'a'}, put("a", 2))
		},
		"an update": func(ctx context.Context) error { return engines[1].Update(ctx, put("a", 2)) },
	} {
		ctx, end := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- run(ctx) }()
		for range 100 { // long enough for it to run, if it could
			view(t, engines[0], func(r engine.Reader) { holds(t, r, "a", -1) })
		}
		end(cause)
		if err := <-result; !errors.Is(err, cause) {
			t.Errorf("%s of another engine ran beside a commit of the scope: %v", name, err)
		}
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, e := range engines {
		view(t, e, func(r engine.Reader) {
			holds(t, r, "a", 1)
			holds(t, r, "b", 1)
		})
	}
}
