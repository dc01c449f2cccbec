package identity_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

var home = netip.MustParseAddr("192.0.2.7")

// person makes a person.
func person(t testing.TB, d *identity.Directory, name string) identity.Principal {
	t.Helper()
	p, err := d.CreatePerson(t.Context(), identity.PersonCreation{Tenant: tenant, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openSession(t testing.TB, d *identity.Directory, p identity.Principal) (string, identity.Session) {
	t.Helper()
	secret, s, err := d.OpenSession(t.Context(), identity.SessionStart{
		Principal: p.ID, Method: identity.ByPasskey, Address: home, Client: "Firefox on Linux",
	})
	if err != nil {
		t.Fatal(err)
	}
	return secret, s
}

// use asks for a session and returns the code of the refusal.
func use(t testing.TB, d *identity.Directory, secret string) string {
	t.Helper()
	_, _, err := d.Session(t.Context(), secret, home)
	if err == nil {
		return ""
	}
	r, ok := errors.AsType[*visage.Refusal](err)
	if !ok || r.Kind != visage.Unauthenticated {
		t.Fatalf("a session is refused with %v", err)
	}
	return r.Code
}

func TestSessionSaysWhoActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScopesAndEvents()
		cfg := w.config(nil)
		cfg.Operator = "44444444-4444-4444-8444-444444444444"
		d := open(t, cfg)
		ada := person(t, d, "Ada Łukasz 🦉")
		w.Events()
		secret, opened := openSession(t, d, ada)
		if b, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(b) != 32 {
			t.Errorf("the secret has %d bytes, %v", len(b), err)
		}
		if told := w.Told(); !slices.Equal(told, []string{"session.open passkey done"}) {
			t.Errorf("recorded: %v", told)
		}
		time.Sleep(time.Minute)
		s, who, err := d.Session(t.Context(), secret, netip.MustParseAddr("2001:db8::1"))
		if err != nil {
			t.Fatal(err)
		}
		want := visage.Principal{Method: "person", ObjectID: ada.ID, Tenant: tenant, Name: ada.Name}
		if who != want {
			t.Errorf("acts: %+v, want %+v", who, want)
		}
		if s.ID != opened.ID || s.Name != ada.Name || s.Client != "Firefox on Linux" ||
			s.Address.String() != "2001:db8::1" || s.Used.Sub(s.Created) != time.Minute || !s.Proved.Equal(s.Created) ||
			s.Expires.Sub(s.Used) != identity.SessionIdle {
			t.Errorf("session: %+v", s)
		}
		// The operator's object id stands for the operator, and a name that an issuer gave is kept.
		_, err = d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "operator", ID: cfg.Operator})
		if err != nil {
			t.Fatal(err)
		}
		secret, _, err = d.OpenSession(t.Context(), identity.SessionStart{
			Principal: cfg.Operator, Name: " Grace\nHopper\u202e ", Method: identity.ByOpenID,
			Client: strings.Repeat("é", 200),
		})
		if err != nil {
			t.Fatal(err)
		}
		s, who, err = d.Session(t.Context(), secret, netip.Addr{})
		if err != nil || who.Method != "operator" || who.Name != "GraceHopper" || len(s.Client) != 200 {
			t.Errorf("the operator's session: %+v %+v %v", s, who, err)
		}
	})
}

// TestWatchingIsNoUse looks at a session every minute: it ends all the same.
func TestWatchingIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, newScopesAndEvents().config(nil))
		ada := person(t, d, "Ada")
		secret, opened := openSession(t, d, ada)
		for range identity.SessionIdle/time.Minute - 1 {
			time.Sleep(time.Minute)
			s, who, err := d.Watch(secret)
			if err != nil || s != opened || who.ObjectID != ada.ID {
				t.Fatalf("watched: %+v %+v %v, want %+v", s, who, err, opened)
			}
		}
		time.Sleep(time.Minute)
		_, _, err := d.Watch(secret)
		wantRefusal(t, "a session that was only watched", err, "SessionEnded", "")
		_, _, err = d.Watch("guess")
		wantRefusal(t, "what is no secret", err, "SessionEnded", "")
	})
}

