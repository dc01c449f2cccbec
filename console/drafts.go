package console

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage/api"
)

// draft is what somebody typed into a form that was not taken, because the session had ended or a fresh proof was
// needed. It waits in memory for that very person, in that very browser: nobody else gets it, and it is never written.
type draft struct {
	key             [sha256.Size]byte // of the secret that the browser has
	principal, name string            // of the person
	action          string            // of the form, as its page has it
	typed           string            // the fields, encoded
	timer           *time.Timer       // forgets it
}

// drafts are the drafts of all people.
type drafts struct {
	mu    sync.Mutex
	all   *list.List // of *draft, the oldest in front
	byKey map[[sha256.Size]byte]*list.Element
}

// Limits of drafts: their texts have at most 8 MB in all. Where there are more, the oldest is forgotten: first one of
// the same person.
const (
	draftsLast     = 10 * time.Minute
	maxDrafts      = 256
	maxDraftsOfOne = 4
	draftBytes     = 32 << 10 // of the texts of one
)

// draftCookie carries the secret of a draft.
const draftCookie = "__Host-visage-draft"

func newDrafts() *drafts {
	return &drafts{all: list.New(), byKey: map[[sha256.Size]byte]*list.Element{}}
}

// keep keeps what was typed as a draft, and returns the header that gives its secret to the browser; empty: it is too
// long, and not kept.
func (s *drafts) keep(d draft, typed url.Values) string {
	typed = maps.Clone(typed)
	typed.Del("token")
	d.typed = typed.Encode()
	if len(d.typed)+len(d.action)+len(d.name) > draftBytes {
		return ""
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails, see crypto/rand
	secret := base64.RawURLEncoding.EncodeToString(random)
	d.key = sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	ofOne, first := 0, s.all.Front()
	for e := s.all.Back(); e != nil; e = e.Prev() {
		if old := e.Value.(*draft); old.principal == d.principal && old.name == d.name {
			if ofOne++; ofOne == maxDraftsOfOne {
				first = e
				break
			}
		}
	}
	if ofOne == maxDraftsOfOne || s.all.Len() == maxDrafts {
		s.remove(first)
	}
	d.timer = time.AfterFunc(draftsLast, func() { s.drop(secret) })
	s.byKey[d.key] = s.all.PushBack(&d)
	return setCookie(draftCookie, secret, draftsLast)
}

// remove forgets a draft. The caller holds mu.
func (s *drafts) remove(e *list.Element) {
	d := e.Value.(*draft)
	d.timer.Stop()
	delete(s.byKey, d.key)
	s.all.Remove(e)
}

// drop forgets the draft with a secret, and returns the header that takes it from the browser.
func (s *drafts) drop(secret string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byKey[sha256.Sum256([]byte(secret))]; e != nil {
		s.remove(e)
	}
	return setCookie(draftCookie, "", 0)
}

// find returns the draft with a secret.
func (s *drafts) find(secret string) (draft, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[sha256.Sum256([]byte(secret))]
	if e == nil {
		return draft{}, false
	}
	return *e.Value.(*draft), true
}

// keptDraft tells the page for signing in what became of a form.
type keptDraft struct{ cookie string } // empty: it was not kept

// keepTyped keeps what a form has whose session has ended lately, and adds to the refusal that it did. Only the forms
// that say so are kept, see texts: no photo, no private key, and nothing that confirms what cannot be undone.
func (c *Console) keepTyped(r *api.Request, refusal error) error {
	p, internal := api.ProblemOf(r.Context(), refusal)
	if internal || p.Status != http.StatusUnauthorized {
		return refusal
	}
	secret := r.Cookie(sessionCookie)
	principal, name, found := c.cfg.Directory.WhoseWas(secret)
	n := r.BodyLength()
	if !found || !c.keepsText(r.Route().Pattern) || n < 0 || n > draftBytes || r.CheckOrigin() != nil ||
		r.ContentType() != "application/x-www-form-urlencoded" {
		return p
	}
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	typed, err := url.ParseQuery(string(body))
	if err != nil || clean(typed) != nil || !validToken(secret, typed.Get("token")) {
		return p
	}
	p.Note = keptDraft{c.drafts.keep(draft{principal: principal, name: name, action: r.URL()}, typed)}
	return p
}

// keepsText reports whether what is typed into the form of a pattern may be kept.
func (c *Console) keepsText(pattern string) bool {
	return slices.ContainsFunc(c.routes, func(r route) bool {
		return r.method == http.MethodPost && r.pattern == pattern && r.texts
	})
}

// fillDraft puts what the person typed before into the form of a page, if it is the form that they typed it into. It
// returns the header that takes the draft from the browser; empty: none.
func (v *visit) fillDraft(w *view) string {
	secret := v.Cookie(draftCookie)
	if secret == "" || !v.signedIn() || v.sends() || isRefresh(v.Request) || w.status >= http.StatusBadRequest {
		return ""
	}
	d, found := v.c.drafts.find(secret)
	if !found || d.principal != v.Principal.ObjectID || d.name != v.session.Name {
		return v.c.drafts.drop(secret)
	}
	typed, err := url.ParseQuery(d.typed)
	if err != nil {
		return v.c.drafts.drop(secret)
	}
	var its []*form
	for _, f := range v.forms {
		if f.Action == d.action && f.visible() && f.isFor(typed) {
			its = append(its, f)
		}
	}
	if len(its) != 1 { // the page is another one, or which form it was is not sure
		return ""
	}
	its[0].fill(typed.Get)
	its[0].keepState(typed)
	w.notices = append(w.notices, notice{"info", v.text("form.kept")})
	return v.c.drafts.drop(secret)
}

// visible reports whether a form has a field that people fill in.
func (f *form) visible() bool {
	for _, x := range f.Fields {
		if x.Kind != "hidden" {
			return true
		}
	}
	return false
}

// states are the hidden fields with the state of what a form changes, as it was when the form was made.
var states = []string{"revision", "was", "state"}

// isFor reports whether a form is for the same object as one that was sent: what else is hidden in it says for which.
func (f *form) isFor(sent url.Values) bool {
	for _, x := range f.Fields {
		if x.Kind == "hidden" && !slices.Contains(states, x.Name) && x.Value != sent.Get(x.Name) {
			return false
		}
	}
	return true
}

// keepState makes a form one for the state that the one had that was sent: so it undoes no change of somebody else
// between the two.
func (f *form) keepState(sent url.Values) {
	for _, x := range f.Fields {
		if x.Kind == "hidden" && slices.Contains(states, x.Name) {
			x.Value = sent.Get(x.Name)
		}
	}
}
