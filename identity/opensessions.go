package identity

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// openSessions are the sessions that are not ended, in memory; what is stored follows.
type openSessions struct {
	mu     sync.Mutex
	byID   map[string]*openSession     // guarded by mu, with what it points to
	byHash map[secretHash]*openSession // likewise
	ended  []endedSession              // guarded by mu: the latest last
}

// Ways in which sessions end.
const (
	signedOut = "sign-out" // by its own principal
	expired   = "expired"
	orphaned  = "principal-deleted"
)

// endedSession says whose a session was that has ended lately.
type endedSession struct {
	hash            secretHash
	principal, name string
	at              time.Time
}

// What bounds the memory of ended sessions.
const (
	maxEnded   = 1000
	endedsLast = 10 * time.Minute
)

// end removes sessions that have ended, and remembers for a while whose those were whose person has not signed out.
func (o *openSessions) end(all []sessionRecord, how func(sessionRecord) string) {
	o.remove(idsOf(all))
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for _, r := range all {
		if how(r) != signedOut {
			at := time.Unix(0, min(now.UnixNano(), r.expires()))
			o.ended = append(o.ended, endedSession{secretHash(r.Hash), r.Principal, r.Name, at})
		}
	}
	o.ended = slices.DeleteFunc(o.ended, func(e endedSession) bool { return now.Sub(e.at) >= endedsLast })
	o.ended = slices.Delete(o.ended, 0, max(0, len(o.ended)-maxEnded))
}

// was returns whose session a secret was that has ended lately.
func (o *openSessions) was(secret string) (principal, name string, found bool) {
	hash, ok := hashSecret(secret)
	if !ok {
		return "", "", false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.byHash[hash]; s != nil { // it is over, and not removed yet
		if time.Since(time.Unix(0, s.expires())) >= endedsLast {
			return "", "", false
		}
		return s.Principal, s.Name, true
	}
	i := slices.IndexFunc(o.ended, func(e endedSession) bool { return e.hash == hash })
	if i < 0 || time.Since(o.ended[i].at) >= endedsLast {
		return "", "", false
	}
	return o.ended[i].principal, o.ended[i].name, true
}

// openSession is a session with the time of its use that is stored.
type openSession struct {
	sessionRecord

	stored int64
}

// replace replaces the sessions by those that are stored, whose latest use may be known here only.
func (o *openSessions) replace(all []sessionRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.byID
	o.byID, o.byHash = make(map[string]*openSession, len(all)), make(map[secretHash]*openSession, len(all))
	for _, rec := range all {
		s := &openSession{rec, rec.Used}
		if here := known[rec.ID]; here != nil {
			s.noteUse(here.Used, here.Address)
			s.stored = max(s.stored, here.stored)
		}
		o.byID[rec.ID], o.byHash[secretHash(rec.Hash)] = s, s
	}
}

// noteUse notes a use of the session that may be later than the last one that is known. The lock of the sessions is
// held.
func (s *openSession) noteUse(used int64, address string) {
	if used > s.Used {
		s.Used, s.Address = used, address
	}
}

func (o *openSessions) remove(ids []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		if s, found := o.byID[id]; found {
			delete(o.byHash, secretHash(s.Hash))
			delete(o.byID, id)
		}
	}
}

// pick returns the sessions for which wanted reports true, the least recently used first.
func (o *openSessions) pick(wanted func(sessionRecord) bool) []sessionRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []sessionRecord
	for _, s := range o.byID {
		if wanted(s.sessionRecord) {
			all = append(all, s.sessionRecord)
		}
	}
	slices.SortFunc(all, func(a, b sessionRecord) int {
		return cmp.Or(cmp.Compare(a.Used, b.Used), strings.Compare(a.ID, b.ID))
	})
	return all
}

// surplus returns the sessions that have to end before another one of a principal is opened.
func (o *openSessions) surplus(principal string) []sessionRecord {
	own := o.pick(func(r sessionRecord) bool { return r.Principal == principal })
	if len(own) >= maxSessionsOfOne {
		return own[:len(own)-maxSessionsOfOne+1]
	}
	all := o.pick(func(sessionRecord) bool { return true })
	return all[:max(0, len(all)-maxSessions+1)]
}
