package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Method is how a person has proved who they are.
type Method string

// The methods.
const (
	ByOneTimeAddress Method = "one-time-address" // a code that IssueCode made
	ByPasskey        Method = "passkey"
	ByOpenID         Method = "openid" // a trusted issuer
)

// How long sessions last.
const (
	SessionIdle = 30 * time.Minute // without a request
	SessionLife = 12 * time.Hour   // at most
)

// What bounds sessions.
const (
	maxSessionsOfOne = 50
	maxSessions      = 10_000
	maxClient        = 200         // bytes of Session.Client
	storeUseAfter    = time.Minute // how exact the stored time of the last use is: a restart forgets at most that much
)

// Session is a stay of a person at the console. What proves it is not part of it.
type Session struct {
	ID        string // a UUID that may be shown
	Principal string // object id
	Name      string // of the human: the name of the principal, or that which an external issuer gave
	Method    Method // of the latest proof
	Created   time.Time
	Used      time.Time  // for the last time
	Proved    time.Time  // when the person last proved who they are
	Expires   time.Time  // when it ends unless it is used before: by SessionIdle or SessionLife
	Address   netip.Addr // that used it last
	Client    string     // the browser, as SessionStart has it
}

// SessionStart is what a session is opened with.
type SessionStart struct {
	Principal string     // object id of a person, or of an application that a person may act as
	Name      string     // that an external issuer gave the human; empty: the name of the principal
	Method    Method     // required
	Address   netip.Addr // of the client
	Client    string     // describes the browser; cut at 200 bytes
	Proved    time.Time  // when the person proved who they are, if that was before now; zero: now
}

// sessionRecord is a session as it is stored, under its id.
type sessionRecord struct {
	ID        string
	Principal string
	Name      string // empty: that of the principal
	Method    Method
	Hash      []byte // SHA-256 of the secret, which has 256 random bits: there is nothing to guess
	Created   int64  // nanoseconds since 1970, UTC; likewise the following
	Used      int64
	Proved    int64
	Address   string
	Client    string
}

var sessions = sealed.NewTable[sessionRecord]("identity/session", 1)

// secretHash is under what a session, or a one-time code, is found. A lookup by it may take as long as it likes: what
// can be learned from the time is about the hash, which leads back to no secret.
type secretHash [sha256.Size]byte

// newSecret makes a secret of 256 random bits in base64url.
func newSecret() (secret string, hash secretHash) {
	var random [secretBytes]byte
	rand.Read(random[:]) // never fails: the runtime ends the process instead
	return base64.RawURLEncoding.EncodeToString(random[:]), sha256.Sum256(random[:])
}

// hashSecret returns the hash of a secret in the one spelling that newSecret gives it.
func hashSecret(secret string) (hash secretHash, ok bool) {
	if len(secret) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return hash, false
	}
	random, err := encoding.DecodeString(secret)
	if err != nil || len(random) != secretBytes { // the decoder skips line ends
		return hash, false
	}
	return sha256.Sum256(random), true
}

// visits are the sessions and the codes for them, as they are stored.
type visits struct {
	sessions []sessionRecord
	codes    []codeRecord
}

func readVisits(r sealed.Reader) (v visits, err error) {
	for rec, err := range sessions.In().All(r) {
		if err != nil {
			return visits{}, err
		}
		if len(rec.Hash) != sha256.Size {
			return visits{}, fmt.Errorf("the session %s has no hash of a secret", rec.ID)
		}
		v.sessions = append(v.sessions, rec)
	}
	v.codes, err = readCodes(r)
	return v, err
}

// adopt takes what is stored for what is true.
func (d *Directory) adopt(v visits) {
	d.sessions.replace(v.sessions)
	d.codes.replace(v.codes)
}

// expires is when a session ends that is not used before.
func (r sessionRecord) expires() int64 {
	return min(r.Created+int64(SessionLife), r.Used+int64(SessionIdle))
}

func (r sessionRecord) over(now time.Time) bool { return now.UnixNano() >= r.expires() }

