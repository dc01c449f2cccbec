package keys

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Open opens the root key with the first protector that answers, or makes one in an engine that is empty: the instance
// has the given format then. It returns the format that the instance has.
func (r *Root) Open(ctx context.Context, protectors []Protector, newest Format) (Format, error) {
	names := map[string]bool{}
	for _, p := range protectors {
		if names[p.Name] || p.Name == "" || (p.Source == nil) == (p.Recover == nil) {
			return Format{},
				fmt.Errorf("protector %q of the instance root: names must be unique, and a source is needed", p.Name)
		}
		names[p.Name] = true
	}
	for {
		f, err := r.openRow(ctx, protectors, newest)
		if !errors.Is(err, errOvertaken) {
			return f, err
		}
		r.versions.Swap(nil).free()
		r.mu.Lock()
		clear(r.attached)
		r.ignored = nil
		r.mu.Unlock()
	}
}

// errOvertaken says that another process has changed the document of the instance meanwhile.
var errOvertaken = errors.New("the instance has changed meanwhile")

func (r *Root) openRow(ctx context.Context, protectors []Protector, newest Format) (Format, error) {
	row, empty, err := r.Row(ctx)
	if err != nil {
		return Format{}, err
	}
	var doc Instance
	switch {
	case row != nil:
		doc, err = r.Unwrap(ctx, protectors, row)
	case empty:
		doc, err = r.create(newest)
		r.later = r.learn
	default:
		err = r.report.Corrupt(&event.CorruptError{What: "instance",
			Err: errors.New(
				"the store has rows, but the document of its root key is gone: restore the data directory from a " +
					"backup",
			)})
	}
	if err != nil {
		return Format{}, err
	}
	return doc.Format, r.protect(ctx, protectors, doc, row)
}

// Unwrap opens the root key that a row of the instance holds: it tries the protectors that the instance knows, in the
// order they are given.
func (r *Root) Unwrap(ctx context.Context, protectors []Protector, row []byte) (Instance, error) {
	doc, err := decodeInstance(row)
	if err != nil {
		return Instance{}, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
	}
	current, err := arena.New(format.KeySize)
	if err != nil {
		return Instance{}, err
	}
	var failed RootError
	for _, p := range protectors {
		at, err := r.try(ctx, current.Bytes(), p, doc)
		if err != nil {
			failed.Tried = append(failed.Tried, ProtectorError{p.Name, err})
			if p.Recover != nil {
				break // it was named to be used, not as one way of several
			}
			continue
		}
		err = format.CheckInstance(current.Bytes(), row)
		var all *versions
		if err == nil {
			all, err = openVersions(doc, current)
		}
		if err != nil {
			current.Free()
			return Instance{}, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
		}
		r.versions.Store(all)
		r.Instance, r.later = doc.ID, r.learn
		if p.Recover == nil {
			r.attach(at.Name, p)
		}
		r.mu.Lock()
		r.opened = at.Name
		r.mu.Unlock()
		r.report(event.Event{Kind: event.RootOpened, Note: at.Name})
		return doc, nil
	}
	current.Free()
	return Instance{}, &failed
}

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

