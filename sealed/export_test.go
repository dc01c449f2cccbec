package sealed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/memory"
	"github.com/visage-face/visage/sealed/internal/place"
	"github.com/visage-face/visage/sealed/internal/rowkey"
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
func (r Row) Root() bool { return r.Container == rowkey.Root.String() }

// Rows returns all rows of the store.
func (s *Store) Rows(t testing.TB) (rows []Row) {
	err := s.engine.View(context.Background(), func(r engine.Reader) error {
		for row, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			out := Row{Key: bytes.Clone(row.Key), Value: bytes.Clone(row.Value), Space: SpaceID(row.Key[:16]),
				Kind: row.Key[16]}
			if len(row.Key) == rowkey.Size {
				container, id := rowkey.Parse(row.Key)
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

// Overwrite does what an intruder with the disk can: it stores any value under any key, or removes it when value is
// nil.
func (s *Store) Overwrite(t testing.TB, key, value []byte) {
	err := s.engine.Update(context.Background(), func(w engine.Writer) error {
		if value == nil {
			return w.Delete(key)
		}
		// the compiler refuses; an intruder does not ask it
		return w.Put(key, *(*format.Sealed)(unsafe.Pointer(&value)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// SmallPages makes pages hold few entries from now on, so that few records make high trees.
func (s *Store) SmallPages() { s.env.PageSlots, s.env.PageFill = 6, 4 }

// Loot is what somebody has who collects: every key that he could find, and every row of some copies of the data.
type Loot struct {
	keys map[string]bool
	rows map[string]map[string]bool // values by key
}

// NewLoot begins a collection.
func NewLoot() *Loot { return &Loot{map[string]bool{}, map[string]map[string]bool{}} }

// Copy takes a copy of all rows as they are now.
func (l *Loot) Copy(t testing.TB, s *Store) {
	for _, row := range s.Rows(t) {
		if l.rows[string(row.Key)] == nil {
			l.rows[string(row.Key)] = map[string]bool{}
		}
		l.rows[string(row.Key)][string(row.Value)] = true
	}
}

// Keys takes every key of a space that exists now: the root key, those of all heads and pages, and the secrets of all
// records.
func (l *Loot) Keys(t testing.TB, sp *Space) {
	sp.EachKey(t, func(key []byte) { l.keys[string(key)] = true })
}

// EachKey shows every key of a space that exists now, which is take's to read and not to keep: the root key, those of
// all heads and pages, and the secrets of all records that a page has.
func (sp *Space) EachKey(t testing.TB, take func(key []byte)) {
	s := sp.store
	space := format.ID(sp.id)
	err := sp.within(context.Background(), func(ring *keys.Ring, _ uint64) error {
		return s.engine.View(context.Background(), func(r engine.Reader) error {
			var head func(container format.ID, open func(row []byte) (*format.Head, error)) error
			var page func(container format.ID, level byte, lower, upper format.ID, secret format.Secret) error
			page = func(container format.ID, level byte, lower, upper format.ID, secret format.Secret) error {
				take(secret.Key)
				row, ok, err := r.Get(rowkey.Of(space, rowkey.PageKind(level), container, upper))
				if err != nil || !ok {
					return err
				}
				at := format.Place{Instance: s.root.Instance, Space: space, Container: container, Record: upper}
				p, err := format.OpenPage(at, level, lower, upper, secret.Key, secret.Version, row)
				if err != nil {
					return err
				}
				for i := range p.Len() {
					id, below := p.At(i)
					switch {
					case level > 0:
						if err := page(container, level-1, lower, id, below); err != nil {
							return err
						}
						lower = id
					case container == rowkey.Root && id != rowkey.Root:
						at := format.Place{Instance: s.root.Instance, Space: space, Container: id}
						take(below.Key)
						if err := head(id, func(row []byte) (*format.Head, error) {
							return format.OpenHead(at, below.Key, row)
						}); err != nil {
							return err
						}
					default:
						take(below.Key)
					}
				}
				return nil
			}
			head = func(container format.ID, open func(row []byte) (*format.Head, error)) error {
				row, _, err := r.Get(rowkey.Of(space, rowkey.Head, container, format.ID{}))
				if err != nil {
					return err
				}
				h, err := open(row)
				if err != nil || h.Height == 0 {
					return err
				}
				return page(container, h.Height-1, format.ID{}, format.MaxID, h.Root)
			}
			return head(rowkey.Root, func(row []byte) (h *format.Head, err error) {
				pair, err := format.PeekPair(row)
				if err != nil {
					return nil, err
				}
				at := format.Place{Instance: s.root.Instance, Space: space}
				ring.WithRoot(pair, func(key []byte) {
					take(key)
					h, err = format.OpenHead(at, key, row)
				})
				return h, err
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Open tries every key on every row, with every key that this brings, until there are no more, and returns the
// plaintexts of the records that open.
func (l *Loot) Open(t testing.TB, s *Store, id SpaceID) (plaintexts [][]byte) {
	type row struct {
		kind  byte
		at    format.Place
		value []byte
	}
	var rows []row
	for key, values := range l.rows {
		if len(key) != rowkey.Size || SpaceID([]byte(key[:16])) != id {
			continue
		}
		container, record := rowkey.Parse([]byte(key))
		for value := range values {
			rows = append(
				rows, row{
					key[16], format.Place{Instance: s.root.Instance, Space: format.ID(id), Container: container,
						Record: record}, []byte(value),
				},
			)
		}
	}
	fresh := []string{}
	for key := range l.keys {
		fresh = append(fresh, key)
	}
	found := func(key []byte) {
		if !l.keys[string(key)] {
			l.keys[string(key)] = true
			fresh = append(fresh, string(key))
		}
	}
	opened := map[string]bool{}
	for len(fresh) > 0 {
		key := []byte(fresh[0])
		fresh = fresh[1:]
		if len(key) != format.KeySize {
			continue
		}
		for _, r := range rows {
			switch {
			case r.kind == rowkey.Head:
				at := r.at
				at.Record = format.ID{}
				if h, err := format.OpenHead(at, key, r.value); err == nil {
					found(h.Root.Key)
				}
			case rowkey.IsPage(r.kind):
				level := r.value[3]
				version := binary.BigEndian.Uint64(r.value[4:])
				if p, err := format.OpenPage(r.at, level, format.ID{}, r.at.Record, key, version, r.value); err == nil {
					for i := range p.Len() {
						_, s := p.At(i)
						found(s.Key)
					}
				}
			case r.kind == rowkey.Nursery:
				if s, err := format.OpenNursery(r.at, key, r.value); err == nil {
					found(s.Key)
				}
			case r.kind == rowkey.Record:
				version, err := format.RecordVersion(r.value)
				if err != nil {
					t.Fatal(err)
				}
				if plain, _, err := format.OpenRecord(nil, r.at, format.Secret{Key: key, Version: version},
					r.value); err == nil && !opened[string(plain)] {
					opened[string(plain)] = true
					plaintexts = append(plaintexts, plain)
				}
			}
		}
	}
	return plaintexts
}

// Machine is what outlives a process: the rows, and the key store. It can be told to die at an operation.
type Machine struct {
	engine engine.Engine
	keys   keystore.Memory

	mu   sync.Mutex // guards all below
	ops  int        // operations that change something, since it was last started
	die  int        // the operation at which it dies; negative: it does not
	done bool       // that operation is done all the same
	dead bool
}

// ErrDied is what everything on a dead machine says.
var ErrDied = errors.New("the machine has died")

// NewMachine returns a machine with nothing on it.
func NewMachine() *Machine { return &Machine{engine: memory.New(), die: -1} }

// Start starts it anew, to die at an operation, before or after that is done. A negative one does not come.
func (m *Machine) Start(t testing.TB, cfg Config, die int, done bool) (*Store, error) {
	m.mu.Lock()
	m.ops, m.die, m.done, m.dead = 0, die, done, false
	m.mu.Unlock()
	s := newStore(cfg, mortalEngine{m.engine, m})
	f, err := s.root.Open(t.Context(), cfg.Protectors, s.newest())
	if err != nil {
		return nil, err
	}
	s.format.Store(f.Number)
	s.leases.Open(s.root, s.formats())
	epochs, err := place.Open(t.Context(), place.Config{In: mortalKeys{&m.keys, m}, Root: s.root, Report: s.report})
	if err != nil {
		return nil, err
	}
	s.keepEpochs(epochs)
	if err := s.migrate(t.Context(), f.Number); err != nil {
		return nil, err
	}
	if err := s.Spaces().Create(t.Context(), Operator); err != nil && !errors.Is(err, ErrExists) {
		return nil, err
	}
	return s, nil
}

// Died reports whether the operation to die at has come.
func (m *Machine) Died() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func (m *Machine) do(op func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrDied
	}
	m.ops++
	if m.ops-1 != m.die {
		return op()
	}
	m.dead = true
	if m.done {
		if err := op(); err != nil {
			return err
		}
	}
	return ErrDied
}

type mortalEngine struct {
	engine.Engine
	m *Machine
}

func (e mortalEngine) View(ctx context.Context, fn func(engine.Reader) error) error {
	if e.m.Died() {
		return ErrDied
	}
	return e.Engine.View(ctx, fn)
}

func (e mortalEngine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	return e.m.do(func() error { return e.Engine.Update(ctx, fn) })
}

func (e mortalEngine) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	err = e.m.do(func() error {
		wait, err = e.Engine.Commit(ctx, scope, fn)
		return err
	})
	return wait, err
}

func (e mortalEngine) Close() error { return nil }

type mortalKeys struct {
	keystore.Place
	m *Machine
}

func (k mortalKeys) Put(ctx context.Context, space format.ID, epoch uint32, sealed []byte) error {
	return k.m.do(func() error { return k.Place.Put(ctx, space, epoch, sealed) })
}

func (k mortalKeys) DestroyEpoch(ctx context.Context, space format.ID, epoch uint32) error {
	return k.m.do(func() error { return k.Place.DestroyEpoch(ctx, space, epoch) })
}

func (k mortalKeys) Destroy(ctx context.Context, space format.ID) error {
	return k.m.do(func() error { return k.Place.Destroy(ctx, space) })
}

// Epochs lists the epochs of a space that have a key.
func (m *Machine) Epochs(id SpaceID) []uint32 {
	list, _ := m.keys.List(context.Background(), format.ID(id))
	return list
}

// InTheClear returns what a transaction and its group hold in the clear: plaintexts, and the secrets of records. It
// reads every slice of bytes that they reach, so that no kind of them is forgotten.
func InTheClear(tx Tx) (all [][]byte) {
	seen := map[uintptr]bool{}
	var look func(v reflect.Value)
	look = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || seen[v.Pointer()] {
				return
			}
			seen[v.Pointer()] = true
			look(v.Elem())
		case reflect.Interface:
			look(v.Elem())
		case reflect.Map:
			for each := v.MapRange(); each.Next(); {
				look(each.Value())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Field(i); !slices.Contains([]string{"q", "ctx", "base", "ring", "salt"},
					v.Type().Field(i).Name) {
					look(f)
				}
			}
		case reflect.Slice:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				all = append(all, v.Bytes())
			}
		}
	}
	look(reflect.ValueOf(tx.writer()))
	return all
}

// Step is a migration of a test.
type Step struct {
	Name, Since string
	Rolling     bool
	Run         func(context.Context, *Store) error
}

// WithSettling returns a configuration to move epoch keys from, whose places settle in a time.
func WithSettling(cfg Config, settling time.Duration) Config {
	cfg.settling = settling
	return cfg
}

// WithSteps returns the configuration of a program that knows further migrations, after the program's own.
func WithSteps(cfg Config, further ...Step) Config {
	cfg.migrations = slices.Clone(migrations)
	for _, m := range further {
		cfg.migrations = append(cfg.migrations, migration{
			Migration: Migration{Number: uint32(len(cfg.migrations) + 1), Name: m.Name, Since: m.Since}, run: m.Run,
			rolling: m.Rolling,
		})
	}
	return cfg
}

// ForgetFormat makes the store what it was before stores had formats.
func (s *Store) ForgetFormat(t testing.TB) {
	err := s.root.Change(context.Background(), func(doc *keys.Instance) error {
		doc.Format = keys.Format{}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Migrations returns all steps, oldest first.
func Migrations() (all []Migration) {
	for _, m := range migrations {
		all = append(all, m.Migration)
	}
	return all
}

// Anchor brings what is kept outside the engine up to date, as Run does once a minute.
func (s *Store) Anchor(ctx context.Context) error { return s.anchorSpaces(ctx) }

// AtRotation calls at before each part of a step of a rotation.
func (s *Store) AtRotation(at func(step string) error) {
	s.rotation.mu.Lock()
	defer s.rotation.mu.Unlock()
	s.rotation.at = at
}

// PutBack writes rows into a store that is closed, as somebody with the disk can.
func PutBack(t testing.TB, cfg Config, rows []Row) {
	t.Helper()
	eng, _, err := openEngine(context.Background(), cfg)
	if err == nil {
		err = eng.Update(context.Background(), func(w engine.Writer) error {
			for _, row := range rows {
				// the compiler refuses; an intruder does not ask it
				if err := w.Put(row.Key, *(*format.Sealed)(unsafe.Pointer(&row.Value))); err != nil {
					return err
				}
			}
			return nil
		})
		err = errors.Join(err, eng.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// RootVersions returns, for everything that is sealed under the root key, the versions of the key that it is sealed
// under. The data keys in customers' slots are left out: they lie inside of what a vault wrapped.
func (s *Store) RootVersions(t testing.TB, anchors string) map[string][]uint32 {
	t.Helper()
	found := map[string][]uint32{}
	add := func(what string, version uint32) {
		if !slices.Contains(found[what], version) {
			found[what] = append(found[what], version)
		}
	}
	mark := func(what string, value []byte) {
		version, err := format.RootVersion(value)
		if err != nil {
			t.Fatal(err)
		}
		add(what, version)
	}
	defer s.root.Hold()()
	for _, row := range s.Rows(t) {
		switch row.Kind {
		case rowkey.Log:
			mark("logs", row.Value)
		case rowkey.Bundle:
			mark("bundles", row.Value)
			doc, err := s.bundles.Decode(row.Space, row.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range doc.Generations {
				for _, slot := range g.Slots {
					if slot.Role == Service {
						add("slots", max(slot.Root, 1))
					}
				}
			}
			epochs, err := s.epochs.List(t.Context(), format.ID(row.Space))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range epochs {
				value, err := s.epochs.Get(t.Context(), format.ID(row.Space), e)
				if err != nil {
					t.Fatal(err)
				}
				mark("epochs", value)
			}
		}
	}
	value, err := os.ReadFile(filepath.Join(anchors, s.Instance()))
	if err != nil {
		t.Fatal(err)
	}
	mark("anchors", value)
	return found
}

// OpenPausable opens a store with a shared memory engine, in a process that can be paused.
func OpenPausable(ctx context.Context, cfg Config) (*Store, *Process, error) {
	p := NewProcess(cfg)
	s, err := p.Open(ctx, cfg)
	return s, p, err
}

// NewProcess returns a process that has not opened its store yet.
func NewProcess(cfg Config) *Process {
	_, name, _ := strings.Cut(cfg.Engine, ":")
	return &Process{Engine: memory.Open(name)}
}

// Open opens the store.
func (p *Process) Open(ctx context.Context, cfg Config) (*Store, error) {
	return openOver(ctx, cfg, p, "")
}

// Process is a process whose leases are not renewed while it is paused, and which does not know.
type Process struct {
	*memory.Engine

	mu     sync.Mutex    // guards all below
	paused chan struct{} // closed when it goes on; nil: it is not paused
	busy   chan struct{} // closed when there are snapshots again; nil: there are
	before func()        // called before transactions that write to a space; nil: nothing
	loses  bool          // the answers to commits
}

// OpenWithClock opens a store with a shared memory engine whose server has a clock.
func OpenWithClock(ctx context.Context, cfg Config, now func() time.Time) (*Store, error) {
	return openOver(ctx, cfg, clockedEngine{NewProcess(cfg).Engine, now}, "")
}

// clockedEngine is an engine whose server has a clock.
type clockedEngine struct {
	*memory.Engine
	now func() time.Time
}

// Now implements engine.Clock.
func (e clockedEngine) Now(context.Context) (time.Time, error) { return e.now(), nil }

// ErrAnswer is of a commit whose answer was lost.
var ErrAnswer = errors.New("the answer to a commit was lost")

// LoseAnswers says whether commits to spaces fail after they were made.
func (p *Process) LoseAnswers(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loses = yes
}

// BeforeCommit calls fn before each transaction that writes to a space and comes after an epoch key was put.
func (p *Process) BeforeCommit(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = fn
}

// Pause pauses the process, save for what the test has it do.
func (p *Process) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = make(chan struct{})
}

// Resume lets it go on.
func (p *Process) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.paused)
	p.paused = nil
}

// Occupy takes all snapshots of the engine, as many long reads do, until free.
func (p *Process) Occupy() (free func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	busy := make(chan struct{})
	p.busy = busy
	return func() { close(busy) }
}

// View implements engine.Engine.
func (p *Process) View(ctx context.Context, fn func(engine.Reader) error) error {
	p.mu.Lock()
	busy := p.busy
	p.mu.Unlock()
	if busy != nil {
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return p.Engine.View(ctx, fn)
}

// Commit implements engine.Engine.
func (p *Process) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	if scope == rowkey.LeaseScope {
		p.mu.Lock()
		paused := p.paused
		p.mu.Unlock()
		if paused != nil {
			<-paused
		}
	} else if scope != (format.ID{}) {
		epochs, err := p.Epochs().List(context.Background(), scope)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		before := p.before
		p.mu.Unlock()
		if before != nil && len(epochs) > 1 {
			before()
		}
	}
	wait, err = p.Engine.Commit(ctx, scope, fn)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.loses && scope != rowkey.LeaseScope {
		return nil, ErrAnswer
	}
	return wait, err
}

// SweepEpochs destroys what a crash left of epoch keys, as Run does at its start.
func (s *Store) SweepEpochs(ctx context.Context) error { return s.sweepEpochs(ctx) }

// Epochs returns the epoch that a space's bundle has, and those that the key store has a key of.
func (s *Store) Epochs(t testing.TB, id SpaceID) (current uint32, kept []uint32) {
	doc, err := (&Bundle{s.Space(id)}).read(t.Context())
	if err == nil {
		kept, err = s.epochs.List(t.Context(), format.ID(id))
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc.Current.Epoch, kept
}

// LeaveEpoch puts a key of an epoch into the key store, as a crash leaves it there.
func (s *Store) LeaveEpoch(t testing.TB, id SpaceID, epoch uint32) {
	if err := s.epochs.Put(t.Context(), format.ID(id), epoch, []byte("of a crash")); err != nil {
		t.Fatal(err)
	}
}

// IsTurning reports whether an error says that a turn must be finished first.
func IsTurning(err error) bool { return errors.Is(err, keys.ErrTurning) }

// KeepPlace has the rows that stores share by name kept until it is undone, also while no store is open.
func KeepPlace(t testing.TB, name string) (undo func()) {
	eng, _, err := openEngine(context.Background(), Config{Engine: name})
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = eng.Close() }
}

// OpenWithoutKeys opens a store with the rows that others share and an empty key store.
func OpenWithoutKeys(ctx context.Context, cfg Config) (*Store, error) {
	_, name, _ := strings.Cut(cfg.Engine, ":")
	return openOver(ctx, cfg, withoutKeys{memory.Open(name)}, "")
}

type withoutKeys struct{ *memory.Engine }

func (withoutKeys) Epochs() *keystore.Memory { return &keystore.Memory{} }

// CopyRows puts the rows of a store in the place of those of a named memory engine, as a clone of a database does.
func CopyRows(t testing.TB, s *Store, name string) {
	eng, _, err := openEngine(context.Background(), Config{Engine: name})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	SetRows(t, eng, s.Rows(t))
}

// SetBack puts rows of a store in the place of those that it has, as a database does that fails over and loses commits.
func SetBack(t testing.TB, s *Store, rows []Row) { SetRows(t, s.engine, rows) }

// SetRows puts rows in the place of those of an engine.
func SetRows(t testing.TB, eng engine.Engine, rows []Row) {
	err := eng.Update(context.Background(), func(w engine.Writer) error {
		members := rowkey.OfSpace(rowkey.LeaseScope, rowkey.Member) // which are of processes, and stay
		old, err := rowkey.Collect(w, nil, nil, 1<<20)
		for _, key := range old {
			if err == nil && !bytes.HasPrefix(key, members) {
				err = w.Delete(key)
			}
		}
		for _, row := range rows {
			if bytes.HasPrefix(row.Key, members) {
				continue
			}
			value, failed := format.Restored(row.Kind, row.Value)
			if err = errors.Join(err, failed); err == nil {
				err = w.Put(row.Key, value)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ForgetPlace makes of a store one from before it was recorded where its epoch keys lie.
func ForgetPlace(t testing.TB, s *Store) {
	defer s.root.Hold()()
	mark, err := s.epochs.Mark(context.Background())
	err = errors.Join(err, s.epochs.SetMark(context.Background(), mark, nil),
		s.root.Change(context.Background(), func(doc *keys.Instance) error {
			doc.Placed = nil
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
}

// PlaceID is the id of the place of the epoch keys that a store knows.
func (s *Store) PlaceID(t testing.TB) SpaceID {
	defer s.root.Hold()()
	doc, err := s.root.Read(context.Background())
	if err != nil || doc.Placed == nil {
		t.Fatal(err, doc.Placed)
	}
	return SpaceID(doc.Placed.ID)
}
