package identity

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// CodeUse is what a one-time code is for.
type CodeUse string

// The uses.
const (
	// a session; such a code does not survive a restart, unless other processes share the store
	SignIn CodeUse = "sign-in"
	Invite CodeUse = "invitation" // the first session of a new person, to register a passkey
)

// How long codes last at most.
const (
	SignInCodeLife = 2 * time.Minute
	InviteCodeLife = 72 * time.Hour
)

// What bounds codes. The oldest of a principal ends when there is another one.
const (
	maxCodesOfOne = 8
	maxCodes      = 10_000
)

// codeRecord is a code as it is kept, under its hash.
type codeRecord struct {
	Hash      []byte // SHA-256 of the code, which has 256 random bits: there is nothing to guess
	Principal string
	Use       CodeUse
	Created   int64 // nanoseconds since 1970, UTC
	Expires   int64
}

var codes = sealed.NewTable[codeRecord]("identity/code", 1)

func (r codeRecord) id() string { return hex.EncodeToString(r.Hash) }

func (r codeRecord) over(now time.Time) bool { return now.UnixNano() >= r.Expires }

// openCodes are the codes that were not used yet, as they are stored.
type openCodes struct {
	mu     sync.Mutex
	byHash map[secretHash]codeRecord // guarded by mu
}

// replace replaces the codes by those that are stored.
func (o *openCodes) replace(all []codeRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byHash = map[secretHash]codeRecord{}
	for _, r := range all {
		o.byHash[secretHash(r.Hash)] = r
	}
}

func (o *openCodes) lookup(hash secretHash) (codeRecord, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, found := o.byHash[hash]
	return r, found
}

// pick returns the codes for which wanted reports true, the oldest first.
func (o *openCodes) pick(wanted func(codeRecord) bool) []codeRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []codeRecord
	for _, r := range o.byHash {
		if wanted(r) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b codeRecord) int { return cmp.Compare(a.Created, b.Created) })
	return all
}

// readCodes reads the codes that were not used yet.
func readCodes(r sealed.Reader) (all []codeRecord, err error) {
	for rec, err := range codes.In().All(r) {
		if err != nil {
			return nil, err
		}
		if len(rec.Hash) != len(secretHash{}) {
			return nil, errors.New("a one-time code has no hash of a code")
		}
		all = append(all, rec)
	}
	return all, nil
}

// dropSignInCodes removes the codes for signing in that the run before has left.
func (d *Directory) dropSignInCodes(ctx context.Context) error {
	d.changes.Lock()
	defer d.changes.Unlock()
	return d.dropCodes(ctx, d.codes.pick(func(r codeRecord) bool { return r.Use == SignIn }))
}

// IssueCode makes a code with which somebody signs in once as a principal: a person or, with SignIn, the operator. Only
// its hash is kept. life is at most SignInCodeLife or InviteCodeLife, which 0 stands for. Anyone who has the code can
// use it. Refusals: PrincipalNotFound; InvalidCode; TooManyCodes; AuthorizationFailed for an operator where the caller
// is none.
func (d *Directory) IssueCode(
	ctx context.Context, principal string, use CodeUse, life time.Duration,
) (code string, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	longest, operation := SignInCodeLife, codeMade
	if use == Invite {
		longest, operation = InviteCodeLife, invitationMade
	}
	life = cmp.Or(life, longest)
	code, hash := newSecret()
	now := time.Now()
	rec := codeRecord{
		Hash: hash[:], Principal: lower(principal), Use: use,
		Created: now.UnixNano(), Expires: now.Add(life).UnixNano(),
	}
	about := change{Operation: operation, Subject: rec.Principal,
		After: time.Unix(0, rec.Expires).UTC().Format(time.RFC3339)}
	own := d.codes.pick(func(r codeRecord) bool { return r.Principal == rec.Principal })
	displaced := own[:max(0, len(own)-maxCodesOfOne+1)]
	operator := d.isForOperator(ctx)
	err = d.changeVisits(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		p, found := d.state.Now().principals[rec.Principal]
		if !found {
			return refuseUnknown("person", short(principal))
		}
		if err := d.guard(operator, rec.Principal); err != nil {
			return err
		}
		if use != SignIn && use != Invite || life < 0 || life > longest ||
			p.Kind != Person && (p.ID != d.cfg.Operator || use == Invite) {
			return visage.Refuse(visage.Invalid, "InvalidCode",
				"A one-time code is for a person, or signs the operator in. It lasts at most %v, an invitation %v.",
				SignInCodeLife, InviteCodeLife)
		}
		if len(d.codes.pick(func(codeRecord) bool { return true }))-len(displaced) >= maxCodes {
			return visage.Refuse(visage.Conflict, "TooManyCodes",
				"There are %d one-time codes that were not used: wait until some have expired.", maxCodes)
		}
		if err := deleteCodes(tx, displaced); err != nil {
			return err
		}
		tell(about)
		return codes.In().Put(tx, rec.id(), rec)
	})
	if err != nil {
		return "", fmt.Errorf("make one-time code: %w", err)
	}
	return code, nil
}

