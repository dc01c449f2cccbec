package console

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestDraftsAreBounded keeps more drafts than there is room for, of many people and of one, and waits until they are
// forgotten.
func TestDraftsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDrafts()
		keep := func(principal string) (secret string) {
			set, err := http.ParseSetCookie(s.keep(draft{principal: principal, typed: url.Values{"a": {"b"}}}))
			if err != nil {
				t.Fatal(err)
			}
			return set.Value
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
		time.Sleep(draftsLast)
		synctest.Wait()
		if s.all.Len() != 0 || len(s.byKey) != 0 {
			t.Errorf("%d and %d are kept for ever", s.all.Len(), len(s.byKey))
		}
	})
}
