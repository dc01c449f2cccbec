// Package volume decides what may still be written: it watches how full the volumes of the data, the epoch keys and the
// anchors are, and keeps a reserve for deletions, keys and the store's own work.
package volume

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
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
	tendEvery  = time.Second // how often the free space is read while there are no writes
)

// FullError says that nothing was written, because a volume has too little room left. It is an engine.ErrFull.
type FullError struct {
	Holds        string // what the volume holds: "data" or "epoch keys"
	Free, Needed uint64 // bytes
	Spent        bool   // deletions are refused as well
}

// Error says how much there is and how much is needed.
func (e *FullError) Error() string {
	return fmt.Sprintf("the volume of the %s is full: %s are free, and %s are needed", e.Holds, pebble.Bytes(e.Free),
		pebble.Bytes(e.Needed))
}

// Is makes it an ErrFull.
func (e *FullError) Is(target error) bool { return target == engine.ErrFull }

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

// State is what a volume has left.
type State struct {
	Holds       string // "data", "epoch keys" or "anchors"
	Free, Total uint64 // bytes
	Reserve     uint64 // bytes that are kept for deletions, keys and the store's own work
	Full        bool   // what is new is refused
	Spent       bool   // deletions are refused as well
}

// Volumes are what the store of one instance lies on: the volume of the engine, and those of the epoch keys and of the
// anchors.
type Volumes struct {
	data          engine.Volume // nil: the engine has none
	full          atomic.Bool   // nothing new was taken when somebody last asked
	keys, anchors string        // directories; empty: in memory
}

// VolumesOf returns the volumes of a store over an engine.
func VolumesOf(eng engine.Engine) *Volumes {
	data, _ := eng.(engine.Volume)
	return &Volumes{data: data}
}

// SetDirs says where epoch keys and anchors lie; empty: in memory. It comes before all else.
func (v *Volumes) SetDirs(keys, anchors string) { v.keys, v.anchors = keys, anchors }

// States says how full the volumes are. What is not known is left out.
func (v *Volumes) States() (all []State) {
	if v.data != nil {
		r := v.data.Room()
		if r.Reserve > 0 {
			all = append(all, State{
				Holds: "data", Free: r.Free, Total: r.Total, Reserve: r.Reserve, Full: v.Growth() != nil,
				Spent: v.Exhaustion() != nil,
			})
		}
	}
	for _, d := range []struct{ holds, dir string }{{"epoch keys", v.keys}, {"anchors", v.anchors}} {
		if d.dir == "" {
			continue
		}
		if free, total, err := durable.Room(d.dir); err == nil {
			full := free < smallFiles
			all = append(all, State{Holds: d.holds, Free: free, Total: total, Reserve: smallFiles, Full: full,
				Spent: full})
		}
	}
	return all
}

// Growth refuses what is new.
func (v *Volumes) Growth() *FullError {
	if v.data == nil {
		return nil
	}
	r := v.data.Recent()
	need := r.Reserve
	if v.full.Load() {
		need += r.Reserve / healShare // else it would be full and not full in turn
	}
	if r.Free >= need {
		v.full.Store(false)
		return nil
	}
	v.full.Store(true)
	return &FullError{Holds: "data", Free: r.Free, Needed: need}
}

// Exhaustion refuses deletions, so that they leave some room for keys and logs.
func (v *Volumes) Exhaustion() *FullError {
	if v.data == nil {
		return nil
	}
	r := v.data.Recent()
	need := r.Reserve / lastShare * 3 / 2
	if r.Free >= need {
		return nil
	}
	return &FullError{Holds: "data", Free: r.Free, Needed: need, Spent: true}
}

// MayCreate refuses what is new and needs a file of an epoch key.
func (v *Volumes) MayCreate() (err error) {
	if full := v.Growth(); full != nil {
		err = full
	}
	if v.keys == "" {
		return err
	}
	if free, _, failed := durable.Room(v.keys); failed == nil && free < smallFiles {
		err = errors.Join(err, &FullError{Holds: "epoch keys", Free: free, Needed: smallFiles})
	}
	return err
}

// Bound returns an engine that is not written to once its volume has so little left that it could fail within.
func (v *Volumes) Bound(eng engine.Engine) engine.Engine {
	if v.data == nil {
		return eng
	}
	return bounded{eng, v.data}
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

// MayUseReserve reports whether FromReserve has marked a context.
func MayUseReserve(ctx context.Context) bool { return ctx.Value(fromReserve{}) != nil }

// Watch looks at the volume of the engine until ctx ends or its disk has failed, which is the error it returns.
func (v *Volumes) Watch(ctx context.Context, eng engine.Engine, report event.Report) error {
	if v.data == nil {
		return nil
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	was := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.data.Broken():
			err := eng.View(ctx, func(engine.Reader) error { return nil })
			if err == nil {
				err = engine.ErrBroken
			}
			return err
		case <-tick.C:
		}
		v.data.Tend()
		full := v.Growth()
		if now := full != nil; now != was {
			was = now
			e := event.Event{Kind: event.RoomRegained}
			if now {
				e = event.Event{Kind: event.RoomLow, Err: full}
			}
			report(e)
		}
	}
}

// IsFull reports whether an error is of a full volume, the system's own words for one among them.
func IsFull(err error) bool { return errors.Is(err, engine.ErrFull) || durable.IsFull(err) }
