package identity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

func TestWhatPeopleMayBeCalled(t *testing.T) {
	d := open(t, config(nil))
	for _, c := range []struct {
		name string
		what identity.PersonCreation
		code string // of the refusal
	}{
		{"an owl for every character", identity.PersonCreation{Name: strings.Repeat("🦉", 128)}, ""},
		{"any script", identity.PersonCreation{Name: "田中 さくら", Email: "sakura@例え.jp", Language: "fr"}, ""},
		{"right to left", identity.PersonCreation{Name: "فاطمة\u200f"}, ""},
		{"joined emoji", identity.PersonCreation{Name: "👩‍🚀"}, ""},
		{"spaces around", identity.PersonCreation{Name: "  Ada  ", Email: " Ada@Example.org "}, ""},
		{"no name", identity.PersonCreation{Name: " "}, "InvalidPrincipal"},
		{"129 characters", identity.PersonCreation{Name: strings.Repeat("x", 129)}, "InvalidPrincipal"},
		{"a line end", identity.PersonCreation{Name: "Ada\nadmin"}, "InvalidPrincipal"},
		{"a turn of direction", identity.PersonCreation{Name: "Ada\u202enimda"}, "InvalidPrincipal"},
		{"not UTF-8", identity.PersonCreation{Name: "Ada\xff"}, "InvalidPrincipal"},
		{"a name with the address", identity.PersonCreation{Name: "A", Email: "Ada <a@example.org>"},
			"InvalidPrincipal"},
		{"no address", identity.PersonCreation{Name: "A", Email: "example.org"}, "InvalidPrincipal"},
		{"a header", identity.PersonCreation{Name: "A", Email: "a@example.org\r\nBcc: b"}, "InvalidPrincipal"},
		{"a long address", identity.PersonCreation{Name: "A", Email: strings.Repeat("a", 250) + "@x.org"},
			"InvalidPrincipal"},
		{"the address of another", identity.PersonCreation{Name: "A", Email: "ADA@example.ORG"}, "EmailTaken"},
		{"a third language", identity.PersonCreation{Name: "A", Language: "de"}, "InvalidPrincipal"},
		{"another tenant", identity.PersonCreation{Tenant: stranger, Name: "A"}, "InvalidPrincipal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.what.Tenant == "" {
				c.what.Tenant = tenant
			}
			p, err := d.CreatePerson(t.Context(), c.what)
			if c.code != "" {
				wantRefusal(t, c.name, err, c.code, "")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := identity.Principal{
				ID: p.ID, Tenant: tenant, Name: strings.TrimSpace(c.what.Name), Kind: identity.Person,
				Email: strings.TrimSpace(c.what.Email), Language: c.what.Language, Created: p.Created,
			}
			if got, err := d.Principal(p.ID); err != nil || !cmp.Equal(got, want) || !cmp.Equal(p, want) {
				t.Errorf("%v, %s", err, cmp.Diff(got, want))
			}
		})
	}
	if _, found := d.LookupClient(""); found {
		t.Error("a person is found by the client id that people do not have")
	}
}

func TestPeopleChange(t *testing.T) {
	w := newScopesAndEvents()
	d := open(t, w.config(nil))
	ada, bob := person(t, d, "Ada"), person(t, d, "Bob")
	secret, _ := openSession(t, d, ada)
	w.Events()
	set := func(id, email string) error {
		_, err := d.UpdatePerson(t.Context(), id, func(c *identity.PersonChange) error {
			c.Name, c.Email = c.Name+"!", email
			return nil
		})
		return err
	}
	if err := set(ada.ID, "ada@example.org"); err != nil {
		t.Fatal(err)
	}
	events := w.Events()
	if len(events) != 1 || events[0].Kind != audit.IdentityUpdate || events[0].Details[audit.DetailSubject] != ada.ID ||
		events[0].Details[audit.DetailAfter] != "name,email" {
		t.Errorf("recorded: %+v", events)
	}
	if _, who, err := d.Session(t.Context(), secret, home); err != nil || who.Name != "Ada!" {
		t.Errorf("an open session: %+v, %v", who, err)
	}
	wantRefusal(t, "the address of another", set(bob.ID, "ADA@example.org"), "EmailTaken", "")
	wantRefusal(t, "no address", set(bob.ID, "ada"), "InvalidPrincipal", "")
	wantRefusal(t, "nobody", set(visage.NewUUID().String(), ""), "PrincipalNotFound", "")
	app, _ := application(t, d)
	wantRefusal(t, "an application", set(app.ID, ""), "PrincipalNotFound", "")
	if p, err := d.Principal(bob.ID); err != nil || p.Name != "Bob" {
		t.Errorf("after refusals: %+v, %v", p, err)
	}
	if err := d.Delete(t.Context(), ada.ID); err != nil {
		t.Fatal(err)
	}
	if err := set(bob.ID, "ada@example.org"); err != nil {
		t.Errorf("the address of a deleted person: %v", err)
	}
}