// protect wraps the root key with the protectors that do not wrap it yet, and stores the document when anything is
// new, in place of the row that it was read from. One that was removed is left out, although the settings name it.
func (r *Root) protect(ctx context.Context, protectors []Protector, doc Instance, row []byte) error {
	created := row == nil
	var added []string
	recovering := slices.ContainsFunc(protectors, func(p Protector) bool { return p.Recover != nil })
	for _, p := range protectors {
		if p.Recover != nil {
			continue
		}
		if recovering { // what is there under its name opens nothing any more, or need not be asked
			at := doc.of(p)
			if at == nil {
				at = doc.named(p, protectors)
			}
			if at != nil {
				doc.Protectors = slices.DeleteFunc(doc.Protectors, func(old protectorDoc) bool {
					return old.Name == at.Name
				})
			}
			doc.Removed = slices.DeleteFunc(doc.Removed, func(r removedDoc) bool { return r.is(p, "") })
		}
		if at := doc.of(p); at != nil {
			if _, taken := r.source(at.Name); !taken {
				r.attach(at.Name, p)
			}
			continue
		}
		if r.isAttached(p) {
			continue // it has opened the root key as one of another name
		}
		if doc.wasRemoved(p, "") {
			r.ignore(p)
			continue
		}
		if at := doc.named(p, protectors); at != nil && r.mayBe(ctx, p, *at, doc) {
			r.attach(at.Name, p)
			continue
		}
		at, err := r.wrap(ctx, p, r.Current())
		if err != nil {
			return fmt.Errorf("protect the instance root key with %s: %w", p.Name, err)
		}
		if recovering {
			doc.Removed = slices.DeleteFunc(doc.Removed, func(r removedDoc) bool { return r.is(p, at.Ref.Version) })
		}
		if doc.wasRemoved(p, at.Ref.Version) {
			r.ignore(p)
			continue
		}
		if i := slices.IndexFunc(doc.Protectors, func(known protectorDoc) bool {
			_, taken := r.source(known.Name)
			return !taken && p.same(known, at)
		}); i >= 0 { // its entry is spelled in another way now
			r.attach(doc.Protectors[i].Name, p)
			continue
		}
		at.Name = doc.freeName(p.Kind)
		if doc.find(p.Name) == nil {
			at.Name = p.Name
		}
		doc.Protectors = append(doc.Protectors, at)
		r.attach(at.Name, p)
		added = append(added, at.Name)
	}
	if len(doc.Protectors) == 0 {
		return errors.New("the instance root needs at least one protector")
	}
	r.tellExposed(doc)
	if !created && added == nil {
		return nil
	}
	doc.Exposed = doc.exposed()
	value, err := r.Seal(doc)
	if err != nil {
		return err
	}
	err = engine.CommitAndWait(ctx, r.engine, format.ID{}, func(w engine.Writer) error {
		key := rowkey.OfSpace(format.ID{}, rowkey.Instance)
		switch now, _, err := w.Get(key); {
		case err != nil:
			return err
		case !bytes.Equal(now, row):
			return errOvertaken
		}
		return w.Put(key, value)
	})
	if err != nil {
		return err
	}
	for _, name := range added {
		r.report(event.Event{Kind: event.RootProtected, Note: name})
	}
	if created {
		r.report(event.Event{Kind: event.RootCreated})
	}
	return nil
}

// mayBe reports whether a configured protector may be one of the document that has its name and another entry, and that
// no other has taken: unless it answers that it did not wrap what that did.
func (r *Root) mayBe(ctx context.Context, p Protector, at protectorDoc, doc Instance) bool {
	if _, taken := r.source(at.Name); taken {
		return false
	}
	key := make([]byte, format.KeySize)
	defer clear(key)
	return !isWrong(unwrapRoot(ctx, key, p.Source, at, doc))
}

func (r *Root) isAttached(p Protector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.attached {
		if other.Name == p.Name {
			return true
		}
	}
	return false
}

func (r *Root) ignore(p Protector) {
	r.mu.Lock()
	r.ignored = append(r.ignored, entryOf(p))
	r.mu.Unlock()
	r.report(event.Event{Kind: event.RootIgnored, Note: entryOf(p)})
}

// entryOf names a configured protector.
func entryOf(p Protector) string {
	if p.Entry != "" {
		return p.Entry
	}
	return p.Name
}

// tellExposed reports that the root key is exposed, once for each protector by which it is.
func (r *Root) tellExposed(doc Instance) {
	told := false
	for _, p := range doc.Protectors {
		if p.Exposed {
			r.report(event.Event{Kind: event.RootExposed, Note: p.Name})
			told = true
		}
	}
	if doc.Exposed && !told {
		r.report(event.Event{Kind: event.RootExposed, Note: "until the root key is rotated"})
	}
}

// about returns a context for calls that are about a version of the root key: stores that can hold that bind what they
// wrap to it.
func about(ctx context.Context, instance format.ID, version uint32) context.Context {
	return keysource.WithLabel(ctx, keysource.Label{Instance: instance, Generation: uint64(version)})
}