// session returns what may be shown of a record.
func (s *state) session(r sessionRecord) Session {
	address, _ := netip.ParseAddr(r.Address) // the zero Addr where it was not known
	return Session{
		ID: r.ID, Principal: r.Principal, Name: cmp.Or(r.Name, s.principals[r.Principal].Name), Method: r.Method,
		Created: time.Unix(0, r.Created).UTC(), Used: time.Unix(0, r.Used).UTC(), Proved: time.Unix(0, r.Proved).UTC(),
		Expires: time.Unix(0, r.expires()).UTC(), Address: address, Client: r.Client,
	}
}

// visitor returns the principal of a session, as requests have it.
func (d *Directory) visitor(p principalRecord, name string) visage.Principal {
	method := "person"
	if p.ID == d.cfg.Operator {
		method = "operator"
	}
	return visage.Principal{Method: method, ObjectID: p.ID, AppID: p.ClientID, Tenant: p.Tenant, Name: name}
}

// OpenSession lets a person in who has proved who they are, and returns the secret that the browser keeps; only its
// hash is stored. Beyond 50 sessions of a principal, and 10,000 in all, the least recently used one ends. It is in the
// audit log when OpenSession returns. Refusal: PrincipalNotFound, also for the managed identity of a resource.
func (d *Directory) OpenSession(ctx context.Context, start SessionStart) (secret string, opened Session, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	secret, hash := newSecret()
	now := time.Now().UnixNano()
	rec := sessionRecord{
		ID: visage.NewUUID().String(), Principal: lower(start.Principal), Method: start.Method,
		Name: printable(start.Name, maxPersonNameBytes), Client: printable(start.Client, maxClient),
		Hash: hash[:], Created: now, Used: now, Proved: now,
	}
	if proved := start.Proved.UnixNano(); !start.Proved.IsZero() && proved < now {
		rec.Proved = proved
	}
	if start.Address.IsValid() {
		rec.Address = start.Address.String()
	}
	about := change{
		Operation: sessionOpened, Subject: rec.Principal, Session: rec.ID, How: string(rec.Method),
		Address: rec.Address,
	}
	p, found := d.state.Now().principals[rec.Principal]
	var displaced []sessionRecord
	if found = found && (p.Kind == Person || p.Kind == Application); found {
		about.By = d.visitor(p, cmp.Or(rec.Name, p.Name))
		displaced = d.sessions.surplus(rec.Principal)
	}
	err = d.changeVisits(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		if !found {
			return refuseUnknown("person", short(start.Principal))
		}
		for _, old := range displaced {
			if _, err := endSession(tx, tell, old, "displaced"); err != nil {
				return err
			}
		}
		tell(about)
		return sessions.In().Put(tx, rec.ID, rec)
	})
	if err != nil {
		return "", Session{}, fmt.Errorf("open session: %w", err)
	}
	d.sessions.end(displaced, func(sessionRecord) string { return "displaced" })
	return secret, d.state.Now().session(rec), nil
}

// Session returns the session that a secret proves, with the principal that acts in it, and marks it as used now from
// an address. The Method of the principal is "operator" for the operator and otherwise "person". It reads memory only,
// but for one write in a minute. Refusal: SessionEnded, whatever is wrong.
func (d *Directory) Session(ctx context.Context, secret string, from netip.Addr) (Session, visage.Principal, error) {
	now := time.Now()
	rec, keep, err := d.useSession(secret, from, now)
	if err != nil && d.askStore(ctx, secret) {
		rec, keep, err = d.useSession(secret, from, now)
	}
	if err != nil {
		return Session{}, visage.Principal{}, err
	}
	if keep {
		// The write continues when the client disconnects, and a failed write refuses no request: after a restart in
		// the next half hour, this use would be unknown.
		if err := d.keepUse(context.WithoutCancel(ctx), rec); err != nil {
			d.log.WarnContext(ctx, "the use of a session was not stored", "err", err)
		}
	}
	return d.actsIn(rec)
}

