package console_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/vision"
)

// slowly detects no face until the task ends in which it was asked to.
type slowly struct {
	servertest.Faces

	ended chan struct{} // gets one for each task
}

// Detect implements face.Recogniser.
func (s slowly) Detect(ctx context.Context, _ []byte, _ vision.Want) (*vision.Photo, error) {
	<-ctx.Done()
	s.ended <- struct{}{}
	return nil, context.Cause(ctx)
}

// TestTasksEndWithTheRightToThem begins to add photos, and then ends the session, takes the role away, or deletes the
// person: the task ends, and only who may still do what it does sees what it was.
func TestTasksEndWithTheRightToThem(t *testing.T) {
	slow := slowly{ended: make(chan struct{}, 1)}
	s := servertest.Start(t, server.Config{Recogniser: slow})
	group := create(t, s.Browser(t, ""), "persongroups", "staff", "Staff")
	begin := func() (b *servertest.Browser, person, task string) {
		t.Helper()
		b, person = visitorWith(t, s, "Ada")
		give(t, s, person, identity.CognitiveUser, accountScope(s, "default"))
		p := b.Upload(group+"/photos", group+"/photos", url.Values{"into": {"new"}}, photo("a.png", 1, "ada"),
			photo("b.png", 2, "ben"))
		task = p.Header.Get("Location")
		if p.Status != http.StatusSeeOther || !strings.HasPrefix(task, "/console/jobs/") {
			t.Fatalf("add photos: %d %s", p.Status, p.Body)
		}
		want(t, "the task", b.Get(task), http.StatusOK, `http-equiv="refresh"`)
		want(t, "as somebody else", s.Browser(t, "").Get(task), http.StatusNotFound)
		return b, person, task
	}
	end := func() {
		t.Helper()
		select {
		case <-slow.ended:
		case <-t.Context().Done():
			t.Fatal("the task does not end")
		}
	}
	const ended = "This task was ended with its session"
	over := func(p servertest.Page) bool { return !strings.Contains(p.Body, `http-equiv="refresh"`) }

	b, person, task := begin()
	b.Submit("/console", "/console/signout", nil)
	end()
	want(t, "without a session", b.Get(task), http.StatusUnauthorized)
	want(t, "signed out", s.Browser(t, person).Wait(task, over), http.StatusOK, ended)

	b, person, task = begin()
	operator := s.Browser(t, "")
	access := "/console/resources/default/access"
	_, row, _ := strings.Cut(operator.Get(access).Body, `/`+person+`"`)
	fields, found := servertest.Page{Body: row}.Form(access + "/remove")
	if !found {
		t.Fatal("the role cannot be removed")
	}
	operator.Send(access+"/remove", fields)
	end()
	want(t, "without the role", b.Get(task), http.StatusNotFound)
	give(t, s, person, identity.CognitiveUser, accountScope(s, "default"))
	want(t, "with the role again", b.Wait(task, over), http.StatusOK, ended)

	_, person, _ = begin()
	s.Manage(t, http.MethodDelete, "/providers/Visage.Identity/people/"+person, nil)
	end()
}

// TestTasksOutliveASignInAgain signs in again in the browser that has begun a task, so that another session replaces
// the first: the task goes on, until the person signs out.
func TestTasksOutliveASignInAgain(t *testing.T) {
	slow := slowly{ended: make(chan struct{}, 1)}
	i := newIssuer(t)
	cfg := issuing(t, i)
	cfg.Recogniser = slow
	s := servertest.Start(t, cfg)
	end := func() {
		t.Helper()
		select {
		case <-slow.ended:
		case <-t.Context().Done():
			t.Fatal("the task does not end")
		}
	}
	group := create(t, s.Browser(t, ""), "persongroups", "staff", "Staff")
	b := stale(t, s, i)
	p := b.Upload(group+"/photos", group+"/photos", url.Values{"into": {"new"}}, photo("a.png", 1, "ada"),
		photo("b.png", 2, "ben"))
	task := p.Header.Get("Location")
	if p.Status != http.StatusSeeOther || !strings.HasPrefix(task, "/console/jobs/") {
		t.Fatalf("add photos: %d %s", p.Status, p.Body)
	}
	token := b.Token()
	// The issuer says again that it asked the person long ago: the session is another one.
	want(t, "sign in again", finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "op"))),
		http.StatusSeeOther)
	want(t, "a form of the former session", b.Send("/console/jobs/none/cancel", url.Values{"token": {token}}),
		http.StatusForbidden)
	// A task that begins now and loses its session ends when tasks are looked at, and the first has been by then.
	other := s.Browser(t, "")
	other.Upload(group+"/photos", group+"/photos", url.Values{"into": {"new"}}, photo("a.png", 1, "ada"),
		photo("b.png", 2, "ben"))
	other.Submit("/console", "/console/signout", nil)
	end()
	want(t, "the task", b.Get(task), http.StatusOK, `http-equiv="refresh"`)
	b.Submit("/console", "/console/signout", nil)
	end()
}
