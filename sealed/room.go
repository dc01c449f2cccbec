package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/pebble"
)

// What is kept of a volume, and for what. Below its reserve a space takes nothing new. Deletions go on until three
// parts in sixteen of it are left, for their marks take room until the engine tidies up, which takes room as well. What
// is left then is for keys, logs and the store's own work, so that a key can still be revoked and its use be logged.
// Below the last part nothing is written at all, so that nothing ever fails within the engine.
const (
	lastShare = 8 // of the reserve, one part: below it nothing is written at all
	// of the reserve, one part: so much more than it must be free before new records are taken again
	healShare  = 8
	smallFiles = 256 << 10   // what the volumes of epoch keys and anchors must have free, in bytes
	tendEvery  = time.Second // how often the volume is looked at when nobody writes
)

// ErrFull is every error of a volume that has too little room left.
var ErrFull = engine.ErrFull

// ErrBroken is every error of a store whose disk failed. It answers nothing more, and has to be opened anew; what was
// acknowledged is there then.
var ErrBroken = engine.ErrBroken

// FullError says that nothing was written, because a volume has too little room left. It is an ErrFull.
type FullError struct {
	Holds        string // what the volume holds: "data" or "epoch keys"
	Free, Needed uint64 // bytes
	Spent        bool   // deletions are refused as well
}

// Bytes writes a number of bytes for people.
func Bytes(n uint64) string { return pebble.Bytes(n) }

// Error says how much there is and how much is needed.
func (e *FullError) Error() string {
	return fmt.Sprintf("the volume of the %s is full: %s are free, and %s are needed", e.Holds, pebble.Bytes(e.Free),
		pebble.Bytes(e.Needed))
}

// Is makes it an ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// Shortage is the sentence for a caller.
func (e *FullError) Shortage() string {
	if e.Spent {
		return fmt.Sprintf(
			"The disk of the service is full: %s are free, and this needs %s. Nothing was written, and deleting is "+
				"refused as well until the operator "+
				"frees space on the volume or enlarges it. Reading goes on.", pebble.Bytes(e.Free),
			pebble.Bytes(e.Needed))
	}
	return fmt.Sprintf(
		"The disk of the service is nearly full: %s are free, and writing needs %s. Nothing was written. Reading and "+
			"deleting go on; delete what "+
			"is not needed, or have the operator free space on the volume or enlarge it.", pebble.Bytes(e.Free),
		pebble.Bytes(e.Needed))
}

// VolumeState is what a volume has left.
type VolumeState struct {
	Holds       string // "data", "epoch keys" or "anchors"
	Free, Total uint64 // bytes
	Reserve     uint64 // bytes that are kept for deletions, keys and the store's own work
	Full        bool   // what is new is refused
	Spent       bool   // deletions are refused as well
}

// Volumes says how full the volumes are. What is not known is left out.
func (s *Store) Volumes() (all []VolumeState) {
	if s.volume != nil {
		r := s.volume.Room()
		if r.Reserve > 0 {
			all = append(all, VolumeState{
				Holds: "data", Free: r.Free, Total: r.Total, Reserve: r.Reserve, Full: s.growth() != nil,
				Spent: s.exhaustion() != nil,
			})
		}
	}
	for _, v := range []struct{ holds, dir string }{{"epoch keys", s.keyDir}, {"anchors", s.anchors.dir}} {
		if v.dir == "" {
			continue
		}
		if free, total, err := durable.Room(v.dir); err == nil {
			full := free < smallFiles
			all = append(
				all, VolumeState{Holds: v.holds, Free: free, Total: total, Reserve: smallFiles, Full: full,
					Spent: full},
			)
		}
	}
	return all
}

// MayGrow returns a *FullError when nothing new is taken. It is for services whose records lie in the operator's space,
// where changes are always taken.
func (s *Store) MayGrow() error {
	if err := s.growth(); err != nil {
		return err
	}
	return nil
}

// MayGrow is the store's: see Store.MayGrow.
func (sp *Space) MayGrow() error { return sp.store.MayGrow() }

