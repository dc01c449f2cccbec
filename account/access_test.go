package account_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// accountsWithAccess are accounts whose operator decides on requests.
type accountsWithAccess struct {
	*account.Accounts
	*account.Access
	t *testing.T
}

func newAccountsWithAccess(t *testing.T, store *sealed.Store) accountsWithAccess {
	t.Helper()
	a, err := account.Open(t.Context(), account.Config{
		Store: store, Custody: newCustody(t, store), ParseKey: azure.ParseKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	return accountsWithAccess{a, a.Access(), t}
}

// ask submits requests and has them approved.
func (o accountsWithAccess) ask(names ...string) {
	o.t.Helper()
	for _, name := range names {
		if _, err := o.Submit(o.t.Context(), visage.Caller{}, name,
			account.Asked{Service: "face", Contact: "c", Reason: "r"}); err != nil {
			o.t.Fatal(err)
		}
		if _, err := o.Approve(o.t.Context(), visage.Caller{}, name); err != nil {
			o.t.Fatal(err)
		}
	}
}

func (o accountsWithAccess) bound(places int) {
	o.t.Helper()
	if _, err := o.SetCapacity(o.t.Context(), visage.Caller{}, places); err != nil {
		o.t.Fatal(err)
	}
}

// want compares the requests with words such as "a:Approved b:Queued(1)".
func (o accountsWithAccess) want(words string) {
	o.t.Helper()
	all, err := o.Requests(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	var got []string
	for _, r := range all {
		word := r.Name + ":" + string(r.State)
		if r.Position > 0 {
			word += fmt.Sprintf("(%d)", r.Position)
		}
		got = append(got, word)
	}
	slices.Sort(got)
	if strings.Join(got, " ") != words {
		o.t.Errorf("requests are %s, want %s", strings.Join(got, " "), words)
	}
}

func (o accountsWithAccess) tryE0(name string) error {
	_, err := o.Create(o.t.Context(), visage.Caller{},
		account.Creation{Name: name, Location: "West US 2", Tier: visage.E0})
	return err
}

func TestE0NeedsAnApproval(t *testing.T) {
	o := newAccountsWithAccess(t, newStore(t, "", sourcetest.NewFake("root")))
	wantRefusal(t, o.tryE0("vip"), visage.Denied, "CustomerManagedKeyNotApproved")
	asked := account.Asked{Service: "Face", Region: "westus2", Contact: "ann@example.org", Reason: "pilot"}
	made, err := o.Submit(t.Context(), visage.Caller{}, "Pilot", asked)
	if err != nil || made.State != account.RequestSubmitted || made.Asked != asked {
		t.Fatalf("got %+v, %v", made, err)
	}
	wantRefusal(t, o.tryE0("vip"), visage.Denied, "CustomerManagedKeyNotApproved")
	if _, err := o.Reject(t.Context(), visage.Caller{}, "pilot", "not yet"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, o.tryE0("vip"), visage.Denied, "CustomerManagedKeyNotApproved")
	if _, err := o.Approve(t.Context(), visage.Caller{}, "PILOT"); err != nil {
		t.Fatal(err)
	}
	_, err = o.Create(t.Context(), visage.Caller{}, account.Creation{Name: "far", Location: "eastus", Tier: visage.E0})
	wantRefusal(t, err, visage.Denied, "CustomerManagedKeyNotApproved") // another region than in the request
	if err := o.tryE0("vip"); err != nil {
		t.Fatal(err)
	}
	if r, err := o.Request(t.Context(), "pilot"); err != nil || r.Account != "vip" {
		t.Errorf("got %+v, %v, want the account with the approval", r, err)
	}
	_, err = o.Submit(t.Context(), visage.Caller{}, "pilot", asked)
	wantRefusal(t, err, visage.Conflict, "AccessRequestAlreadyExists")
}

func TestQueueMovesInOrder(t *testing.T) {
	store := newStore(t, "", sourcetest.NewFake("root"))
	o := newAccountsWithAccess(t, store)
	o.bound(2)
	o.ask("a", "b", "c", "d", "e")
	o.want("a:Approved b:Approved c:Queued(1) d:Queued(2) e:Queued(3)")
	for _, name := range []string{"one", "two"} {
		if err := o.tryE0(name); err != nil {
			t.Fatal(err)
		}
	}
	wantRefusal(t, o.tryE0("three"), visage.Denied, "CustomerManagedKeyNotApproved")

	if err := o.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
		t.Fatal(err)
	}
	o.want("a:Approved b:Approved c:Queued(1) d:Queued(2) e:Queued(3)") // it can be recovered
	if err := o.Purge(t.Context(), visage.Caller{}, "one"); err != nil {
		t.Fatal(err)
	}
	o.want("a:Withdrawn b:Approved c:Approved d:Queued(1) e:Queued(2)")

	// Withdrawing the approval of an existing resource makes no room: the resource still exists.
	if _, err := o.Withdraw(t.Context(), visage.Caller{}, "b"); err != nil {
		t.Fatal(err)
	}
	o.want("a:Withdrawn b:Withdrawn c:Approved d:Queued(1) e:Queued(2)")
	if _, err := o.Withdraw(t.Context(), visage.Caller{}, "c"); err != nil {
		t.Fatal(err)
	}
	o.want("a:Withdrawn b:Withdrawn c:Withdrawn d:Approved e:Queued(1)")

	o = newAccountsWithAccess(t, store) // as after a restart
	o.want("a:Withdrawn b:Withdrawn c:Withdrawn d:Approved e:Queued(1)")
	o.bound(-1)
	o.want("a:Withdrawn b:Withdrawn c:Withdrawn d:Approved e:Approved")
	if s := o.Capacity(); s != (account.Capacity{Taken: 3}) {
		t.Errorf("space is %+v", s)
	}
}

// TestUnusedApprovalsAreKept checks that an approval stays when its resource is purged, until another request waits for
// the place.
func TestUnusedApprovalsAreKept(t *testing.T) {
	o := newAccountsWithAccess(t, newStore(t, "", sourcetest.NewFake("root")))
	o.bound(1)
	o.ask("a")
	for range 2 {
		if err := o.tryE0("vip"); err != nil {
			t.Fatal(err)
		}
		if err := o.Delete(t.Context(), visage.Caller{}, "vip"); err != nil {
			t.Fatal(err)
		}
		if err := o.Purge(t.Context(), visage.Caller{}, "vip"); err != nil {
			t.Fatal(err)
		}
		o.want("a:Approved")
	}
	o.ask("b")
	o.want("a:Withdrawn b:Approved")
}

// TestNobodyYieldsForNothing checks that an approval yields when that lets another in, but not when the capacity would
// still be exceeded.
func TestNobodyYieldsForNothing(t *testing.T) {
	o := newAccountsWithAccess(t, newStore(t, "", sourcetest.NewFake("root")))
	o.ask("a", "b")
	for _, name := range []string{"one", "two"} {
		if err := o.tryE0(name); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := o.Delete(t.Context(), visage.Caller{}, name); err != nil {
			t.Fatal(err)
		}
		if err := o.Purge(t.Context(), visage.Caller{}, name); err != nil {
			t.Fatal(err)
		}
	}
	remove("two")
	o.bound(1)
	o.ask("c")
	o.want("a:Approved b:Approved c:Queued(1)")
	remove("one")
	o.want("a:Withdrawn b:Withdrawn c:Approved")
}

func TestAutomaticApproval(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root"))) // approves automatically
	o := accountsWithAccess{a, a.Access(), t}
	create(t, a, "one", visage.E0)
	o.bound(2)
	o.ask("a", "b")
	o.want("a:Approved b:Queued(1)")
	create(t, a, "two", visage.E0)
	wantRefusal(t, o.tryE0("three"), visage.Denied, "CustomerManagedKeyNotApproved")
}

func TestRequestRefusals(t *testing.T) {
	o := newAccountsWithAccess(t, newStore(t, "", sourcetest.NewFake("root")))
	o.ask("gone", "no")
	if _, err := o.Withdraw(t.Context(), visage.Caller{}, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Reject(t.Context(), visage.Caller{}, "no", ""); err != nil {
		t.Fatal(err)
	}
	fine := account.Asked{Service: "Face", Contact: "c", Reason: "r"}
	submit := func(name string, with func(*account.Asked)) func() error {
		asked := fine
		with(&asked)
		return func() error { _, err := o.Submit(t.Context(), visage.Caller{}, name, asked); return err }
	}
	for name, c := range map[string]struct {
		do   func() error
		kind visage.Kind
		code string
	}{
		"name": {submit("a/b", func(*account.Asked) {}), visage.Invalid, "InvalidResourceName"},
		"service": {submit("r", func(q *account.Asked) { q.Service = "Speech" }), visage.Invalid,
			"InvalidRequestContent"},
		"nobody to answer": {submit("r", func(q *account.Asked) { q.Contact = "" }), visage.Invalid,
			"InvalidRequestContent"},
		"no reason": {submit("r", func(q *account.Asked) { q.Reason = "" }), visage.Invalid, "InvalidRequestContent"},
		"long reason": {submit("r", func(q *account.Asked) { q.Reason = strings.Repeat("r", 5000) }), visage.Invalid,
			"InvalidRequestContent"},
		"approve nothing": {func() error { _, err := o.Approve(t.Context(), visage.Caller{}, "x"); return err },
			visage.NotFound, "AccessRequestNotFound"},
		"approve a withdrawn request": {
			func() error { _, err := o.Approve(t.Context(), visage.Caller{}, "gone"); return err },
			visage.Conflict, "AccessRequestStateInvalid"},
		"withdraw a rejected request": {
			func() error { _, err := o.Withdraw(t.Context(), visage.Caller{}, "no"); return err },
			visage.Conflict, "AccessRequestStateInvalid"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, c.do(), c.kind, c.code) })
	}
	if _, err := o.Submit(t.Context(), visage.Caller{}, "gone", fine); err != nil {
		t.Errorf("a new request after withdrawing: %v", err)
	}
}

// TestRequestsAreText checks that requests contain only printable text, since the operator reads them in a terminal.
func TestRequestsAreText(t *testing.T) {
	o := newAccountsWithAccess(t, newStore(t, "", sourcetest.NewFake("root")))
	for _, asked := range []account.Asked{
		{Service: "Face", Contact: "ann\x1b[2Jbob", Reason: "r"}, {Service: "Face", Contact: "ann\nx", Reason: "r"},
		{Service: "Face", Contact: "ann", Reason: "a\x1b]0;x\a"}, {Service: "Face", Contact: "ann", Reason: "\xff"},
		{Service: "Face", Contact: "ann", Reason: "\u202etxt"},
	} {
		_, err := o.Submit(t.Context(), visage.Caller{}, "r", asked)
		wantRefusal(t, err, visage.Invalid, "InvalidRequestContent")
	}
	if _, err := o.Submit(t.Context(), visage.Caller{}, "r",
		account.Asked{Service: "Face", Contact: "Änn", Reason: "two\nlines"}); err != nil {
		t.Fatal(err)
	}
	_, err := o.Reject(t.Context(), visage.Caller{}, "r", "no\x1b[2J")
	wantRefusal(t, err, visage.Invalid, "InvalidRequestContent")
}