// Watch is Session for a request that a page makes by itself, while nobody may be there: it does not mark the session
// as used, so that a page that is left open does not keep it alive. It reads memory only.
func (d *Directory) Watch(secret string) (Session, visage.Principal, error) {
	rec, err := d.watchSession(secret)
	if err != nil && d.askStore(context.Background(), secret) {
		rec, err = d.watchSession(secret)
	}
	if err != nil {
		return Session{}, visage.Principal{}, err
	}
	return d.actsIn(rec)
}

func (d *Directory) watchSession(secret string) (sessionRecord, error) {
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	s, err := d.findSession(secret, time.Now())
	if err != nil {
		return sessionRecord{}, err
	}
	return s.sessionRecord, nil
}

// askStore reads what other processes may have stored about a session that seems to be none, and reports whether that
// is more than was known: the session itself, or that it was used. The times of use have no version of their own.
func (d *Directory) askStore(ctx context.Context, secret string) bool {
	hash, ok := hashSecret(secret)
	if !ok || !d.cfg.Store.Shared() {
		return false
	}
	people := d.state.Missed(ctx) // the session may be of one who is not known here yet
	if d.visits.Missed(ctx) || people {
		return true
	}
	d.sessions.mu.Lock()
	s, known := d.sessions.byHash[hash]
	d.sessions.mu.Unlock()
	return known && d.readUses(ctx, []string{s.ID}) == nil
}