func TestNobodySignsInAsAResource(t *testing.T) {
	d := open(t, config(nil))
	managed, err := d.EnsureManaged(t.Context(), tenant, scope+"/resourceGroups/g/a", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{managed.ID, "", visage.NewUUID().String()} {
		_, _, err := d.OpenSession(t.Context(), identity.SessionStart{Principal: id, Method: identity.ByPasskey})
		wantRefusal(t, "a session of "+id, err, "PrincipalNotFound", "")
	}
}

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScopesAndEvents()
		d := open(t, w.config(nil))
		ada := person(t, d, "Ada")
		idle, _ := openSession(t, d, ada)
		old, _ := openSession(t, d, ada)
		for range 24 { // used often enough, a session lives for twelve hours
			time.Sleep(identity.SessionIdle - time.Second)
			if code := use(t, d, old); code != "" {
				t.Fatalf("a used session is refused: %s", code)
			}
		}
		if code := use(t, d, idle); code != "SessionEnded" {
			t.Errorf("an idle session: %q", code)
		}
		time.Sleep(24 * time.Second)
		if code := use(t, d, old); code != "SessionEnded" {
			t.Errorf("after 12 hours: %q", code)
		}
		if left := d.Sessions(""); len(left) != 0 {
			t.Errorf("ended sessions are listed: %+v", left)
		}

		ended, s := openSession(t, d, ada)
		w.Events()
		if err := d.EndSession(t.Context(), strings.ToUpper(s.ID)); err != nil {
			t.Fatal(err)
		}
		if told := w.Told(); !slices.Equal(told, []string{"session.end revoked done"}) {
			t.Errorf("recorded: %v", told)
		}
		wantRefusal(t, "an ended session", d.EndSession(t.Context(), s.ID), "SessionNotFound", "")

		// Signing in ends the session that the browser had.
		before, s := openSession(t, d, ada)
		w.Events()
		signingIn := visage.WithCaller(t.Context(), visage.Caller{RequestID: "r"})
		if err := d.EndSession(signingIn, s.ID); err != nil || use(t, d, before) != "SessionEnded" {
			t.Errorf("a session that another replaces: %v", err)
		}
		if told := w.Told(); !slices.Equal(told, []string{"session.end replaced done"}) {
			t.Errorf("recorded: %v", told)
		}

		first, _ := openSession(t, d, ada)
		second, _ := openSession(t, d, ada)
		other, _ := openSession(t, d, person(t, d, "Bob"))
		w.Events()
		own := visage.WithCaller(t.Context(), visage.Caller{
			Principal: visage.Principal{Method: "person", ObjectID: ada.ID, Name: "Ada"}, RequestID: "r",
		})
		if err := d.EndSessions(own, ada.ID); err != nil {
			t.Fatal(err)
		}
		for _, e := range w.Events() {
			if e.Kind != audit.SessionEnd || e.Details[audit.DetailOperation] != "sign-out" ||
				e.Actor != (audit.Actor{Kind: audit.Person, ID: ada.ID, Name: "Ada"}) {
				t.Errorf("recorded: %+v", e)
			}
		}
		for _, secret := range []string{ended, first, second} {
			if code := use(t, d, secret); code != "SessionEnded" {
				t.Errorf("an ended session: %q", code)
			}
		}
		if code := use(t, d, other); code != "" {
			t.Errorf("the session of another: %q", code)
		}

		last, _ := openSession(t, d, ada)
		w.Events()
		if err := d.Delete(t.Context(), ada.ID); err != nil {
			t.Fatal(err)
		}
		if told := w.Told(); !slices.Equal(told,
			[]string{"identity.delete person done", "session.end principal-deleted done"}) {
			t.Errorf("recorded: %v", told)
		}
		if code := use(t, d, last); code != "SessionEnded" {
			t.Errorf("the session of a deleted person: %q", code)
		}
	})
}

