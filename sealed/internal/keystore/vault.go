package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// KV is a folder in a key-value store whose values have versions, such as that of HashiCorp Vault. It is safe for
// concurrent use. Each call ends within a few seconds. An error that is a keysource.ErrDenied is a definite refusal;
// after every other one it is not known whether the call was done.
type KV interface {
	// Read returns the newest version of a value. A version of zero: there is none and was none; a nil value of another
	// version: it was deleted or destroyed.
	Read(ctx context.Context, path string) (value []byte, version int, err error)
	// Write puts a value in place of a version, which must be the newest; zero: there is none. It returns the version
	// that it has made. ok is false when another one is the newest: nothing was written then.
	Write(ctx context.Context, path string, after int, value []byte) (version int, ok bool, err error)
	// Keeps makes sure that the store does not delete by itself what is written to it now. Error: a keysource.ErrDenied
	// where it does.
	Keeps(ctx context.Context) error
	// Destroy removes versions of a value for good. What is not there is no error.
	Destroy(ctx context.Context, path string, versions ...int) error
	// Delete removes a value for good, with all its versions. What is not there is no error.
	Delete(ctx context.Context, path string) error
	// List returns the names in a folder, in no order. Those of folders end in a slash.
	List(ctx context.Context, path string) ([]string, error)
	// Name says where it is, for people. It holds no secret.
	Name() string
}

// DefaultPatience is how long a store over a network is asked again when it does not answer: enough for a node that
// gives way to its standby.
const DefaultPatience = 15 * time.Second

// The delays between two attempts.
const (
	firstDelay = 50 * time.Millisecond
	lastDelay  = time.Second
)

// OutageError is every error of a place that cannot be used now, and may be later: one over a network that does not
// answer, a folder whose volume fails. It is a visage.Outage.
type OutageError struct {
	Place string // its name
	Err   error
}

// Error says which key store it is and what happened.
func (e *OutageError) Error() string {
	return fmt.Sprintf("the store of epoch keys at %s cannot be used: %v", e.Place, e.Err)
}

// Unwrap returns what happened.
func (e *OutageError) Unwrap() error { return e.Err }

// Outage is the sentence for a caller.
func (e *OutageError) Outage() string {
	return "The store of the service's epoch keys cannot be used at the moment. Try again later."
}

// Vault keeps epoch keys and anchors of one instance in a key-value store with versions:
// epochs/<instance>/<space>/<epoch> and anchors/<instance>/<space>, with the mark in places/<instance>.
type Vault struct {
	kv       KV
	instance string
	patience time.Duration
}

// InVault uses a key-value store. Nothing is sent yet. patience is how long it is asked again; zero: DefaultPatience.
func InVault(kv KV, instance format.ID, patience time.Duration) *Vault {
	if patience == 0 {
		patience = DefaultPatience
	}
	return &Vault{kv, instance.String(), patience}
}

// Grade implements Place.
func (v *Vault) Grade() (Grade, string) { return GradeVault, "" }

// GradeOf implements Place.
func (v *Vault) GradeOf(context.Context, format.ID, uint32) (Grade, error) { return GradeVault, nil }

// Name implements Place.
func (v *Vault) Name() string { return v.kv.Name() }

// Close implements Place.
func (v *Vault) Close() {}

func (v *Vault) epochs(space format.ID) string { return "epochs/" + v.instance + "/" + space.String() }

func (v *Vault) epoch(space format.ID, epoch uint32) string {
	return v.epochs(space) + "/" + strconv.FormatUint(uint64(epoch), 10)
}

func (v *Vault) anchor(space format.ID) string { return "anchors/" + v.instance + "/" + space.String() }

// again runs a call until it has an answer, for as long as patience says. first is whether it is the first attempt:
// what a later one finds may be what an earlier one has done.
func (v *Vault) again(ctx context.Context, call func(first bool) error) error {
	delay, until := firstDelay, time.Now().Add(v.patience)
	for first := true; ; first = false {
		err := call(first)
		switch {
		case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrChanged):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, keysource.ErrDenied) || time.Now().After(until):
			return &OutageError{v.Name(), err}
		}
		t := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		delay = min(2*delay, lastDelay)
	}
}

// Put implements Store.
func (v *Vault) Put(ctx context.Context, space format.ID, epoch uint32, sealed []byte) error {
	path := v.epoch(space, epoch)
	return v.again(ctx, func(first bool) error {
		_, ok, err := v.kv.Write(ctx, path, 0, sealed)
		if err != nil || ok {
			return err
		}
		if !first { // the answer to the attempt before may have been lost
			if there, _, err := v.kv.Read(ctx, path); err != nil || bytes.Equal(there, sealed) {
				return err
			}
		}
		return fmt.Errorf("%w: %s/%s", ErrExists, v.Name(), path)
	})
}

// Get implements Store.
func (v *Vault) Get(ctx context.Context, space format.ID, epoch uint32) (sealed []byte, err error) {
	err = v.again(ctx, func(bool) error {
		sealed, _, err = v.read(ctx, v.epoch(space, epoch))
		return err
	})
	return sealed, err
}

// read reads a value that is there. One that somebody has deleted, and not destroyed, can be brought back by the
// operators of the store.
func (v *Vault) read(ctx context.Context, path string) (value []byte, version int, err error) {
	value, version, err = v.kv.Read(ctx, path)
	switch {
	case err != nil:
		return nil, 0, err
	case version == 0:
		return nil, 0, fmt.Errorf("%w: %s/%s", ErrNotFound, v.Name(), path)
	case value == nil:
		return nil, version, fmt.Errorf("%w: version %d of %s/%s was deleted there; if it was not destroyed, its "+
			"operators can undelete it", ErrNotFound, version, v.Name(), path)
	}
	return value, version, nil
}

