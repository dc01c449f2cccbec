package keys

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// try opens the root key with a configured protector into dst, and returns which one of the document it is.
func (r *Root) try(ctx context.Context, dst []byte, p Protector, doc Instance) (protectorDoc, error) {
	if p.Recover != nil {
		key, err := p.Recover(format.SpaceID(doc.ID), doc.Version)
		if err != nil {
			return protectorDoc{}, err
		}
		defer clear(key)
		return protectorDoc{Name: p.Name}, takeRoot(dst, key, doc)
	}
	candidates := doc.candidates(p)
	if len(candidates) == 0 {
		return protectorDoc{},
			fmt.Errorf("the data is not protected by %s; it is protected by %s", p.Name, protectorNames(doc))
	}
	var failed answers
	for _, at := range candidates {
		err := unwrapRoot(ctx, dst, p.Source, at, doc)
		if err == nil {
			return at, nil
		}
		failed = append(failed, err)
	}
	return protectorDoc{}, failed.most()
}

// answers are what a source has said to the protectors of its kind, at least one.
type answers []error

// most returns those that say most. That a source did not wrap the one says nothing while it has said something else of
// another; a refusal hides no silence, which may end, and the other way round.
func (a answers) most() error {
	some := slices.DeleteFunc(slices.Clone(a), isWrong)
	if len(some) == 0 {
		return a[0]
	}
	some = slices.CompactFunc(some, func(one, other error) bool { return one.Error() == other.Error() })
	if len(some) == 1 {
		return some[0]
	}
	return some
}

func isWrong(err error) bool { return errors.Is(err, keysource.ErrWrong) }

// Error says them all.
func (a answers) Error() string {
	texts := make([]string, len(a))
	for i, err := range a {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns them.
func (a answers) Unwrap() []error { return a }

// unwrapRoot opens the root key into dst with the source of a protector.
func unwrapRoot(ctx context.Context, dst []byte, src keysource.Source, at protectorDoc, doc Instance) error {
	key, err := src.Unwrap(about(ctx, doc.ID, doc.Version), at.Ref, at.Wrapped)
	if err != nil {
		return err
	}
	defer clear(key)
	return takeRoot(dst, key, doc)
}

// takeRoot copies a root key to dst if it is the one that the document commits to.
func takeRoot(dst, key []byte, doc Instance) error {
	committed := hmac.Equal(format.RootKeyCommitment(key, doc.ID), doc.Commitment)
	if len(key) != format.KeySize || !committed {
		return fmt.Errorf("%w: it opened something that is not this instance's root key", keysource.ErrWrong)
	}
	copy(dst, key)
	return nil
}

func (r *Root) attach(name string, p Protector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached[name] = p
}

func (r *Root) source(name string) (Protector, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.attached[name]
	return p, ok
}

// about returns a context for calls that are about a version of the root key: stores that can hold that bind what they
// wrap to it.
func about(ctx context.Context, instance format.ID, version uint32) context.Context {
	return keysource.WithLabel(ctx, keysource.Label{Instance: instance, Generation: uint64(version)})
}
