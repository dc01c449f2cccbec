package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

const (
	learnTime = 10 * time.Second // in which a protector has to open a version that another process has made
	// between two tries; who raises the number in a row has no protector asked for each look at it
	learnRest = time.Second
)

// BehindError says that another process has rotated the root key, and that no protector of the new version answers this
// one. It is a visage.Outage.
type BehindError struct {
	Version uint32 // the one that does not open here
	err     error
}

// Error implements error.
func (e *BehindError) Error() string {
	return fmt.Sprintf("version %d of the root key, which another process has made, does not open here yet: %v",
		e.Version, e.err)
}

// Unwrap returns what the protectors said.
func (e *BehindError) Unwrap() error { return e.err }

// Outage is the sentence for a caller.
func (e *BehindError) Outage() string {
	return "Another server of this instance has just rotated the root key, and no key store that protects the new " +
		"one answers this server. Try again later."
}

// learn opens the versions of the key up to one that another process has made, with the first protector that answers.
// When none does, whatever is sealed under them does not open, and it is tried again with the next of that: until then
// it is a *BehindError, unless a protector that answered has refused or opened another key.
func (r *Root) learn(version uint32) error {
	r.learning.Lock()
	defer r.learning.Unlock()
	old := r.versions.Load()
	if version <= old.current {
		return nil
	}
	if time.Since(r.learned) < learnRest {
		return r.unlearnt
	}
	ctx, cancel := context.WithTimeout(context.Background(), learnTime)
	defer cancel()
	all, err := r.openLater(ctx, old)
	r.learned, r.unlearnt = time.Now(), nil
	if err != nil {
		r.unlearnt = &BehindError{version, err}
	}
	if all != nil {
		r.versions.Store(all)
	}
	return r.unlearnt
}

// openLater opens the versions of the key that the row of the instance has besides old; nil: none can be opened, for an
// error because nobody answered.
func (r *Root) openLater(ctx context.Context, old *versions) (*versions, error) {
	row, _, err := r.Row(ctx)
	if err != nil {
		return nil, err
	}
	doc, err := decodeInstance(row)
	if err != nil || doc.ID != r.Instance || doc.Version <= old.current {
		return nil, nil // whoever reads the row says what is wrong with it
	}
	key, err := arena.New(format.KeySize)
	if err != nil {
		return nil, err
	}
	var silent []error
	for _, at := range doc.Protectors {
		p, ok := r.source(at.Name)
		if !ok {
			continue
		}
		if err := unwrapRoot(ctx, key.Bytes(), p.Source, at, doc); err != nil {
			if !errors.Is(err, keysource.ErrDenied) && !errors.Is(err, keysource.ErrWrong) {
				silent = append(silent, fmt.Errorf("%s: %w", at.Name, err))
			}
			continue
		}
		silent = nil
		if format.CheckInstance(key.Bytes(), row) != nil {
			break
		}
		all, err := openVersions(doc, key)
		if err != nil {
			break
		}
		for i, known := range old.keys { // somebody may be using them
			all.keys[i].Free()
			all.keys[i] = known
		}
		return all, nil
	}
	key.Free()
	return nil, errors.Join(silent...)
}