// wrap wraps a version of the root key with a protector, unwraps it again and compares. The result has no name yet.
func (r *Root) wrap(ctx context.Context, p Protector, root format.InstanceKey) (protectorDoc, error) {
	ctx = about(ctx, r.Instance, root.Version)
	blob, ref, err := p.Source.Wrap(ctx, root.Key)
	if err != nil {
		return protectorDoc{}, err
	}
	back, err := p.Source.Unwrap(ctx, ref, blob)
	if err != nil {
		return protectorDoc{}, fmt.Errorf("unwrap what was just wrapped: %w", err)
	}
	defer clear(back)
	if !hmac.Equal(back, root.Key) {
		return protectorDoc{}, fmt.Errorf("%w: what was just wrapped unwraps to something else", keysource.ErrWrong)
	}
	t := now()
	return protectorDoc{Kind: p.Kind, Exposed: p.Exposed, Ref: ref, Wrapped: blob, Entry: p.Entry, Added: t, Tested: t},
		nil
}

// Why a change of protectors is refused.
var (
	ErrNoProtector   = errors.New("no protector of the root key has this name")
	ErrLastProtector = errors.New("it is the only protector that opens the root key")
	ErrProtected     = errors.New("this protector wraps the root key already")
	ErrDetached      = errors.New("the settings of this start do not name this protector")
)

// again repeats a change of protectors or of the key, which asks protectors first, as long as another process has
// changed what it rests on meanwhile: the change then fails with errOvertaken, and has changed nothing.
func (r *Root) again(ctx context.Context, change func(doc Instance) error) error {
	done, err := r.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	for {
		doc, err := r.Read(ctx)
		if err == nil {
			err = change(doc)
		}
		if !errors.Is(err, errOvertaken) || ctx.Err() != nil {
			return err
		}
	}
}

// Add wraps the root key with another protector, proves that it opens it, and returns the name that it has.
// Errors: ErrProtected, what the source says.
func (r *Root) Add(ctx context.Context, p Protector) (name string, err error) {
	err = r.again(ctx, func(doc Instance) error {
		name, err = r.add(ctx, p, doc)
		return err
	})
	if err != nil {
		return "", err
	}
	r.report(event.Event{Kind: event.RootProtected, Note: name})
	return name, nil
}

func (r *Root) add(ctx context.Context, p Protector, doc Instance) (name string, err error) {
	sameEntry := func(at protectorDoc) bool {
		return at.Kind == p.Kind && at.Entry == p.Entry && p.Entry != ""
	}
	if slices.ContainsFunc(doc.Protectors, sameEntry) {
		return "", ErrProtected
	}
	root := r.Current()
	at, err := r.wrap(ctx, p, root)
	if err != nil {
		return "", err
	}
	err = r.Change(ctx, func(doc *Instance) error {
		if doc.Version != root.Version { // what was wrapped opens nothing any more
			return errOvertaken
		}
		if slices.ContainsFunc(doc.Protectors, func(other protectorDoc) bool {
			return sameEntry(other) || p.same(other, at)
		}) {
			return ErrProtected
		}
		at.Name = doc.freeName(p.Kind)
		doc.Protectors = append(doc.Protectors, at)
		doc.Exposed = doc.exposed()
		doc.Removed = slices.DeleteFunc(doc.Removed, func(r removedDoc) bool { return r.is(p, at.Ref.Version) })
		return nil
	})
	if err != nil {
		return "", err
	}
	r.attach(at.Name, p)
	return at.Name, nil
}

// Remove takes a protector out for good: what it wrapped is gone from the document, and the settings of a later start
// do not bring it back. Another one must open the root key first, and still be there when it is gone. Errors:
// ErrNoProtector, ErrLastProtector.
func (r *Root) Remove(ctx context.Context, name string) error {
	err := r.again(ctx, func(doc Instance) error { return r.remove(ctx, name, doc) })
	if err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.attached, name)
	r.mu.Unlock()
	r.report(event.Event{Kind: event.RootUnprotected, Note: name})
	return nil
}

