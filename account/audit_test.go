package account_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// journal is an auditor in memory, which fails with err when it has one.
type journal struct {
	events []account.Event
	err    error
}

func (j *journal) Record(_ context.Context, e account.Event) error {
	j.events = append(j.events, e)
	return j.err
}

// TestChangesAreAudited: who did what to which resource, also when it was refused, and nothing is done that cannot be
// told.
func TestChangesAreAudited(t *testing.T) {
	j := &journal{}
	store := newStore(t, "", sourcetest.NewFake("root"))
	a, err := account.Open(t.Context(), account.Config{
		Store: store, Custody: newCustody(t, store), ParseKey: azure.ParseKey, Audit: j,
	})
	if err != nil {
		t.Fatal(err)
	}
	by := visage.Caller{Principal: visage.Principal{Method: "operator"}, RequestID: "r"}
	made := create(t, a, "One", visage.S0)
	if _, err := a.Regenerate(t.Context(), by, "one", account.Key2); err != nil {
		t.Fatal(err)
	}
	_, err = a.Update(t.Context(), by, "one", func(account.Account) (account.Change, error) {
		to := visage.F0
		return account.Change{Tier: &to}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(t.Context(), by, "one"); err != nil {
		t.Fatal(err)
	}
	refusal := a.Delete(t.Context(), by, "one")
	wantRefusal(t, refusal, visage.NotFound, "ResourceNotFound")

	changed := made.Resource
	changed.Tier = visage.F0
	want := []account.Event{
		{Operation: account.Created, Resource: made.Resource},
		{Operation: account.Regenerated, Resource: made.Resource, Key: account.Key2, By: by},
		{Operation: account.Updated, Resource: changed, By: by},
		{Operation: account.Deleted, Resource: changed, By: by},
		{Operation: account.Deleted, Resource: changed, By: by, Err: refusal}, // it can still be had back
	}
	same := cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })
	if diff := cmp.Diff(want, j.events, same, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	j.err = errors.New("no room on the disk")
	_, err = a.Create(t.Context(), by,
		account.Creation{Name: "two", Group: "default", Location: "local", Tier: visage.S0})
	if !errors.Is(err, j.err) {
		t.Errorf("create without an audit: %v", err)
	}
}