// LookupCode returns what a code is for, and for whom, without using it.
func (d *Directory) LookupCode(code string) (Principal, CodeUse, bool) {
	_, p, use, found := d.askCode(code)
	return p, use, found
}

// askCode is findCode for a code that another process may have made. It waits, so the caller holds no lock.
func (d *Directory) askCode(code string) (codeRecord, Principal, CodeUse, bool) {
	rec, p, use, found := d.findCode(code)
	if _, ok := hashSecret(code); ok && !found && d.visits.Missed(context.Background()) {
		rec, p, use, found = d.findCode(code)
	}
	return rec, p, use, found
}

func (d *Directory) findCode(code string) (codeRecord, Principal, CodeUse, bool) {
	hash, ok := hashSecret(code)
	if !ok {
		return codeRecord{}, Principal{}, "", false
	}
	rec, found := d.codes.lookup(hash)
	if !found || rec.over(time.Now()) {
		return codeRecord{}, Principal{}, "", false
	}
	p, found := d.state.Now().principals[rec.Principal]
	if !found {
		return codeRecord{}, Principal{}, "", false
	}
	return rec, p.principal(), rec.Use, true
}

// RedeemCode uses a code, and returns whom it lets in and what it is for: of several attempts at the same time, one
// succeeds. Refusal: OneTimeCodeSpent, whether it never was a code, is used, or is over.
func (d *Directory) RedeemCode(ctx context.Context, code string) (Principal, CodeUse, error) {
	p, use, err := d.redeem(ctx, code)
	if _, refused := errors.AsType[*visage.Refusal](err); refused {
		if failed := d.RefuseSignIn(ctx, ByOneTimeAddress, "", err); failed != nil {
			return Principal{}, "", failed
		}
	}
	return p, use, err
}

func (d *Directory) redeem(ctx context.Context, code string) (Principal, CodeUse, error) {
	spent := func() (Principal, CodeUse, error) {
		return Principal{}, "", visage.Refuse(visage.Unauthenticated, "OneTimeCodeSpent",
			"This address was used already, or has expired: ask for a new one.")
	}
	if _, _, _, found := d.askCode(code); !found { // without the lock: anybody can ask
		return spent()
	}
	d.changes.Lock()
	defer d.changes.Unlock()
	rec, p, use, found := d.findCode(code)
	if !found {
		return spent()
	}
	err := d.visits.Update(ctx, func(tx sealed.Tx, _ visits) error { return codes.In().Delete(tx, rec.id()) })
	if errors.Is(err, sealed.ErrNotFound) { // another process was faster
		return spent()
	}
	if err != nil {
		return Principal{}, "", fmt.Errorf("use one-time code: %w", err)
	}
	return p, use, nil
}

// dropCodes removes codes that nobody may use any more. The caller holds changes.
func (d *Directory) dropCodes(ctx context.Context, all []codeRecord) error {
	if len(all) == 0 {
		return nil
	}
	return d.visits.Update(ctx, func(tx sealed.Tx, _ visits) error { return deleteCodes(tx, all) })
}

// deleteCodes removes codes from the store.
func deleteCodes(tx sealed.Tx, all []codeRecord) error {
	for _, r := range all {
		if err := codes.In().Delete(tx, r.id()); err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
	}
	return nil
}

// sweepCodes removes codes that are over, or whose principal was deleted.
func (d *Directory) sweepCodes(ctx context.Context, now time.Time) error {
	d.changes.Lock()
	defer d.changes.Unlock()
	over := d.codes.pick(func(r codeRecord) bool {
		_, exists := d.state.Now().principals[r.Principal]
		return !exists || r.over(now)
	})
	if len(over) == 0 {
		return nil
	}
	err := d.visits.Update(ctx, func(tx sealed.Tx, _ visits) error {
		for _, r := range over {
			exists, err := principals.In().Has(tx, r.Principal) // another process may have made it
			if err == nil && (!exists || r.over(now)) {
				err = deleteCodes(tx, []codeRecord{r})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove one-time codes: %w", err)
	}
	return nil
}