func (r *Root) remove(ctx context.Context, name string, doc Instance) error {
	gone := doc.find(name)
	if gone == nil {
		return ErrNoProtector
	}
	var opens *protectorDoc
	var failed error
	for i, other := range doc.Protectors {
		if other.Name == name {
			continue
		}
		err := r.testOne(ctx, other, doc)
		if err == nil {
			opens = &doc.Protectors[i]
			break
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", other.Name, err))
	}
	if opens == nil {
		return errors.Join(ErrLastProtector, failed)
	}
	removed := removedDoc{Kind: gone.Kind, Entry: gone.Entry, Version: gone.Ref.Version}
	if p, ok := r.source(name); ok && removed.Entry == "" {
		removed.Entry = p.Entry
	}
	return r.Change(ctx, func(doc *Instance) error {
		if !doc.has(*gone) || !doc.has(*opens) {
			return errOvertaken
		}
		doc.Exposed = doc.exposed() // from before the removal: copies of what it wrapped may be somewhere
		doc.Protectors = slices.DeleteFunc(doc.Protectors, func(p protectorDoc) bool { return p.Name == name })
		doc.Removed = append(doc.Removed, removed)
		const kept = 64 // removals; far more than an instance sees
		doc.Removed = doc.Removed[max(0, len(doc.Removed)-kept):]
		return nil
	})
}

// testOne asks a protector to open the root key, and compares what it opens with the key in memory.
func (r *Root) testOne(ctx context.Context, at protectorDoc, doc Instance) error {
	p, ok := r.source(at.Name)
	if !ok {
		return ErrDetached
	}
	key := make([]byte, format.KeySize)
	defer clear(key)
	if err := unwrapRoot(ctx, key, p.Source, at, doc); err != nil {
		return err
	}
	if !hmac.Equal(key, r.Current().Key) {
		return fmt.Errorf("%w: it opened another key", keysource.ErrWrong)
	}
	return nil
}

// Test asks every protector to open the root key, and returns what each said, by name. Successes are remembered.
func (r *Root) Test(ctx context.Context) (said map[string]error, err error) {
	done, err := r.change(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	doc, err := r.Read(ctx)
	if err != nil {
		return nil, err
	}
	said = map[string]error{}
	for _, at := range doc.Protectors {
		said[at.Name] = r.testOne(ctx, at, doc)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return said, r.Change(ctx, func(now *Instance) error {
		for i, at := range now.Protectors {
			if err, asked := said[at.Name]; asked && err == nil && doc.has(at) {
				now.Protectors[i].Tested = time.Now().Unix()
			}
		}
		return nil
	})
}

// RootSummary is how the root key stands.
type RootSummary struct {
	Version    uint32
	Made       time.Time // zero: not known
	Protectors []ProtectorSummary
	Exposed    bool
	Ignored    []string
	Rotating   bool
	Kit        time.Time // zero: there is none of this version
	Proved     time.Time // zero: never
}

// ProtectorSummary is how a protector stands; see sealed.ProtectorState.
type ProtectorSummary struct {
	Name, Kind string
	Entry      string
	Exposed    bool
	Attached   bool
	Opened     bool
	Added      time.Time
	Tested     time.Time
}

// State says how the root key stands. The root must be held.
func (r *Root) State(ctx context.Context) (RootSummary, error) {
	doc, err := r.Read(ctx)
	if err != nil {
		return RootSummary{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := RootSummary{Version: doc.Version, Made: moment(doc.Made), Exposed: doc.exposed(),
		Ignored: slices.Clone(r.ignored), Rotating: doc.Rotating,
		Kit: moment(doc.Kit), Proved: moment(doc.Proved)}
	for _, at := range doc.Protectors {
		_, attached := r.attached[at.Name]
		sum.Protectors = append(sum.Protectors, ProtectorSummary{
			Name: at.Name, Kind: at.Kind, Entry: at.Entry, Exposed: at.Exposed, Attached: attached,
			Opened: at.Name == r.opened, Added: moment(at.Added), Tested: moment(at.Tested),
		})
	}
	return sum, nil
}

// moment is a time that a document has in seconds; zero stays zero.
func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