// growth refuses what is new.
func (s *Store) growth() *FullError {
	if s.volume == nil {
		return nil
	}
	r := s.volume.Recent()
	need := r.Reserve
	if s.full.Load() {
		need += r.Reserve / healShare // else it would be full and not full in turn
	}
	if r.Free >= need {
		s.full.Store(false)
		return nil
	}
	s.full.Store(true)
	return &FullError{Holds: "data", Free: r.Free, Needed: need}
}

// exhaustion refuses deletions, so that they leave some room for keys and logs.
func (s *Store) exhaustion() *FullError {
	if s.volume == nil {
		return nil
	}
	r := s.volume.Recent()
	need := r.Reserve / lastShare * 3 / 2
	if r.Free >= need {
		return nil
	}
	return &FullError{Holds: "data", Free: r.Free, Needed: need, Spent: true}
}

// mayKeepKeys refuses what needs a new file of an epoch key.
func (s *Store) mayKeepKeys() error {
	if s.keyDir == "" {
		return nil
	}
	if free, _, err := durable.Room(s.keyDir); err == nil && free < smallFiles {
		return &FullError{Holds: "epoch keys", Free: free, Needed: smallFiles}
	}
	return nil
}

// bounded is an engine that is not written to once its volume has so little left that it could fail within.
type bounded struct {
	engine.Engine
	volume engine.Volume
}

// Update implements engine.Engine.
func (b bounded) Update(ctx context.Context, fn func(engine.Writer) error) error {
	if err := b.refuse(); err != nil {
		return err
	}
	return b.Engine.Update(ctx, fn)
}

// Commit implements engine.Engine.
func (b bounded) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	if err := b.refuse(); err != nil {
		return nil, err
	}
	return b.Engine.Commit(ctx, scope, fn)
}

func (b bounded) refuse() error {
	if r := b.volume.Recent(); r.Free < r.Reserve/lastShare {
		return &FullError{Holds: "data", Free: r.Free, Needed: r.Reserve / lastShare, Spent: true}
	}
	return nil
}

type fromReserve struct{}

// FromReserve marks a context: what is written under it may use what is kept in reserve, as deletions do. It is for
// what must go on while the disk is full and is small.
func FromReserve(ctx context.Context) context.Context {
	return context.WithValue(ctx, fromReserve{}, true)
}

// refuseGrowth refuses a transaction that adds or changes records while the volume is full, unless it deletes some as
// well, or is marked; and one that deletes when too little is left for that. The operator's space holds accounts, keys
// and rights, whose changes must go on; what adds to it asks MayGrow.
func (t *txn) refuseGrowth(ctx context.Context, adds, deletes bool) error {
	var full *FullError
	switch {
	case t.sp.id == Operator || ctx.Value(fromReserve{}) != nil:
	case deletes:
		full = t.sp.store.exhaustion()
	case adds:
		full = t.growth()
	}
	if full != nil {
		return full
	}
	return nil
}

// growth refuses what is new, and looks at the volume once for all members of a group.
func (t *txn) growth() *FullError {
	if t.stage == nil {
		return t.sp.store.growth()
	}
	g := t.stage.group
	if !g.looked {
		g.looked, g.full = true, t.sp.store.growth()
	}
	return g.full
}

// watchVolume looks at the volume until ctx ends or its disk has failed, which is the error it returns.
func (s *Store) watchVolume(ctx context.Context) error {
	if s.volume == nil {
		return nil
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	was := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.volume.Broken():
			err := s.engine.View(ctx, func(engine.Reader) error { return nil })
			if err == nil {
				err = ErrBroken
			}
			return err
		case <-tick.C:
		}
		s.volume.Tend()
		full := s.growth()
		if now := full != nil; now != was {
			was = now
			e := Event{Kind: RoomRegained}
			if now {
				e = Event{Kind: RoomLow, Err: full}
			}
			s.report(e)
		}
	}
}

// volumeOf returns the volume of an engine that has one.
func volumeOf(eng engine.Engine) engine.Volume {
	v, _ := eng.(engine.Volume)
	return v
}

// isFull reports whether an error is of a full volume, the system's own words for one among them.
func isFull(err error) bool { return errors.Is(err, ErrFull) || durable.IsFull(err) }