func TestPeopleGetNoTokens(t *testing.T) {
	d := open(t, config(nil))
	ada := person(t, d, "Ada")
	if _, _, err := d.AddSecret(t.Context(), ada.ID, 0); err == nil {
		t.Error("a person has a secret")
	}
	for _, id := range []string{ada.ID, ada.ClientID} {
		_, _, err := d.Grant(t.Context(), identity.Grant{Tenant: tenant, ClientID: id, Secret: "x", Audience: faces})
		wantRefusal(t, "a token for "+id, err, "unauthorized_client", "700016")
	}
	_, _, err := d.Token(t.Context(), ada.ID, faces)
	wantRefusal(t, "a token", err, "PrincipalNotFound", "")
}

// TestRecordsFromBeforePeople reads an identity as a program wrote it that knew no people, and has that program read
// one of today.
func TestRecordsFromBeforePeople(t *testing.T) {
	type earlier struct {
		ID, ClientID, Tenant, Name string
		Kind                       identity.Kind
		Resource                   string
		Secrets                    []struct{}
		Subjects                   []struct{ Issuer, Name string }
		Created                    int64
	}
	store := newStore(t, "", sourcetest.NewFake("root"))
	defer store.Close()
	id := visage.NewUUID().String()
	err := store.Space(sealed.Operator).Update(t.Context(), func(tx sealed.Tx) error {
		return sealed.NewTable[earlier]("identity/principal", 1).In().Put(tx, id, earlier{
			ID: id, ClientID: visage.NewUUID().String(), Tenant: tenant, Name: "old", Kind: identity.Application,
			Subjects: []struct{ Issuer, Name string }{{"https://issuer.example", "ci"}}, Created: 1,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, config(store))
	p, err := d.Principal(id)
	want := []identity.Subject{{Issuer: "https://issuer.example", Name: "ci"}}
	if err != nil || p.Name != "old" || !slices.Equal(p.Subjects, want) {
		t.Errorf("%+v, %v", p, err)
	}
	app, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Space(sealed.Operator).View(t.Context(), func(r sealed.Reader) error {
		rec, err := sealed.NewTable[earlier]("identity/principal", 1).In().Get(r, app.ID)
		if err == nil && rec.Name != "new" {
			t.Errorf("the program from before reads %+v", rec)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestCodesAreUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScopesAndEvents()
		d := open(t, w.config(nil))
		ada := person(t, d, "Ada")
		w.Events()
		code, err := d.IssueCode(t.Context(), ada.ID, identity.SignIn, 0)
		if err != nil {
			t.Fatal(err)
		}
		if p, purpose, found := d.LookupCode(code); !found || p.ID != ada.ID || purpose != identity.SignIn {
			t.Errorf("looked up: %+v %q %v", p, purpose, found)
		}
		var all sync.WaitGroup
		var successes, refusals atomic.Int32
		for range 16 {
			all.Go(func() {
				p, purpose, err := d.RedeemCode(t.Context(), code)
				switch {
				case err == nil && p.ID == ada.ID && purpose == identity.SignIn:
					successes.Add(1)
				case strings.Contains(fmt.Sprint(err), "OneTimeCodeSpent"):
					refusals.Add(1)
				}
			})
		}
		all.Wait()
		if successes.Load() != 1 || refusals.Load() != 15 {
			t.Errorf("%d successes, %d refusals", successes.Load(), refusals.Load())
		}
		if n := w.Count(audit.SessionOpen, audit.Refused); n != 15 {
			t.Errorf("%d refusals were recorded", n)
		}
		if _, _, found := d.LookupCode(code); found {
			t.Error("a used code is found")
		}
		w.Events()

		for _, c := range []struct {
			use  identity.CodeUse
			life time.Duration
			ends time.Duration
		}{
			{identity.SignIn, 0, identity.SignInCodeLife},
			{identity.SignIn, time.Minute, time.Minute},
			{identity.Invite, 0, identity.InviteCodeLife},
		} {
			code, err := d.IssueCode(t.Context(), ada.ID, c.use, c.life)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.ends - time.Nanosecond)
			if _, _, found := d.LookupCode(code); !found {
				t.Errorf("%s %v: it has ended too early", c.use, c.life)
			}
			time.Sleep(time.Nanosecond)
			if _, _, err := d.RedeemCode(t.Context(), code); err == nil {
				t.Errorf("%s %v: it has not ended", c.use, c.life)
			}
		}
	})
}

func TestWhoGetsCodes(t *testing.T) {
	cfg := config(nil)
	cfg.Operator = "44444444-4444-4444-8444-444444444444"
	d := open(t, cfg)
	_, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "operator", ID: cfg.Operator})
	if err != nil {
		t.Fatal(err)
	}
	app, _ := application(t, d)
	ada := person(t, d, "Ada")
	for _, c := range []struct {
		name string
		of   string
		use  identity.CodeUse
		life time.Duration
		code string
	}{
		{"the operator", cfg.Operator, identity.SignIn, 0, ""},
		{"an invitation for the operator", cfg.Operator, identity.Invite, 0, "InvalidCode"},
		{"an application", app.ID, identity.SignIn, 0, "InvalidCode"},
		{"nobody", visage.NewUUID().String(), identity.SignIn, 0, "PrincipalNotFound"},
		{"another use", ada.ID, "reset", 0, "InvalidCode"},
		{"a long life", ada.ID, identity.SignIn, 3 * time.Minute, "InvalidCode"},
		{"a long invitation", ada.ID, identity.Invite, 73 * time.Hour, "InvalidCode"},
		{"a negative life", ada.ID, identity.Invite, -1, "InvalidCode"},
		{"in upper case", strings.ToUpper(ada.ID), identity.Invite, time.Hour, ""},
	} {
		_, err := d.IssueCode(t.Context(), c.of, c.use, c.life)
		if c.code != "" {
			wantRefusal(t, c.name, err, c.code, "")
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var all []string
	for range 9 { // the oldest ends
		code, err := d.IssueCode(t.Context(), ada.ID, identity.Invite, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, code)
	}
	if _, _, found := d.LookupCode(all[0]); found {
		t.Error("nine codes of one person are open")
	}
	if _, _, found := d.LookupCode(all[1]); !found {
		t.Error("an eighth code has ended")
	}
	if err := d.Delete(t.Context(), ada.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.RedeemCode(t.Context(), all[8]); err == nil {
		t.Error("the code of a deleted person lets somebody in")
	}
}

func TestRestartKeepsInvitations(t *testing.T) {
	dir, src := t.TempDir(), sourcetest.NewFake("root")
	store := newStore(t, dir, src)
	d := open(t, config(store))
	ada := person(t, d, "Ada")
	code := func(use identity.CodeUse) string {
		text, err := d.IssueCode(t.Context(), ada.ID, use, 0)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	invitation, used, signIn := code(identity.Invite), code(identity.Invite), code(identity.SignIn)
	if _, _, err := d.RedeemCode(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = newStore(t, dir, src)
	defer store.Close()
	d = open(t, config(store))
	for _, gone := range []string{used, signIn} {
		if _, _, found := d.LookupCode(gone); found {
			t.Error("a code that was used, or was for now, is there after a restart")
		}
	}
	if p, _, err := d.RedeemCode(t.Context(), invitation); err != nil || p.ID != ada.ID {
		t.Errorf("an invitation after a restart: %v, %v", p, err)
	}
}

func TestPasskeys(t *testing.T) {
	w := newScopesAndEvents()
	dir, src := t.TempDir(), sourcetest.NewFake("root")
	store := newStore(t, dir, src)
	d := open(t, w.config(store))
	ada, bob := person(t, d, "Ada"), person(t, d, "Bob")
	app, _ := application(t, d)
	key := func(id string) identity.Passkey {
		return identity.Passkey{ID: []byte(id), Name: "Phone 📱", Credential: []byte("public key")}
	}
	w.Events()
	if err := d.AddPasskey(t.Context(), ada.ID, key("one")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "the same again", d.AddPasskey(t.Context(), bob.ID, key("one")), "PasskeyExists", "")
	wantRefusal(t, "of an application", d.AddPasskey(t.Context(), app.ID, key("two")), "InvalidPasskey", "")
	wantRefusal(t, "of nobody", d.AddPasskey(t.Context(), stranger, key("two")), "PrincipalNotFound", "")
	for _, bad := range []identity.Passkey{
		{Name: "x", Credential: []byte("k")}, {ID: []byte("two"), Name: "x"},
		{ID: []byte("two"), Credential: []byte("k")},
		{ID: bytes.Repeat([]byte("x"), 1024), Name: "x", Credential: []byte("k")},
		{ID: []byte("two"), Name: "x", Credential: make([]byte, 4<<10+1)},
	} {
		wantRefusal(t, "a bad one", d.AddPasskey(t.Context(), ada.ID, bad), "InvalidPasskey", "")
	}
	if err := d.UsePasskey(t.Context(), ada.ID, []byte("one"), []byte("counter 2")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "another's", d.UsePasskey(t.Context(), bob.ID, []byte("one"), []byte("x")), "PasskeyNotFound", "")
	if told := w.Told(); told[0] != "identity.create passkey done" || w.Count(audit.IdentityCreate, audit.Done) != 0 {
		t.Errorf("recorded: %v", told)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = newStore(t, dir, src)
	defer store.Close()
	d = open(t, w.config(store))
	p, k, found := d.LookupPasskey([]byte("one"))
	if !found || p.ID != ada.ID || string(k.Credential) != "counter 2" || k.Name != "Phone 📱" ||
		k.Used.Before(k.Created) {
		t.Errorf("looked up: %+v %+v %v", p, k, found)
	}
	if len(p.Passkeys) != 1 || p.Passkeys[0].Credential != nil {
		t.Errorf("shown: %+v", p.Passkeys)
	}
	if err := d.RemovePasskey(t.Context(), ada.ID, []byte("one")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "again", d.RemovePasskey(t.Context(), ada.ID, []byte("one")), "PasskeyNotFound", "")
	for i := range 21 {
		err := d.AddPasskey(t.Context(), bob.ID, key(fmt.Sprint(i)))
		if i == 20 {
			wantRefusal(t, "a 21st", err, "InvalidPasskey", "")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Delete(t.Context(), bob.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, found := d.LookupPasskey([]byte("0")); found {
		t.Error("a passkey outlives its person")
	}
}

func TestWhomAnIssuerVouchesFor(t *testing.T) {
	const url = "https://issuer.example"
	cfg := config(nil)
	cfg.Trusted = []identity.Issuer{{URL: url, Audience: "visage", Keys: noKeys}, {URL: url + "/2", Audience: "visage",
		Keys: noKeys}}
	d := open(t, cfg)
	ada := person(t, d, "Ada")
	var apps []identity.Principal
	for range 2 {
		app, _ := application(t, d)
		apps = append(apps, app)
	}
	slices.SortFunc(apps, func(a, b identity.Principal) int { return strings.Compare(a.ID, b.ID) })
	set := func(p identity.Principal, subjects ...identity.Subject) {
		if err := d.SetSubjects(t.Context(), p.ID, subjects); err != nil {
			t.Fatal(err)
		}
	}
	set(ada, identity.Subject{Issuer: url, Name: "ada"})
	set(apps[1], identity.Subject{Issuer: url, Name: "staff", Group: true}, identity.Subject{Issuer: url, Name: "ci"})
	set(apps[0], identity.Subject{Issuer: url, Name: "staff", Group: true})
	for _, c := range []struct {
		name, issuer, subject string
		groups                []string
		want                  string
	}{
		{"a subject", url, "ada", nil, ada.ID},
		{"a subject before its group", url, "ada", []string{"staff"}, ada.ID},
		{"a group", url, "bob", []string{"others", "staff"}, apps[0].ID},
		{"in another case", url, "Ada", nil, ""},
		{"a subject that is called like a group", url, "staff", nil, ""},
		{"a group that is called like a subject", url, "bob", []string{"ada", "ci"}, ""},
		{"of another issuer", url + "/2", "ada", []string{"staff"}, ""},
		{"of an issuer that is not trusted", "https://other.example", "ada", nil, ""},
		{"nobody", url, "", nil, ""},
	} {
		p, found := d.LookupVouched(c.issuer, c.subject, c.groups)
		if p.ID != c.want || found != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", c.name, p.ID, found, c.want)
		}
	}
}

func noKeys(context.Context) ([]byte, error) { return nil, errors.New("there are none") }
