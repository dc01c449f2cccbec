package sealed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Grade says how far an erasure reaches; a receipt never claims more.
type Grade string

// The grades of erasure.
const (
	// GradeStore: the epoch key lived in the same memory as the data. Nothing is promised beyond the deletion itself.
	GradeStore Grade = "D0"
	// GradeKeyStore: the epoch key was overwritten in a key store apart from the data. What survives is copies of that
	// key store, made by others.
	GradeKeyStore Grade = "D1"
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
	r, err := sp.turnPast(ctx, c.Sequence)
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

// turnPast makes sure that the epoch has been turned since the root container had a sequence number. Who comes while
// another turns finds, most of the time, that it was done for both.
func (sp *Space) turnPast(ctx context.Context, sequence uint64) (Receipt, error) {
	sp.keying.Lock()
	defer sp.keying.Unlock()
	sp.mu.Lock()
	turned, ended := sp.turnedAt, sp.ended
	sp.mu.Unlock()
	if turned < sequence {
		doc, err := (&Bundle{sp}).read(ctx)
		if err != nil {
			return Receipt{}, err
		}
		if ended, err = sp.turn(ctx, doc.Current.Generation, nil); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{Space: sp.id, Generation: ended.Generation, Epoch: ended.Epoch, Grade: sp.store.grade()}, nil
}

func (s *Store) grade() Grade {
	if _, ok := s.epochs.(*keystore.Memory); ok {
		return GradeStore
	}
	return GradeKeyStore
}

// waiting returns the sequence number of the newest erasure that no turn has made final; zero: there is none.
func (sp *Space) waiting() uint64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.erasedAt > sp.turnedAt && sp.ring != nil {
		return sp.erasedAt
	}
	return 0
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
			sequence := sp.waiting()
			if sequence == 0 {
				continue // somebody waited for it, or the space is locked and tells when it opens
			}
			if _, err := sp.turnPast(ctx, sequence); err != nil && sp.waiting() != 0 {
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
	return s.bundles.EndEpochs(id, doc.Current.Epoch)
}
