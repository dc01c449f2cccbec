package sealed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Grade says how far an erasure reaches; a receipt never claims more.
type Grade = keystore.Grade

// The grades of erasure.
const (
	// GradeStore: the epoch key lived with the data, or in a database that hands its log on. Nothing is promised beyond
	// the deletion itself.
	GradeStore = keystore.GradeStore
	// GradeDatabase: the epoch key was deleted in a database apart from the data. What survives is that database's
	// write-ahead log and free space, until its server writes over them, and copies that others made.
	GradeDatabase = keystore.GradeDatabase
	// GradeKeyStore: the epoch key was overwritten in a folder apart from the data. What survives is copies of that
	// folder, made by others.
	GradeKeyStore = keystore.GradeKeyStore
	// GradeVault: the epoch key was destroyed in a key-value store that encrypts what it keeps. What survives is copies
	// that its operators made, under that store's own keys.
	GradeVault = keystore.GradeVault
)

// Receipt says what an erasure ended; the audit log signs it.
type Receipt struct {
	Space      SpaceID
	Generation uint32 // of the data key
	Epoch      uint32 // whose key was destroyed; zero: nothing was erased
	Grade      Grade
	Erased     []Erased // by container, in the order of their blinded ids
}

// Erased is what was erased of one container.
type Erased struct {
	Container string   // blinded id in hexadecimal
	Whole     bool     // the container was dropped, with all that was in it
	Count     int      // records, unless it was the whole
	Hash      [32]byte // SHA-256 of the records' blinded ids, in ascending order, 16 bytes each
}

// Erase is Update, and returns when what fn deleted is erased: when the key is destroyed that led to the secrets of
// these records in every older copy of the data, wherever it is. What Update deletes is erased as well, a moment later,
// while Run runs; Erase waits for it. Many at once share the work. When the error is of the erasure and not of the
// update, the records are deleted and Run goes on trying; *EraseError tells.
func (sp *Space) Erase(ctx context.Context, fn func(Tx) error) (Receipt, error) {
	c, err := sp.update(ctx, fn)
	if err != nil || len(c.Gone) == 0 {
		return Receipt{Space: sp.id}, err
	}
	r, err := sp.turnPast(ctx, c.Sequence, c.Pair)
	if err != nil {
		return Receipt{}, &EraseError{sp.id, err}
	}
	r.Erased = summary(c.Gone)
	return r, nil
}

// EraseError says that records are deleted, but that older copies of them may open until the keys are turned.
type EraseError struct {
	Space SpaceID
	Err   error
}

// Error says so.
func (e *EraseError) Error() string {
	return fmt.Sprintf("deleted from space %s, not yet erased from older copies: %v", e.Space, e.Err)
}

// Unwrap returns why the keys could not be turned.
func (e *EraseError) Unwrap() error { return e.Err }

