package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDraftsAreBounded keeps more drafts than there is room for, of many people and of one, and waits until they are
// forgotten.
func TestDraftsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, form := newDrafts(), url.Values{"token": {"t"}}
		if set := s.keep(draft{}, url.Values{"a": {strings.Repeat(" é", draftBytes/7-1)}}); set == "" {
			t.Error("a draft that just fits is not kept")
		}
		if set := s.keep(draft{}, url.Values{"a": {strings.Repeat(" é", draftBytes/7+1)}}); set != "" {
			t.Error("a draft that is too long is kept")
		}
		keep := func(principal string) (secret string) {
			set, err := http.ParseSetCookie(s.keep(draft{principal: principal}, form))
			if err != nil {
				t.Fatal(err)
			}
			return set.Value
		}
		for n := range draftBytes / 9 {
			form.Add("a"+strconv.Itoa(n%maxFields), "abc") // as many values as fit
		}
		if s.keep(draft{}, form) == "" {
			t.Error("a draft of many values is not kept")
		}
		kept := func(secrets ...string) (n int) {
			for _, secret := range secrets {
				if _, found := s.find(secret); found {
					n++
				}
			}
			return n
		}
		other := keep("other")
		var own []string
		for range maxDraftsOfOne + 2 {
			own = append(own, keep("one"))
		}
		if kept(own...) != maxDraftsOfOne || kept(own[:2]...) != 0 || kept(other) != 1 {
			t.Errorf("%d of one person are kept, %d of another", kept(own...), kept(other))
		}
		for n := range maxDrafts {
			keep(strconv.Itoa(n))
		}
		if s.all.Len() != maxDrafts || len(s.byKey) != maxDrafts || kept(other) != 0 {
			t.Errorf("%d and %d are kept", s.all.Len(), len(s.byKey))
		}
		held := 0
		for e := s.all.Front(); e != nil; e = e.Next() {
			held += len(e.Value.(*draft).typed)
		}
		if held > maxDrafts*draftBytes || held < maxDrafts*draftBytes/2 {
			t.Errorf("%d bytes are held, of drafts of nearly %d", held, draftBytes)
		}
		time.Sleep(draftsLast)
		synctest.Wait()
		if s.all.Len() != 0 || len(s.byKey) != 0 {
			t.Errorf("%d and %d are kept for ever", s.all.Len(), len(s.byKey))
		}
	})
}

// TestOnlyOrdinaryTextsAreKept holds that no form is kept that needs a fresh proof, is open to everybody, or has files
// or secrets, also where it is sent by hand.
func TestOnlyOrdinaryTextsAreKept(t *testing.T) {
	c := new(Console)
	c.routes = c.table()
	kept := 0
	for _, r := range c.routes {
		if !r.texts {
			continue
		}
		kept++
		if r.method != http.MethodPost || r.need.open || r.need.fresh || r.body > 0 || !c.keepsText(r.pattern) {
			t.Errorf("%s %s is kept", r.method, r.pattern)
		}
	}
	if kept < 10 {
		t.Errorf("%d forms are kept", kept)
	}
	for _, pattern := range []string{
		oneVault + "/importkey", oneVault + "/restorekey", onePerson + "/subjects", oneApplication + "/secrets",
		signInPath + "/passkey/answer", oneEnrolled + "/photos", "/",
	} {
		if c.keepsText(pattern) {
			t.Errorf("%s is kept", pattern)
		}
	}
}
