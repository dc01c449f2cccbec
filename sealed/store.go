package sealed

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/commit"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/lease"
	"github.com/visage-face/visage/sealed/internal/place"
	"github.com/visage-face/visage/sealed/internal/postgres"
	"github.com/visage-face/visage/sealed/internal/tree"
	"github.com/visage-face/visage/sealed/internal/volume"
)

// Config says where a Store keeps its rows and its keys.
type Config struct {
	// Engine is the storage engine: what Pebble returns; the URL of a PostgreSQL database without a password (see
	// docs/operations/postgres.md); or "memory:", which forgets. With a name after it, as in "memory:tests", it is one
	// that all stores of this process share which are opened with the same name, as processes share a database; it
	// forgets when the last of them is closed. Required.
	Engine string
	// PasswordFile has the password of the database's role as its first line. Empty: what PostgreSQL's own programs
	// would use. Unused with other engines.
	PasswordFile string
	// Shared says that other processes may have the same store open at the same time. All of them have to say so. It
	// matters only with an engine that can be shared; without it, Open answers ErrInUse while another process has the
	// store open, and keeps others out.
	Shared bool
	// KeyDir is the directory of epoch keys. It must not lie inside the engine's directory, so that a copy of the data
	// holds no key. Required, but unused with "memory:", which keeps its epoch keys in memory too, and where they lie
	// elsewhere.
	KeyDir string
	// EpochKeys says where epoch keys lie instead: the URL of a PostgreSQL database on another server than the data,
	// without a password (see docs/operations/epoch-keys.md). Empty: in EpochVault or KeyDir.
	EpochKeys string
	// EpochKeysPasswordFile has the password of the role of EpochKeys as its first line.
	EpochKeysPasswordFile string
	// EpochVault is a key-value store with versions that epoch keys lie in instead. Nil: in EpochKeys or KeyDir.
	EpochVault EpochVault
	// ReadOnly opens a store that is there for verification and the like: nothing is written, not even that it is open
	// here, so other processes may have it open, whatever they say of sharing, if the engine can be shared.
	ReadOnly bool
	// Protectors of the instance root, at least one. A new store is created under all of them; an existing one opens
	// with the first that answers, and is then protected by the others as well.
	Protectors []Protector
	// AnchorDir is a directory, best on another volume or machine than the data, where the newest states of spaces are
	// kept: data that is older is refused. Empty: they are kept with the epoch keys, unless these lie in a directory or
	// in memory; then going back to an older copy of a whole space is not seen after a restart.
	AnchorDir string
	// AcceptRollback takes data that is older than its anchors, or than the place of its epoch keys, as after a
	// restore; each space for which that is so is reported, and the place.
	AcceptRollback bool
	// FindKeys takes a place of epoch keys without a mark: that of keys which were lost and are about to be brought
	// back from a keyring.
	FindKeys bool
	// Reserve is how many bytes of the data's volume are kept for deletions, keys and the store's own work: below that
	// nothing new is taken. Zero: a sixth of the volume, of at most 256 MiB.
	Reserve uint64
	// Report hears of what an audit would record. It is called from many goroutines and must not block. May be nil.
	Report func(Event)
	// Logger gets what the engine says. May be nil.
	Logger *slog.Logger

	migrations []migration   // tests have others; nil: those of the program
	moving     bool          // for a move of epoch keys
	settling   time.Duration // of a move of epoch keys; tests have another; zero: defaultSettling
}

// keysElsewhere reports whether epoch keys lie elsewhere than in a directory of this machine.
func (c Config) keysElsewhere() bool { return c.EpochKeys != "" || c.EpochVault != nil }

// EpochVault is a key-value store with versions, such as the KV engine of HashiCorp Vault, that keeps epoch keys.
type EpochVault = keystore.KV

// Protector is one way to wrap the instance root key.
type Protector = keys.Protector

