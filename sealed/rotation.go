package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// rotateAgain is how long a rotation that failed waits for its next try.
const rotateAgain = time.Minute

// rotateForever finishes rotations of the root key.
func (s *Store) rotateForever(ctx context.Context) {
	tick := time.NewTicker(rotateAgain)
	defer tick.Stop()
	failing := false
	for {
		err := s.finishRotation(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			s.report(Event{Kind: RootDelayed, Err: err})
		}
		s.rotation.failed(err)
		failing = err != nil
		again := tick.C
		if !failing && !s.sharedEngine() { // else the process that does it may end before
			again = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-s.rotation.due:
		}
	}
}

// The steps of a rotation, in their order. Each can be repeated.
const (
	stepSettle  = "settle"  // whoever may still seal under the version before has left
	stepAnchors = "anchors" // the file of anchors
	stepBundles = "bundles" // of each space, with its service-managed slots
	stepEpochs  = "epochs"  // the epoch keys of each space
	stepLogs    = "logs"    // the entries of logs
	stepFinish  = "finish"  // the document says that nothing is left to do
)

// finishRotation does what is left of a rotation, if one is under way.
func (s *Store) finishRotation(ctx context.Context) error {
	rotating, err := func() (bool, error) {
		defer s.root.Hold()()
		doc, err := s.root.Read(ctx)
		return doc.Rotating, err
	}()
	if err != nil || !rotating {
		return err
	}
	claim, err := s.Claim(ctx, "root rotation", rotationClaim)
	if errors.Is(err, ErrClaimed) {
		return nil // another process does it
	}
	if err != nil {
		return err
	}
	defer claim.Release()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(claim.Context(), func() { stop(context.Cause(claim.Context())) })()
	err = s.rotation.begin(stepSettle, 0, 0)
	if err == nil {
		err = s.root.Settle(ctx)
	}
	if err == nil {
		err = s.leases.Settle(ctx, s.rootVersion())
	}
	if err == nil {
		err = s.rotation.begin(stepAnchors, 0, 0)
	}
	if err == nil {
		err = s.anchors.Rewrite(ctx)
	}
	if err == nil {
		err = s.resealSpaces(ctx)
	}
	if err == nil {
		err = s.resealLogs(ctx)
	}
	if err == nil {
		err = s.rotation.begin(stepFinish, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("seal under the new root key: %w", err)
	}
	defer s.root.Hold()()
	return s.root.Rotated(ctx)
}

// rotationClaim is how long a rotation waits for a process that does not answer any more.
const rotationClaim = 30 * time.Second

func (s *Store) rootVersion() uint32 {
	defer s.root.Hold()()
	return s.root.Current().Version
}

// resealSpaces seals the bundles of all spaces anew, and then their epoch keys.
func (s *Store) resealSpaces(ctx context.Context) error {
	var spaces []SpaceID
	err := s.engine.View(ctx, func(r engine.Reader) error {
		return rowkey.EachSpace(r, func(space format.ID) error {
			spaces = append(spaces, SpaceID(space))
			return nil
		})
	})
	for _, step := range []struct {
		name string
		do   func(context.Context, SpaceID) error
	}{{stepBundles, s.resealBundle}, {stepEpochs, s.carryEpochs}} {
		for i, id := range spaces {
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err == nil {
				err = s.rotation.begin(step.name, i, len(spaces))
			}
			if err == nil {
				err = step.do(ctx, id)
			}
			if event.IsCorrupt(err) {
				err = nil // it has been reported, and opens under no version of the key
			}
			if err != nil {
				return err
			}
		}
	}
	return err
}

func (s *Store) resealBundle(ctx context.Context, id SpaceID) error {
	defer s.root.Hold()()
	_, err := s.bundles.Reseal(ctx, id)
	return err
}

// carryEpochs seals the epoch keys of a space once more. Nobody changes or destroys keys of the space meanwhile: one
// that was destroyed must not come back.
func (s *Store) carryEpochs(ctx context.Context, id SpaceID) error {
	defer s.Space(id).keyed()()
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	if err := s.bundles.Carry(ctx, id); err != nil || !s.sharedEngine() {
		return err
	}
	// Another process may have destroyed a key at the moment that it was put back: the bundle tells.
	doc, err := s.bundles.Read(ctx, id)
	if errors.Is(err, ErrNoSpace) || err == nil && (doc.State != keys.Active || len(doc.Epochs) == 0) {
		return nil // who removes what it left has the keys listed anew
	}
	if err != nil {
		return err
	}
	return s.bundles.EndEpochs(ctx, id, doc.Epochs[0].Number)
}

// resealBatch is how many entries of logs one transaction seals anew.
const resealBatch = 256

// resealLogs seals the entries of all logs anew that are under an earlier version of the root key.
func (s *Store) resealLogs(ctx context.Context) error {
	from, to := rowkey.OfSpace(format.ID{}, rowkey.Log), rowkey.After(rowkey.OfSpace(format.ID{}, rowkey.Log))
	for done := 0; ; {
		if err := s.rotation.begin(stepLogs, done, 0); err != nil {
			return err
		}
		rows, next, err := s.resealSome(ctx, from, to)
		if err != nil || next == nil {
			return err
		}
		from = next
		done += rows
	}
}

// resealSome does a batch of resealLogs. It returns how many rows it looked at, and where the next one begins; nil: at
// the end.
func (s *Store) resealSome(ctx context.Context, from, to []byte) (rows int, next []byte, err error) {
	defer s.root.Hold()()
	err = engine.CommitAndWait(ctx, s.engine, format.ID{}, func(w engine.Writer) error {
		rows, next = 0, nil
		current := s.root.Current()
		type entry struct {
			log      format.ID
			sequence uint64
			data     []byte
		}
		var old []entry
		for row, err := range w.Scan(from, to) {
			if err != nil {
				return err
			}
			if rows == resealBatch {
				next = append([]byte(nil), row.Key...)
				break
			}
			rows++
			log, sequence, ok := logAt(row.Key)
			if at, err := format.RootVersion(row.Value); !ok || err != nil || at == current.Version {
				continue // what does not belong there, Verify tells of
			}
			data, err := format.OpenLogEntry(s.root.Of, s.root.Instance, log, sequence, row.Value)
			if err != nil {
				_ = (&Log{s, log}).corrupt(sequence, err) // reported: it opens under no version of the key
				continue
			}
			old = append(old, entry{log, sequence, data})
		}
		for _, e := range old {
			if err := (&Log{s, e.log}).put(w, e.sequence, e.data); err != nil {
				return err
			}
		}
		return nil
	})
	return rows, next, err
}
