package face

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// erasedTogether is how many persons or faces are erased in one transaction: each costs a few rows, and other writers
// wait meanwhile.
const erasedTogether = 100

// erase is update, for what deletes: it returns when the keys of what was deleted are destroyed. When they cannot be
// for the moment the records are deleted all the same, and the store goes on trying.
func (s *Service) erase(ctx context.Context, res visage.Resource, fn func(sealed.Tx) error) (sealed.Receipt, error) {
	receipt, err := s.space(res).Erase(ctx, fn)
	if late, ok := errors.AsType[*sealed.EraseError](err); ok {
		s.log.WarnContext(ctx, "deleted, and not yet erased from older copies", "resource", res.ID.String(), "err",
			late)
		return sealed.Receipt{Space: sealed.SpaceID(res.ID)}, nil
	}
	return receipt, outcome(err)
}

// Erasure says what a deletion erased, for the person who asked for it. The entry of the audit log says the same; its
// proof (audit.History.Prove) is the receipt, which "visage erase-proof check" checks without the server.
type Erasure struct {
	At time.Time
	// Entry is the sequence number of the erasure in the audit log; zero: it could not be written, and the operator has
	// been told.
	Entry   uint64
	Persons int
	Faces   int // of lists and persons
	// Records is how many records were erased: persons, faces, userData and days of matches. Digest is the SHA-256 over
	// their blinded ids, as in the entry.
	Records int
	Digest  string
	// Generation and Epoch name the key that was destroyed, with which every older copy of the records ended; zero: the
	// records are deleted, and the store goes on trying to destroy the key.
	Generation, Epoch uint32
	// Grade says how far the erasure reaches; empty while the key is not destroyed. docs/erasure.md has the grades, and
	// how long a keyring copy from before the erasure still opens an older backup.
	Grade string
}

// erased records an erasure and returns it, without its counts of persons and faces. The event names what was erased
// with its details: the ids of a person or a face.
func (s *Service) erased(
	ctx context.Context, res visage.Resource, kind audit.Kind, ref Ref, receipt sealed.Receipt,
	details map[audit.Detail]string,
) Erasure {
	e := event(kind, visage.CallerFrom(ctx), res, ref)
	e.Time = time.Now().UTC()
	for d, value := range details {
		e.Set(d, value)
	}
	done := Erasure{At: e.Time}
	if receipt.Epoch != 0 {
		done.Generation, done.Epoch, done.Grade = receipt.Generation, receipt.Epoch, string(receipt.Grade)
		done.Records, done.Digest = summarise(receipt)
	}
	setReceipt(&e, receipt)
	done.Entry = s.record(ctx, e)
	return done
}

// record appends an event of something that is done and cannot be undone, even if its caller has left, and returns the
// sequence number of its entry, if the recorder tells. A failure is logged for the operator.
func (s *Service) record(ctx context.Context, e audit.Event) (entry uint64) {
	ctx = context.WithoutCancel(ctx)
	var err error
	if placer, ok := s.audit.(audit.Placer); ok {
		entry, err = placer.Place(ctx, e)
	} else {
		err = s.audit.Append(ctx, e)
	}
	if err != nil {
		s.log.ErrorContext(ctx, "event not recorded in the audit log", "resource", e.Resource.String(), "kind",
			string(e.Kind), "err", err)
	}
	return entry
}