// Store is everything that is persisted, sealed. It is safe for concurrent use.
type Store struct {
	engine  engine.Engine
	volumes *volume.Volumes
	epochs  *place.Place
	format  atomic.Uint32 // that this process writes; see docs/decisions/0032-rolling-upgrades.md
	steps   []migration   // that the program knows
	root    *keys.Root
	// the engine, when it is one over PostgreSQL
	database *postgres.Engine
	bundles  *keys.Bundles // nil: the root is not open yet
	rings    arena.Slab    // what the keys of open spaces lie in
	report   event.Report

	life context.Context // ends when the store closes; every lease descends from it
	end  context.CancelCauseFunc

	env *tree.Env // of trees; nil: the root is not open yet

	clock    clock
	shared   bool      // other processes may have the store open
	long     longViews // places of snapshots that last; nil: they need none
	leases   *lease.Leases
	folds    *folds
	erasures *erasures
	anchors  *keys.Anchors
	rotation rotation
	unswept  atomic.Pointer[error] // of the newest attempt at what a crash has left
	stray    atomic.Int64          // spaces that have epoch keys and do not exist, when somebody last looked
	older    atomic.Int64          // times that the place of the epoch keys was put back, and is not known to be whole
	putBack  chan struct{}         // wakes watchKeys

	lifecycle sync.Mutex // held while a space comes or goes; taken before mu

	mu     sync.Mutex // guards all below
	spaces map[SpaceID]*Space
	closed bool
}

// Instance identifies the store for ever.
func (s *Store) Instance() string { return SpaceID(s.root.Instance).String() }

// sharedEngine reports whether other processes may change rows, be it that they took this one for dead.
func (s *Store) sharedEngine() bool { return s.engine.Shared() }

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Space is the data verbs of a space. It is safe for concurrent use.
type Space struct {
	store *Store
	id    SpaceID

	turning sync.Mutex    // held while a Turn is under way; taken before keying
	keying  keyLock       // held while keys are changed; taken before loading, writing and mu
	loading sync.Mutex    // held while keys are opened; taken before mu
	writing *commit.Queue // whose turn it is to write to it; its floor is taken before mu

	lockingElsewhere atomic.Bool // see Bundle.LockElsewhereLater

	mu     sync.Mutex // guards all below
	ring   *openKeys  // nil: not open
	lease  context.Context
	end    context.CancelCauseFunc
	until  time.Time   // when the lease runs out; zero: never
	locked error       // not nil: locked, and why
	fence  uint64      // moves with every lock
	going  []*openKeys // rings that have users left and take no new ones

	// containers whose newest state the root container, or in its own case the anchor, does not know
	dirty       map[format.ID]bool
	erasedAt    uint64      // the root container's sequence number at the newest erasure
	erasedUnder format.Pair // the keys that were current then
	turnedAt    uint64      // at the newest turn; see turned
	ended       format.Pair // what that turn ended

	seenRoot tree.RootState // at the last look for what other processes left
	surveyed bool           // dirty has what earlier and other processes left; see survey
}

// longViews is an engine that has few snapshots at a time, since each needs a connection. A snapshot that lasts takes a
// place first, so that most of them are left to those that are short. Both methods return ctx's cause when it ends.
type longViews interface {
	// LongView takes the place of a load or a scan, for which it waits a bounded time.
	LongView(ctx context.Context) (leave func(), err error)
	// MaintenanceView takes the place of a backup, an export of the keyring or a verification. Those never take the
	// last place of loads and scans, and wait without a bound.
	MaintenanceView(ctx context.Context) (leave func(), err error)
}

// keyLock is a mutex for which a caller can wait as long as a context.
type keyLock chan struct{}

func (l keyLock) Lock()   { l <- struct{}{} }
func (l keyLock) Unlock() { <-l }

// lockIn is Lock, and gives up with the cause of an ended ctx.
func (l keyLock) lockIn(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// openKeys are the keys of an open space, and who uses them. The space's mu guards it.
type openKeys struct {
	*keys.Ring
	users   int           // transactions that use it
	retired bool          // it takes no new users, and is freed when the last one has left
	left    chan struct{} // closed when it is freed
}

// Migration is a step from one format of a store to the next.
type Migration struct {
	Number uint32 // of the format that the store has afterwards
	Name   string
	Does   string // one sentence
	Since  string // the first version of the program that knows the format
}

// migration is a Migration that can be run.
type migration struct {
	Migration

	// rolling says that the program reads the format before and the new one, and writes the format before while
	// Store.format says so. Then processes that share a store are replaced one after another; without it, all of them
	// end before it is migrated.
	rolling bool

	// run rewrites what the format changes, in transactions of the engine of bounded size. It must be idempotent, and
	// must take rows that have the new format already: it runs again from the beginning when it was interrupted, and
	// over a store that was restored from an older backup. It can change only what the instance root opens: no space
	// is open when it is called or, if it is rolling, spaces are at work here and elsewhere, in the new format. Nil:
	// what changed is not rewritten, and the number alone keeps older programs away.
	run func(context.Context, *Store) error
}
