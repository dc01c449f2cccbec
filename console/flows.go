package console

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/visage-face/visage/console/internal/openid"
	"github.com/visage-face/visage/console/internal/passkey"
)

// flow is a sign-in, or the registration of a passkey, that waits for an authenticator or an issuer. The browser that
// began it has its secret in a cookie; it is for one answer.
type flow struct {
	key     [sha256.Size]byte // of the secret
	address netip.Addr        // of the browser
	begun   time.Time

	to        string // the page to show afterwards
	session   string // the id of the session in which a passkey is registered; else empty
	ceremony  passkey.Ceremony
	isPasskey bool
	issuer    *signInIssuer
	openid    openid.Flow
	proof     *openid.Proof // what the issuer has proved, between its answer and the next page
}

// flows are the flows that wait for an answer.
type flows struct {
	mu    sync.Mutex
	all   *list.List // of *flow, the oldest in front
	byKey map[[sha256.Size]byte]*list.Element
}

// Limits of flows. Where there are more, the oldest ends: first one of the same address.
const (
	flowsLast       = 10 * time.Minute
	maxFlows        = 4096
	maxFlowsAddress = 64
)

// flowCookie carries the secret of a flow. An issuer's answer comes from another site, so it cannot be SameSite=Strict;
// it opens nothing by itself.
const flowCookie = "__Host-visage-signin"

func newFlows() *flows {
	return &flows{all: list.New(), byKey: map[[sha256.Size]byte]*list.Element{}}
}

// add keeps a flow, and returns its secret.
func (s *flows) add(f flow) (secret string) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails, see crypto/rand
	secret = base64.RawURLEncoding.EncodeToString(random)
	f.key, f.begun = sha256.Sum256([]byte(secret)), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var same *list.Element
	ofAddress := 0
	for e := s.all.Front(); e != nil; {
		next, old := e.Next(), e.Value.(*flow)
		if f.begun.Sub(old.begun) >= flowsLast {
			s.remove(e)
		} else if old.address == f.address {
			if ofAddress++; same == nil {
				same = e
			}
		}
		e = next
	}
	switch {
	case ofAddress >= maxFlowsAddress:
		s.remove(same)
	case s.all.Len() >= maxFlows:
		s.remove(s.all.Front())
	}
	s.byKey[f.key] = s.all.PushBack(&f)
	return secret
}

// remove forgets a flow. The caller holds mu.
func (s *flows) remove(e *list.Element) {
	delete(s.byKey, e.Value.(*flow).key)
	s.all.Remove(e)
}

// take returns the flow with a secret, and forgets it.
func (s *flows) take(secret string) (flow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[sha256.Sum256([]byte(secret))]
	if e == nil {
		return flow{}, false
	}
	f := *e.Value.(*flow)
	s.remove(e)
	return f, time.Since(f.begun) < flowsLast
}

// begin keeps a flow, and returns the header that gives its secret to the browser.
func (v *visit) begin(f flow) string {
	f.address = v.ClientAddress()
	cookie := http.Cookie{
		Name: flowCookie, Value: v.c.flows.add(f), Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: int(flowsLast / time.Second),
	}
	return cookie.String()
}

// resume returns the flow of the browser, and forgets it.
func (v *visit) resume() (flow, bool) { return v.c.flows.take(v.Cookie(flowCookie)) }