// Replace implements Store.
func (v *Vault) Replace(ctx context.Context, space format.ID, epoch uint32, from, to []byte) error {
	path := v.epoch(space, epoch)
	return v.again(ctx, func(bool) error {
		now, version, err := v.read(ctx, path)
		switch {
		case err != nil:
			return err
		case bytes.Equal(now, to): // nobody else makes these bytes
		case !bytes.Equal(now, from):
			return fmt.Errorf("%w: %s/%s", ErrChanged, v.Name(), path)
		default:
			if err := v.kv.Keeps(ctx); err != nil { // before anything is written: the newest version counts
				return err
			}
			made, ok, err := v.kv.Write(ctx, path, version, to)
			if err != nil {
				return err
			}
			if !ok {
				return errMoved
			}
			version = made
		}
		return v.onlyNewest(ctx, path, version)
	})
}

// errMoved is of a value that was written between the look at it and the attempt to replace it. What it is now says the
// next attempt.
var errMoved = errors.New("it was written meanwhile")

// onlyNewest destroys what is left of earlier versions.
func (v *Vault) onlyNewest(ctx context.Context, path string, version int) error {
	var before []int
	for n := 1; n < version; n++ {
		before = append(before, n)
	}
	if len(before) == 0 {
		return nil
	}
	return v.kv.Destroy(ctx, path, before...)
}

// Tidy implements Store.
func (v *Vault) Tidy(ctx context.Context, space format.ID) error {
	epochs, err := v.List(ctx, space)
	for _, e := range epochs {
		if err != nil {
			break
		}
		path := v.epoch(space, e)
		err = v.again(ctx, func(bool) error {
			_, version, err := v.read(ctx, path)
			if err == nil {
				err = v.onlyNewest(ctx, path, version)
			}
			return err
		})
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
	}
	return err
}

// List implements Store.
func (v *Vault) List(ctx context.Context, space format.ID) (epochs []uint32, err error) {
	names, err := v.names(ctx, v.epochs(space))
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 32); err == nil {
			epochs = append(epochs, uint32(n))
		}
	}
	return epochs, err
}

func (v *Vault) names(ctx context.Context, path string) (names []string, err error) {
	err = v.again(ctx, func(bool) error {
		names, err = v.kv.List(ctx, path)
		return err
	})
	return names, err
}

// DestroyEpoch implements Store.
func (v *Vault) DestroyEpoch(ctx context.Context, space format.ID, epoch uint32) error {
	return v.again(ctx, func(bool) error { return v.kv.Delete(ctx, v.epoch(space, epoch)) })
}

// Destroy implements Store.
func (v *Vault) Destroy(ctx context.Context, space format.ID) error {
	epochs, err := v.List(ctx, space)
	for _, e := range epochs {
		err = errors.Join(err, v.DestroyEpoch(ctx, space, e))
	}
	return err
}

// Spaces implements Place.
func (v *Vault) Spaces(ctx context.Context) ([]format.ID, error) {
	return v.ids(ctx, "epochs/"+v.instance)
}

func (v *Vault) ids(ctx context.Context, path string) (ids []format.ID, err error) {
	names, err := v.names(ctx, path)
	for _, name := range names {
		if id, ok := parseID(strings.TrimSuffix(name, "/")); ok {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Anchor implements Anchors.
func (v *Vault) Anchor(ctx context.Context, space format.ID) (value []byte, err error) {
	err = v.again(ctx, func(bool) error {
		value, _, err = v.read(ctx, v.anchor(space))
		return err
	})
	return value, err
}

// SetAnchor implements Anchors. Earlier versions stay for as long as the store keeps them: they hold no secret.
func (v *Vault) SetAnchor(ctx context.Context, space format.ID, from, to []byte) error {
	return v.set(ctx, v.anchor(space), from, to)
}

// set puts a value in place of another one.
func (v *Vault) set(ctx context.Context, path string, from, to []byte) error {
	return v.again(ctx, func(first bool) error {
		now, version, err := v.kv.Read(ctx, path)
		switch {
		case err != nil:
			return err
		case !first && bytes.Equal(now, to): // nil: it is gone
			return nil
		case !bytes.Equal(now, from):
			return fmt.Errorf("%w: %s/%s", ErrChanged, v.Name(), path)
		case to == nil:
			return v.kv.Delete(ctx, path)
		}
		_, ok, err := v.kv.Write(ctx, path, version, to)
		if err == nil && !ok {
			err = errMoved
		}
		return err
	})
}

// Anchored implements Anchors.
func (v *Vault) Anchored(ctx context.Context) ([]format.ID, error) {
	return v.ids(ctx, "anchors/"+v.instance)
}

func (v *Vault) mark() string { return "places/" + v.instance }

// Mark implements Marks.
func (v *Vault) Mark(ctx context.Context) (value []byte, err error) {
	err = v.again(ctx, func(bool) error {
		value, _, err = v.read(ctx, v.mark())
		return err
	})
	return value, err
}

// SetMark implements Marks.
func (v *Vault) SetMark(ctx context.Context, from, to []byte) error {
	return v.set(ctx, v.mark(), from, to)
}
