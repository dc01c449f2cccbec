package server_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// replicas starts two servers over one store, behind one address.
func replicas(t *testing.T) (a, b *officer) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "root")
	start := func() *officer {
		return &officer{Server: servertest.Start(t, server.Config{
			Engine: "memory:" + t.Name(), Shared: true, RootKeys: []string{"file:" + keys},
			PublicURL: "https://visage.example", AutoApprove: true,
		})}
	}
	a, b = start(), start()
	if one, two := a.Operator(), b.Operator(); one.ClientSecret != two.ClientSecret || one.TenantID != two.TenantID {
		t.Fatal("the replicas have operators of their own")
	}
	return a, b
}

// soon waits for what a replica does after another one.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	waiting, forget := servertest.Patience(t)
	defer forget()
	for !is() {
		select {
		case <-waiting.Done():
			t.Fatalf("%s did not happen in time", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestOperatorsSecretIsRenewed: when the secret in operator.json was removed, each server over the store has the same
// new one in its file. Other secrets of the operator, such as that of a pipeline, stay until somebody removes them.
func TestOperatorsSecretIsRenewed(t *testing.T) {
	a, b := replicas(t)
	former := a.Operator()
	p, err := a.Directory().Principal(former.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	added, pipeline, err := a.Directory().AddSecret(t.Context(), p.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range p.Secrets {
		if err := a.Directory().RemoveSecret(t.Context(), p.ID, old.ID); err != nil {
			t.Fatal(err)
		}
	}
	soon(t, "the same new secret at both servers", func() bool {
		one, two := a.Operator().ClientSecret, b.Operator().ClientSecret
		return one == two && one != former.ClientSecret && a.Directory().HasSecret(p.ID, one) &&
			b.Directory().HasSecret(p.ID, one)
	})
	for _, s := range []*officer{a, b} {
		on, err := server.ReadOperator(filepath.Join(s.Dir(), server.OperatorFile))
		if err != nil || on != s.Operator() {
			t.Errorf("the file has %v of what the server has, %v", on == s.Operator(), err)
		}
		if s.Directory().HasSecret(p.ID, former.ClientSecret) {
			t.Error("the former secret is of use")
		}
		if !s.Directory().HasSecret(p.ID, pipeline) {
			t.Error("another secret of the operator is void")
		}
		if s.Token(t, managementPlane) == "" {
			t.Error("no token with the new secret")
		}
	}
	if err := a.Directory().RemoveSecret(t.Context(), p.ID, added.ID); err != nil {
		t.Errorf("the removal of the other secret: %v", err)
	}
	now, err := a.Directory().Principal(p.ID)
	if err != nil || len(now.Secrets) != 1 {
		t.Errorf("the operator has %d secrets, %v", len(now.Secrets), err)
	}
}

func TestReplicasHaveOneDirectory(t *testing.T) {
	a, b := replicas(t)
	ctx := t.Context()
	if status, body := detect(t, b.Server, a.Key); status != http.StatusOK {
		t.Fatalf("the key of one replica at the other: %d %s", status, body)
	}
	fresh, err := a.Accounts().Regenerate(ctx, visage.Caller{}, "default", account.Key1)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := detect(t, b.Server, fresh.Key1); status != http.StatusOK {
		t.Errorf("a key that the other replica has just made: %d %s", status, body)
	}
	soon(t, "the end of the former key", func() bool {
		status, _ := detect(t, b.Server, a.Key)
		return status == http.StatusUnauthorized
	})

	op := a.Operator()
	path := "/subscriptions/" + op.SubscriptionID + "/resourceGroups/default/providers/Microsoft.CognitiveServices/" +
		"accounts/default?api-version=2024-10-01"
	app, err := a.Directory().CreateApplication(ctx, identity.Creation{Tenant: op.TenantID, Name: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	role, err := a.Directory().Assign(ctx, "", app.ID, identity.Reader, "/subscriptions/"+op.SubscriptionID)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := a.Directory().Token(ctx, app.ID, "https://management.azure.com")
	if err != nil {
		t.Fatal(err)
	}
	read := func() int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := b.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	soon(t, "a token and a role of the other replica", func() bool { return read() == http.StatusOK })
	if err := a.Directory().Unassign(ctx, role.ID); err != nil {
		t.Fatal(err)
	}
	soon(t, "the end of the role", func() bool { return read() == http.StatusForbidden })

	store := stores.Store{Address: "awskms://eu-central-1/111122223333", Login: stores.Login{Method: "web-identity"}}
	added, err := a.KeyStores().Add(ctx, visage.Caller{}, store)
	if err != nil {
		t.Fatal(err)
	}
	known := func() bool { _, err := b.KeyStores().Find(added.ID); return err == nil }
	soon(t, "a key store of the other replica", known)
	if b.KeyStores().Set().Require(visage.KeyRef{Vault: added.Store.Address, Name: "k"}) != nil {
		t.Error("a key store of the other replica cannot be used")
	}
	if err := a.KeyStores().Remove(ctx, visage.Caller{}, added.ID); err != nil {
		t.Fatal(err)
	}
	soon(t, "the end of a key store", func() bool { return !known() })

	for _, o := range []*officer{a, b} {
		if report, err := o.VerifyAudit(ctx); err != nil || report.Entries == 0 {
			t.Errorf("the audit log of both: %+v, %v", report, err)
		}
	}
}

// TestReplicasLockTogether: a customer's key in a vault of the instance is disabled at one replica.
func TestReplicasLockTogether(t *testing.T) {
	a, b := replicas(t)
	a.identify(t)
	b.space, b.who = a.space, a.who
	a.vault(t, "safe", "local", true, a.who)
	a.keys = vaultClient(t, a.Server, "safe")
	key := a.key(t, "one")
	a.enable(t, key)
	open := func() bool {
		status, _, _ := b.groups(t)
		return status == http.StatusOK
	}
	soon(t, "the key at the other replica", open)
	a.allow(t, key, false)
	soon(t, "the lock at the other replica", func() bool {
		status, _, _ := b.groups(t)
		return status == http.StatusForbidden
	})
	b.until(t, "the state at the other replica", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	a.allow(t, key, true)
	soon(t, "the restoration at the other replica", open)
	if _, err := b.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}