func summary(gone []tree.Ref) (list []Erased) {
	slices.SortFunc(gone, func(a, b tree.Ref) int {
		if c := bytes.Compare(a.Container[:], b.Container[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	for len(gone) > 0 {
		e := Erased{Container: gone[0].Container.String()}
		hash := sha256.New()
		n := 0
		for ; n < len(gone) && gone[n].Container == gone[0].Container; n++ {
			if gone[n].ID == (format.ID{}) {
				e.Whole = true
				continue
			}
			e.Count++
			hash.Write(gone[n].ID[:])
		}
		copy(e.Hash[:], hash.Sum(nil))
		list, gone = append(list, e), gone[n:]
	}
	return list
}

// turnPast makes sure that the epoch has been turned since the root container had a sequence number, under a pair. Who
// comes while another turns finds, most of the time, that it was done for both; another process may have done it too.
func (sp *Space) turnPast(ctx context.Context, sequence uint64, under format.Pair) (Receipt, error) {
	sp.keying.Lock()
	defer sp.keying.Unlock()
	for {
		sp.mu.Lock()
		turned, ended := sp.turnedAt, sp.ended
		sp.mu.Unlock()
		if turned < sequence {
			doc, err := (&Bundle{sp}).read(ctx)
			if err != nil {
				return Receipt{}, err
			}
			if gone, err := sp.store.bundles.Ended(ctx, sp.id, doc, under); err != nil {
				return Receipt{}, err
			} else if gone {
				ended = under
				sp.turned(sequence, ended)
			} else if ended, err = sp.turn(ctx, doc.Current.Generation, nil); err != nil {
				if sp.store.sharedEngine() && errors.Is(err, ErrChanged) && ctx.Err() == nil {
					continue
				}
				return Receipt{}, err
			}
		}
		grade, err := sp.store.epochs.GradeOf(ctx, format.ID(sp.id), ended.Epoch)
		if err != nil {
			grade = GradeStore // the key is destroyed, and the receipt claims nothing that nobody could look up
		}
		return Receipt{Space: sp.id, Generation: ended.Generation, Epoch: ended.Epoch, Grade: grade}, nil
	}
}

// KeyPlace is where epoch keys lie.
type KeyPlace struct {
	Name  string // for people, without secrets
	Grade Grade  // what an erasure reaches there as things stand
	Why   string // what keeps it from reaching more, if that can be changed; empty: nothing
	// Unswept says why keys that a crash has left could not be destroyed yet, which is tried again; nil: there are
	// none.
	Unswept error
	// Stray is how many spaces have keys there and do not exist, so that older copies of them open, as far as was seen
	// last; it is looked at again until there are none.
	Stray int
	// Older says that the place was put back from an older copy, and that a key is missing there, or one that was
	// destroyed since may be there again.
	Older bool
	// Refused says why no keys are changed there, so that nothing is erased: a *PlaceError; nil: they are.
	Refused error
}

// EpochKeys says where the epoch keys lie.
func (s *Store) EpochKeys() KeyPlace {
	p := KeyPlace{Name: s.epochs.Name(), Refused: s.epochs.Refused(), Stray: int(s.stray.Load()),
		Older: s.older.Load() > 0}
	p.Grade, p.Why = s.epochs.Grade()
	if err := s.unswept.Load(); err != nil {
		p.Unswept = *err
	}
	return p
}

// waiting returns the sequence number of the newest erasure that no turn has made final, and the pair that it was made
// under; zero: there is none.
func (sp *Space) waiting() (sequence uint64, under format.Pair) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.erasedAt > sp.turnedAt && sp.ring != nil {
		return sp.erasedAt, sp.erasedUnder
	}
	return 0, format.Pair{}
}

const (
	// eraseRest is how long Run leaves between two rounds of turns, so that many deletions share one.
	eraseRest = time.Second
	// eraseRetry is how long it waits after a turn that failed.
	eraseRetry = 10 * time.Second
)

// eraseForever turns the epochs of spaces in which something was deleted.
func (s *Store) eraseForever(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.erasures.wake:
		}
		rest := eraseRest
		for _, id := range s.erasures.take() {
			sp := s.known(id)
			if sp == nil {
				continue // it was dropped
			}
			sequence, under := sp.waiting()
			if sequence == 0 {
				continue // somebody waited for it, or the space is locked and tells when it opens
			}
			_, err := sp.turnPast(ctx, sequence, under)
			if still, _ := sp.waiting(); err != nil && still != 0 {
				s.report(Event{Kind: EraseDelayed, Space: sp.id, Err: err})
				s.erasures.add(id)
				rest = eraseRetry
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// The delays between two attempts to destroy what a crash has left.
const (
	sweepFirst = time.Second
	sweepLast  = time.Minute
)

// sweepAtStart destroys what a crash has left of drops and turns, and tries again until it has, whatever is in the way:
// the server serves what is there meanwhile, and no erasure is acknowledged.
func (s *Store) sweepAtStart(ctx context.Context) {
	for pause := sweepFirst; ; pause = min(2*pause, sweepLast) {
		err := s.sweepLeft(ctx)
		s.unswept.Store(&err)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.report(Event{Kind: EraseDelayed, Note: s.epochs.Name(), Err: err})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (s *Store) sweepLeft(ctx context.Context) error {
	if err := s.sweepDropped(ctx); err != nil {
		return fmt.Errorf("remove what dropped spaces left: %w", err)
	}
	if err := s.sweepEpochs(ctx); err != nil {
		return fmt.Errorf("destroy epoch keys that a crash left: %w", err)
	}
	return nil
}

// sweepEpochs destroys epoch keys that no bundle speaks of any more: a crash came between a turn and the destruction it
// was for.
func (s *Store) sweepEpochs(ctx context.Context) error {
	ids, err := s.Spaces().List(ctx)
	for _, id := range ids {
		if err != nil {
			break
		}
		err = s.sweepEpochsOf(ctx, id)
	}
	return err
}

func (s *Store) sweepEpochsOf(ctx context.Context, id SpaceID) error {
	sp := s.Space(id)
	defer sp.keyed()()
	if s.isClosed() {
		return ErrClosed
	}
	doc, err := s.bundles.Read(ctx, id)
	if err != nil || doc.State != keys.Active || len(doc.Epochs) != 1 {
		return nil // damage is reported elsewhere; what a turn left for Retire stays
	}
	return s.bundles.EndEpochs(ctx, id, doc.Current.Epoch)
}

// lookAgain is how long keys that should not be there, or that are missing, are left before somebody looks whether an
// operator has put that right.
const lookAgain = 10 * time.Minute

// watchKeys looks at the place of the epoch keys: once, and again for as long as something is wrong there.
func (s *Store) watchKeys(ctx context.Context) {
	for {
		wrong := s.countStrayKeys(ctx)
		if told := s.older.Load(); told > 0 {
			wrong = !s.keysAreWhole(ctx) || !s.older.CompareAndSwap(told, 0) || wrong
		}
		var again <-chan time.Time
		if wrong {
			again = time.After(lookAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.putBack:
		case <-again:
		}
	}
}

// noteOlder is the report of the place of the epoch keys.
func (s *Store) noteOlder(e Event) {
	if e.Kind == KeysOlder {
		s.older.Add(1)
		select {
		case s.putBack <- struct{}{}:
		default:
		}
	}
	s.report(e)
}

// keysAreWhole destroys what should have been destroyed already, and reports whether that is done and each key is there
// that a bundle names.
func (s *Store) keysAreWhole(ctx context.Context) bool {
	if err := s.sweepLeft(ctx); err != nil {
		return false
	}
	ids, err := s.Spaces().List(ctx)
	if err != nil {
		return false
	}
	for _, id := range append(ids, Operator) {
		doc, err := func() (keys.Doc, error) {
			defer s.root.Hold()()
			return s.bundles.Read(ctx, id)
		}()
		if errors.Is(err, ErrNoSpace) {
			continue // it was dropped
		}
		there, listErr := s.epochs.List(ctx, format.ID(id))
		if err != nil || listErr != nil {
			return false
		}
		for _, e := range doc.Epochs {
			if !slices.Contains(there, e.Number) {
				return false
			}
		}
	}
	return true
}

// namedStray is how many spaces a report of stray keys names.
const namedStray = 20

// countStrayKeys counts the spaces that have epoch keys and no bundle, reports them when their number has changed, and
// says whether there are any, or may be. Spaces that were dropped come back like that when the place of the keys is
// restored from an older copy. The keys are not destroyed, for this is also what an older copy of the data looks like.
func (s *Store) countStrayKeys(ctx context.Context) (some bool) {
	stray, err := s.strayKeys(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.report(Event{Kind: KeysStray, Note: "they could not be counted", Err: err})
		}
		return true
	}
	if before := s.stray.Swap(int64(len(stray))); len(stray) == 0 || int(before) == len(stray) {
		return len(stray) > 0
	}
	note := fmt.Sprintf("%d spaces in %s:", len(stray), s.epochs.Name())
	for _, space := range stray[:min(len(stray), namedStray)] {
		note += " " + space.String()
	}
	s.report(Event{Kind: KeysStray, Note: note})
	return true
}

// strayKeys returns the spaces that have epoch keys and no bundle. Where processes share the store, one that is being
// made by another process may be among them.
func (s *Store) strayKeys(ctx context.Context) (stray []format.ID, err error) {
	keyed, err := s.epochs.Spaces(ctx)
	for _, space := range keyed {
		if err != nil {
			break
		}
		s.lifecycle.Lock() // a space that is being made has its key before its bundle
		_, err = s.bundles.Row(ctx, SpaceID(space))
		s.lifecycle.Unlock()
		if errors.Is(err, ErrNoSpace) {
			var left []uint32
			if left, err = s.epochs.List(ctx, space); len(left) > 0 {
				stray = append(stray, space)
			}
		}
	}
	return stray, err
}