// TestWhoseASessionWas asks whose a session was after each way to end, for ten minutes; nobody is let in by that.
func TestWhoseASessionWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScopesAndEvents()
		d := open(t, w.config(nil))
		ada := person(t, d, "Ada")
		was := func(what, secret, principal, name string) {
			t.Helper()
			if id, n, found := d.WhoseWas(secret); id != principal || n != name || found != (principal != "") {
				t.Errorf("%s was of %q, %q (%v)", what, id, n, found)
			}
		}
		idle, _ := openSession(t, d, ada)
		time.Sleep(identity.SessionIdle)
		ended, s := openSession(t, d, ada)
		if err := d.EndSession(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		left, s := openSession(t, d, ada)
		own := visage.WithCaller(t.Context(), visage.Caller{
			Principal: visage.Principal{Method: "person", ObjectID: ada.ID, Name: "Ada"}, RequestID: "r",
		})
		if err := d.EndSession(own, s.ID); err != nil {
			t.Fatal(err)
		}
		was("a session that the person left", left, "", "")
		was("a session that nobody used", idle, ada.ID, "Ada")
		was("a session that was ended", ended, ada.ID, "Ada")
		was("no session", strings.Repeat("A", len(idle)), "", "")
		was("nothing", "", "", "")
		if code := use(t, d, ended); code != "SessionEnded" {
			t.Errorf("an ended session lets its person in: %q", code)
		}
		opened, _ := openSession(t, d, ada)
		if _, err := d.Prove(t.Context(), opened, identity.ByPasskey); err != nil {
			t.Fatal(err)
		}
		was("a secret that was replaced", opened, "", "")
		time.Sleep(10*time.Minute - 1)
		was("a session that was ended lately", ended, ada.ID, "Ada")
		time.Sleep(time.Nanosecond)
		was("a session that was ended long ago", ended, "", "")
		was("a session that nobody used for long", idle, "", "")
	})
}

func TestExpiredSessionsAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScopesAndEvents()
		d := open(t, w.config(nil))
		openSession(t, d, person(t, d, "Ada"))
		w.Events()
		ended := make(chan error)
		ctx, stop := context.WithCancel(t.Context())
		go func() { ended <- d.Run(ctx) }()
		time.Sleep(identity.SessionIdle + 2*time.Minute)
		synctest.Wait()
		events := w.Events()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(events) != 1 || events[0].Kind != audit.SessionEnd || events[0].Actor.Kind != audit.Service ||
			events[0].Details[audit.DetailOperation] != "expired" {
			t.Errorf("recorded: %+v", events)
		}
	})
}

func TestProofReplacesTheSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		before, s := openSession(t, d, person(t, d, "Ada"))
		time.Sleep(10 * time.Minute)
		after, err := d.Prove(t.Context(), before, identity.ByOpenID)
		if err != nil || after == before {
			t.Fatalf("proof: %v", err)
		}
		if code := use(t, d, before); code != "SessionEnded" {
			t.Errorf("the secret from before: %q", code)
		}
		now, _, err := d.Session(t.Context(), after, home)
		if err != nil || now.ID != s.ID || now.Proved.Sub(s.Proved) != 10*time.Minute ||
			!now.Created.Equal(s.Created) || now.Method != identity.ByOpenID {
			t.Errorf("the session: %+v, %v", now, err)
		}
		_, err = d.Prove(t.Context(), before, identity.ByPasskey)
		wantRefusal(t, "proof of a session that ended", err, "SessionEnded", "")
	})
}

func TestRestartKeepsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, src := t.TempDir(), sourcetest.NewFake("root")
		store := newStore(t, dir, src)
		restart := func() *identity.Directory {
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			store = newStore(t, dir, src)
			return open(t, config(store))
		}
		d := open(t, config(store))
		ada := person(t, d, "Ada")
		kept, _ := openSession(t, d, ada)
		ended, s := openSession(t, d, ada)
		if err := d.EndSession(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		stale, _ := openSession(t, d, ada)
		proved, err := d.Prove(t.Context(), stale, identity.ByPasskey)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(identity.SessionIdle - time.Second)
		for _, secret := range []string{kept, proved} {
			if code := use(t, d, secret); code != "" {
				t.Fatal(code)
			}
		}
		time.Sleep(2 * time.Minute)
		d = restart()
		for secret, want := range map[string]string{
			kept: "", proved: "", ended: "SessionEnded", stale: "SessionEnded",
		} {
			if code := use(t, d, secret); code != want {
				t.Errorf("after a restart: %q, want %q", code, want)
			}
		}
		time.Sleep(identity.SessionIdle)
		d = restart()
		if code := use(t, d, kept); code != "SessionEnded" {
			t.Errorf("an idle session after a restart: %q", code)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSecretsOfSessionsAreNotStored reads every record of sessions and codes, as the program itself opens them.
func TestSecretsOfSessionsAreNotStored(t *testing.T) {
	store := newStore(t, "", sourcetest.NewFake("root"))
	defer store.Close()
	d := open(t, config(store))
	ada := person(t, d, "Ada")
	secret, _ := openSession(t, d, ada)
	proved, err := d.Prove(t.Context(), secret, identity.ByPasskey)
	if err != nil {
		t.Fatal(err)
	}
	code, err := d.IssueCode(t.Context(), ada.ID, identity.Invite, 0)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	err = store.Space(sealed.Operator).View(t.Context(), func(r sealed.Reader) error {
		for _, table := range []string{"identity/session", "identity/code", "identity/outbox", "identity/principal"} {
			for record, err := range sealed.NewTable[map[string]any](table, 1).In().All(r) {
				if err != nil {
					return err
				}
				read++
				text := fmt.Sprintf("%v %x", record, record)
				for _, secret := range []string{secret, proved, code} {
					random, err := base64.RawURLEncoding.DecodeString(secret)
					if err != nil {
						return err
					}
					if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", random)) ||
						strings.Contains(text, fmt.Sprint(random)) {
						t.Errorf("a record of %s has a secret", table)
					}
				}
			}
		}
		return nil
	})
	if err != nil || read < 3 {
		t.Errorf("read %d records: %v", read, err)
	}
}

// TestUseIsStoredOnceAMinute sees what is stored by what a restart knows.
func TestUseIsStoredOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, src := t.TempDir(), sourcetest.NewFake("root")
		for used, stored := range map[time.Duration]time.Duration{
			59 * time.Second: 0, time.Minute: time.Minute, 61 * time.Second: time.Minute,
			2 * time.Minute: 2 * time.Minute,
		} {
			store := newStore(t, dir, src)
			d := open(t, config(store))
			ada := person(t, d, "Ada")
			secret, s := openSession(t, d, ada)
			for elapsed := time.Duration(0); elapsed < used; elapsed += time.Second {
				time.Sleep(time.Second)
				if code := use(t, d, secret); code != "" {
					t.Fatal(code)
				}
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			store = newStore(t, dir, src)
			again := open(t, config(store)).Sessions(ada.ID)
			if len(again) != 1 || again[0].ID != s.ID || again[0].Used.Sub(s.Created) != stored {
				t.Errorf("used for %v, a restart knows %+v", used, again)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		ada, bob := person(t, d, "Ada"), person(t, d, "Bob")
		other, _ := openSession(t, d, bob)
		var secrets []string
		for range 50 {
			secret, _ := openSession(t, d, ada)
			secrets = append(secrets, secret)
			time.Sleep(time.Second)
		}
		if code := use(t, d, secrets[0]); code != "" { // not the least recently used one any more
			t.Fatal(code)
		}
		openSession(t, d, ada)
		for i, want := range map[int]string{0: "", 1: "SessionEnded", 2: ""} {
			if code := use(t, d, secrets[i]); code != want {
				t.Errorf("session %d: %q, want %q", i, code, want)
			}
		}
		if n := len(d.Sessions(ada.ID)); n != 50 {
			t.Errorf("%d sessions", n)
		}
		if code := use(t, d, other); code != "" {
			t.Errorf("the session of another: %q", code)
		}
	})
}

func FuzzSessionSecret(f *testing.F) {
	d := open(f, config(nil))
	p := person(f, d, "Ada")
	secret, _ := openSession(f, d, p)
	code, err := d.IssueCode(f.Context(), p.ID, identity.Invite, 0)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", secret, code, secret[:42], secret + "=", secret + "\n", "\n" + secret[1:], strings.Repeat("A", 43),
		strings.Repeat("-", 43), secret[:42] + "/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := d.Session(t.Context(), text, home); (err == nil) != (text == secret) {
			t.Errorf("session of %q: %v", text, err)
		}
		if _, _, found := d.LookupCode(text); found != (text == code) {
			t.Errorf("code %q: %v", text, found)
		}
	})
}

// TestSessionsConcurrently has the race detector watch everything that happens to sessions at the same time.
func TestSessionsConcurrently(t *testing.T) {
	d := open(t, config(nil))
	ada := person(t, d, "Ada")
	secret, s := openSession(t, d, ada)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				d.Session(t.Context(), secret, home)
				d.Sessions("")
			}
		})
		all.Go(func() {
			_, opened := openSession(t, d, ada)
			if err := d.EndSession(t.Context(), opened.ID); err != nil {
				t.Error(err)
			}
		})
	}
	all.Go(func() {
		if err := d.EndSession(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
	if code := use(t, d, secret); code != "SessionEnded" || len(d.Sessions("")) != 0 {
		t.Errorf("after its end: %q, %v", code, fmt.Sprint(d.Sessions("")))
	}
}
