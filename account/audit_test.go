package account_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// TestChangesAreAudited checks that every change has an event with its caller and resource, also when refused, and that
// a change that cannot be recorded fails.
func TestChangesAreAudited(t *testing.T) {
	log := &audittest.Recorder{}
	store := newStore(t, "", sourcetest.NewFake("root"))
	a, err := account.Open(t.Context(), account.Config{
		Store: store, Custody: newCustody(t, store), ParseKey: azure.ParseKey, Audit: log,
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
	if err := a.Purge(t.Context(), by, "one"); err != nil {
		t.Fatal(err)
	}

	operator := audit.Actor{Kind: audit.OperatorActor}
	event := func(kind audit.Kind, tier visage.Tier) audit.Event {
		return audit.Event{
			Kind: kind, Outcome: audit.Done, Actor: operator, Resource: made.ID, RequestID: "r",
			Details: map[audit.Detail]string{audit.DetailTier: string(tier), audit.DetailRegion: "local"},
		}
	}
	created := event(audit.ResourceCreate, visage.S0)
	created.Actor, created.RequestID = audit.Actor{Kind: audit.Service}, ""
	regenerated := event(audit.ResourceRegenerateKey, visage.S0)
	regenerated.Set(audit.DetailKeyName, "Key2")
	refused := event(audit.ResourceDelete, visage.F0) // it can still be recovered
	refused.Outcome, refused.Code = audit.Refused, "ResourceNotFound"
	want := []audit.Event{
		created, regenerated, event(audit.ResourceUpdate, visage.F0), event(audit.ResourceDelete, visage.F0), refused,
		event(audit.ResourcePurge, visage.F0),
	}
	if diff := cmp.Diff(want, log.Events(), cmpopts.IgnoreFields(audit.Event{}, "Time")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	full := errors.New("the disk is full")
	log.Fail(full)
	_, err = a.Create(t.Context(), by,
		account.Creation{Name: "two", Group: "default", Location: "local", Tier: visage.S0})
	if !errors.Is(err, full) {
		t.Errorf("create without an audit: %v", err)
	}
	log.Fail(nil)
	other, err := a.Create(t.Context(), by,
		account.Creation{Name: "three", Group: "default", Location: "local", Tier: visage.S0})
	if err != nil {
		t.Fatal(err)
	}
	log.Fail(full)
	keys, err := a.Regenerate(t.Context(), by, other.Name, account.Key1)
	if !errors.Is(err, full) || keys != (account.Keys{}) {
		t.Errorf("keys that were regenerated without an audit: given %v, error %v", keys != (account.Keys{}), err)
	}
}