// readUses reads when sessions were used at other processes.
func (d *Directory) readUses(ctx context.Context, ids []string) error {
	var all []sessionRecord
	err := d.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		for _, id := range ids {
			rec, err := sessions.In().Get(r, id)
			if err == nil {
				all = append(all, rec)
			} else if !errors.Is(err, sealed.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	for _, rec := range all {
		if s := d.sessions.byID[rec.ID]; s != nil {
			s.noteUse(rec.Used, rec.Address)
		}
	}
	return nil
}

// WhoseWas returns whose session a secret proved that has ended in the last ten minutes, and the name of the human: so
// that what somebody typed meanwhile can wait for that very person. It lets nobody in. It knows none that the person
// ended by signing out, and none from before a restart.
func (d *Directory) WhoseWas(secret string) (principal, name string, found bool) {
	principal, name, found = d.sessions.was(secret)
	p, exists := d.state.Now().principals[principal]
	if !found || !exists {
		return "", "", false
	}
	return principal, cmp.Or(name, p.Name), true
}

// actsIn returns what may be shown of a session, and who acts in it.
func (d *Directory) actsIn(rec sessionRecord) (Session, visage.Principal, error) {
	s := d.state.Now()
	p, found := s.principals[rec.Principal]
	if !found {
		return Session{}, visage.Principal{}, refuseSession()
	}
	shown := s.session(rec)
	return shown, d.visitor(p, shown.Name), nil
}

// findSession finds an open session by its secret. The caller holds the lock of the sessions.
func (d *Directory) findSession(secret string, now time.Time) (*openSession, error) {
	hash, ok := hashSecret(secret)
	if !ok {
		return nil, refuseSession()
	}
	s, found := d.sessions.byHash[hash]
	if !found || s.over(now) {
		return nil, refuseSession()
	}
	if _, exists := d.state.Now().principals[s.Principal]; !exists {
		return nil, refuseSession()
	}
	return s, nil
}

// useSession finds a session by its secret, and marks it as used. keep says that the use is to be stored.
func (d *Directory) useSession(
	secret string, from netip.Addr, now time.Time,
) (rec sessionRecord, keep bool, err error) {
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	s, err := d.findSession(secret, now)
	if err != nil {
		return rec, false, err
	}
	s.Used = max(s.Used, now.UnixNano())
	if from.IsValid() {
		s.Address = from.String()
	}
	if keep = s.Used-s.stored >= int64(storeUseAfter); keep {
		s.stored = s.Used
	}
	return s.sessionRecord, keep, nil
}

// keepUse stores when and from where a session was used, unless it has ended meanwhile.
func (d *Directory) keepUse(ctx context.Context, used sessionRecord) error {
	return d.space.Update(ctx, func(tx sealed.Tx) error {
		rec, err := sessions.In().Get(tx, used.ID)
		if errors.Is(err, sealed.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		rec.Used, rec.Address = max(rec.Used, used.Used), used.Address
		return sessions.In().Put(tx, rec.ID, rec)
	})
}

// Prove records that the person of a session has proved again who they are, and replaces the secret of the session: one
// that somebody else knew before is worth nothing afterwards. The session lives no longer for it. Refusal:
// SessionEnded.
func (d *Directory) Prove(ctx context.Context, secret string, method Method) (fresh string, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	now := time.Now()
	rec, _, err := d.useSession(secret, netip.Addr{}, now)
	if err != nil {
		return "", err
	}
	fresh, hash := newSecret()
	p := d.state.Now().principals[rec.Principal]
	rec.Hash, rec.Proved, rec.Method = hash[:], now.UnixNano(), method
	about := change{
		Operation: sessionProved, Subject: rec.Principal, Session: rec.ID, How: string(method),
		Address: rec.Address, By: d.visitor(p, cmp.Or(rec.Name, p.Name)),
	}
	shown, _ := hashSecret(secret) // it is one: the session was found by it
	err = d.changeVisits(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		stored, err := sessions.In().Get(tx, rec.ID)
		if errors.Is(err, sealed.ErrNotFound) || err == nil && secretHash(stored.Hash) != shown {
			return refuseSession() // another process has ended it, or replaced the secret
		}
		if err != nil {
			return err
		}
		tell(about)
		return sessions.In().Put(tx, rec.ID, rec)
	})
	if err != nil {
		return "", fmt.Errorf("prove session: %w", err)
	}
	return fresh, nil
}

// RefuseSignIn records that a person was not let in, and why: err is a refusal. principal is the object id of whom the
// attempt was about, or empty when it is not known. Such entries are counted, see audit.Recorder.
func (d *Directory) RefuseSignIn(ctx context.Context, method Method, principal string, err error) error {
	caller := visage.CallerFrom(ctx)
	e := audit.Event{
		Kind: audit.SessionOpen, Actor: audit.Actor{Kind: audit.Anonymous}, RequestID: caller.RequestID,
	}.Ended(err)
	e.Set(audit.DetailOperation, string(method))
	e.Set(audit.DetailSubject, principal)
	e.SetAddress(caller.Address)
	if err := d.cfg.Audit.Tally(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("audit a refused sign-in: %w", err)
	}
	return nil
}

// EndSession ends a session, at once. Refusals: SessionNotFound; AuthorizationFailed where the caller is neither the
// principal of the session nor an operator. A caller who is not authenticated yet is signing in, and ends the session
// that the browser had before.
func (d *Directory) EndSession(ctx context.Context, id string) error {
	ended, err := d.endSessionsFor(ctx, func(r sessionRecord) bool { return r.ID == lower(id) })
	if err == nil && ended == 0 {
		err = visage.Refuse(visage.NotFound, "SessionNotFound", "There is no session %q.", short(id))
	}
	return err
}

// EndSessions ends all sessions of a principal, at once. Refusal: AuthorizationFailed, as EndSession.
func (d *Directory) EndSessions(ctx context.Context, principal string) error {
	_, err := d.endSessionsFor(ctx, func(r sessionRecord) bool { return r.Principal == lower(principal) })
	return err
}

// endSessionsFor ends sessions for a caller: the caller's own, or an operator those of others.
func (d *Directory) endSessionsFor(ctx context.Context, which func(sessionRecord) bool) (ended int, err error) {
	by := visage.CallerFrom(ctx)
	caller := by.ObjectID
	others := d.sessions.pick(func(r sessionRecord) bool { return which(r) && r.Principal != caller })
	if len(others) > 0 && caller != "" && !d.isForOperator(ctx) {
		err := visage.Refuse(visage.Denied, "AuthorizationFailed",
			"Only an operator of this instance may end the sessions of others.")
		about := change{
			Operation: sessionEnded, Subject: others[0].Principal, How: "revoked", Time: time.Now().UnixNano(),
			By: by.Principal, RequestID: by.RequestID,
		}
		return 0, audit.Answer(ctx, d.cfg.Audit, err, about.event().Ended(err))
	}
	return d.endSessions(ctx, func(r sessionRecord) string {
		switch {
		case !which(r):
			return ""
		case r.Principal == caller:
			return signedOut
		case caller == "" && by.RequestID != "":
			return "replaced"
		}
		return "revoked"
	})
}

// endSessions ends the sessions for which how returns more than nothing: how they end.
func (d *Directory) endSessions(ctx context.Context, how func(sessionRecord) string) (ended int, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	all := d.sessions.pick(func(r sessionRecord) bool { return how(r) != "" })
	if len(all) == 0 {
		return 0, nil
	}
	about := change{Operation: sessionEnded, Subject: all[0].Principal, How: how(all[0])}
	if len(all) == 1 {
		about.Session = all[0].ID
	}
	var gone []sessionRecord
	err = d.changeVisits(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		gone = nil
		for _, r := range all {
			ended, err := endSession(tx, tell, r, how(r))
			if err != nil {
				return err
			}
			if ended {
				gone = append(gone, r)
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	d.sessions.end(gone, how)
	return len(gone), nil
}

// endSession removes a session from the store, unless another process has done so, has used one that seemed to be over,
// or has made its principal.
func endSession(tx sealed.Tx, tell func(change), r sessionRecord, how string) (ended bool, err error) {
	stored, err := sessions.In().Get(tx, r.ID)
	if errors.Is(err, sealed.ErrNotFound) || err == nil && how == expired && stored.Used > r.Used {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if how == orphaned {
		if exists, err := principals.In().Has(tx, r.Principal); err != nil || exists {
			return false, err
		}
	}
	tell(change{Operation: sessionEnded, Subject: r.Principal, Session: r.ID, How: how})
	return true, sessions.In().Delete(tx, r.ID)
}

func idsOf(all []sessionRecord) []string {
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	return ids
}

// Sessions returns the sessions of a principal, or all when it is empty, the most recently used first.
func (d *Directory) Sessions(principal string) []Session {
	s, now := d.state.Now(), time.Now()
	var all []Session
	for _, r := range d.sessions.pick(func(r sessionRecord) bool {
		_, exists := s.principals[r.Principal]
		return exists && !r.over(now) && (principal == "" || r.Principal == lower(principal))
	}) {
		all = append(all, s.session(r))
	}
	slices.Reverse(all)
	return all
}

// sweep ends the sessions and codes that are over.
func (d *Directory) sweep(ctx context.Context) error {
	now := time.Now()
	known := now // how late the latest use of a session is stored
	if d.cfg.Store.Shared() {
		known = now.Add(-2 * storeUseAfter)
		idle := d.sessions.pick(func(r sessionRecord) bool { return r.over(known) })
		if err := d.readUses(ctx, idsOf(idle)); err != nil {
			return err
		}
	}
	_, err := d.endSessions(ctx, func(r sessionRecord) string {
		if _, exists := d.state.Now().principals[r.Principal]; !exists {
			return orphaned
		}
		if r.over(known) {
			return expired
		}
		return ""
	})
	return errors.Join(err, d.sweepCodes(ctx, now))
}

func refuseSession() error {
	return visage.Refuse(visage.Unauthenticated, "SessionEnded", "The session has ended: sign in again.")
}

// printable returns what others wrote as it can be shown and recorded, cut at a number of bytes.
func printable(s string, most int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if isDeceptive(r) {
			return -1
		}
		return r
	}, s)) // what is not UTF-8 becomes U+FFFD
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
