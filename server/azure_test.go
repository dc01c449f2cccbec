package server_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// shared is a vault of Azure that all resources of a server use as one application, which the server's settings name.
type shared struct {
	*federated
	secret string // file of the application's secret
	dir    string // of the server
}

func newShared(t *testing.T) *shared {
	t.Helper()
	f := newFederated(t)
	app := f.Manage(t, http.MethodPost, principalsPath, map[string]any{"displayName": "visage of everybody"})
	secret, _ := app["password"].(string)
	who, _ := app["objectId"].(string)
	f.clientID, _ = app["appId"].(string)
	f.vault(t, "safe", "local", true, visage.PrincipalID(who))
	s := &shared{f, filepath.Join(t.TempDir(), "secret"), filepath.Join(t.TempDir(), "visage")}
	if err := os.WriteFile(s.secret, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// settings are those of a server whose resources may use the application, if the list has them.
func (s *shared) settings(t *testing.T, resources ...string) server.Config {
	t.Helper()
	ca, err := os.ReadFile(s.Operator().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return server.TowardsAzure(server.Config{Dir: s.dir, Rate: 1000, AutoApprove: true,
		AzureTenant: s.Operator().TenantID, AzureClient: s.clientID, AzureSecretFile: s.secret,
		AzureResources: resources}, s.Addr().String(), roots)
}

// serve starts the server with these settings, or starts it anew.
func (s *shared) serve(t *testing.T, before *storeWalk, cfg server.Config) *storeWalk {
	t.Helper()
	if before != nil {
		if err := before.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	w := &storeWalk{officer: &officer{Server: servertest.Start(t, cfg)}, address: "https://safe.vault.azure.net"}
	if before == nil {
		w.resource(t, "vip")
		w.resource(t, "other")
	}
	w.know(t)
	return w
}

// TestOneApplicationServesNamedResources: where all resources use vaults of Azure as one application, a resource that
// the operator has not named reaches no key of another, and one that has a key already keeps that one alone.
func TestOneApplicationServesNamedResources(t *testing.T) {
	azure := newShared(t)
	faces, next := azure.makeKey(t, "faces"), azure.makeKey(t, "next")
	refused := func(w *storeWalk, what, account, key string) {
		t.Helper()
		if says := w.protect(t, account, key, ""); !strings.HasPrefix(says, "KeyStoreNotPermitted") ||
			!strings.Contains(says, "accounts/"+account) || !strings.Contains(says, "azure-resources") {
			t.Errorf("%s: %q", what, says)
		}
	}

	var log bytes.Buffer
	unnamed := azure.settings(t)
	unnamed.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w := azure.serve(t, nil, unnamed)
	const page = "in Azure keep it, and no other key is accepted"
	if p := w.Browser(t, "").Get("/console/stores"); !strings.Contains(p.Body, page) {
		t.Errorf("the page of key stores does not say that the settings name nobody: %s", p.Body)
	}
	refused(w, "settings that name nobody", "vip", faces)
	vip := "/subscriptions/" + w.Operator().SubscriptionID + accountPath + "vip"

	w = azure.serve(t, w, azure.settings(t, vip))
	if !strings.Contains(log.String(), "azure-resources does not list") { // the server has ended
		t.Errorf("the log of a server whose settings name nobody: %s", &log)
	}
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	refused(w, "the key of another resource", "other", faces)
	refused(w, "a key of nobody", "other", next)
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	found, err := w.Accounts().CheckProtection(t.Context(), by, "other", account.Protection{Customer: true,
		VaultURI: w.address, KeyName: faces})
	if f, unmet := found.FirstUnmet(); err != nil || !unmet || f.Precondition != custody.VaultKnown ||
		f.Refusal.Code != "KeyStoreNotPermitted" {
		t.Errorf("checked before: %+v, %v", f, err)
	}
	space, other, err := w.Identify(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Custody().Enable(t.Context(), space, visage.KeyRef{Vault: w.address, Name: faces}, other)
	if refusal, _ := errors.AsType[*visage.Refusal](err); refusal == nil || refusal.Code != "KeyStoreNotPermitted" {
		t.Errorf("past the check of the management plane: %v", err)
	}

	w = azure.serve(t, w, azure.settings(t))
	w.until(t, "the active key without a list", active)
	if status, body, _ := w.groups(t); status != http.StatusOK {
		t.Errorf("the data without a list: %d %s", status, body)
	}
	if listed := w.Manage(t, http.MethodGet, "/providers/Visage.Operations/keyStores", nil); fmt.Sprint(
		listed["azureApplication"]) != fmt.Sprint(map[string]any{"tenant": azure.Operator().TenantID,
		"clientId": azure.clientID, "resources": []any{}}) {
		t.Errorf("the list of key stores: %v", listed)
	}
	version := azure.rotate(t, faces)
	if says := w.protect(t, "vip", faces, version); says != "" {
		t.Errorf("another version of the key, without a list: %s", says)
	}
	refused(w, "another key, without a list", "vip", next)
	refused(w, "another resource, without a list", "other", faces)

	// A resource without an identity reaches no key, though the application would.
	if status, body := w.armed(t, http.MethodPatch, "vip", `{"identity":{"type":"None"}}`); status/100 != 2 {
		t.Fatalf("remove the identity: %d %s", status, body)
	}
	w.until(t, "the lock without an identity", func(s custody.Status) bool { return s.Condition == custody.Revoked })
}

// TestLeftOutResourceIsServedNoMore: a resource that is left out of the list closes, as the rule for stores is, without
// its key being asked.
func TestLeftOutResourceIsServedNoMore(t *testing.T) {
	azure := newShared(t)
	faces := azure.makeKey(t, "faces")
	w := azure.serve(t, nil, azure.settings(t, stores.Everybody))
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	w = azure.serve(t, w, azure.settings(t, "/subscriptions/"+w.Operator().SubscriptionID+accountPath+"other"))
	w.until(t, "a poll without an answer", func(s custody.Status) bool {
		return s.Condition == custody.Unavailable && len(s.Stores) == 1 && s.Stores[0].Silent()
	})
	if code, body, _ := w.groups(t); code == http.StatusOK {
		t.Errorf("the data: %d %s", code, body)
	}
}

// TestAzureResources holds which lists the setting has.
func TestAzureResources(t *testing.T) {
	app := server.Config{AzureTenant: "contoso.example", AzureClient: "x", AzureSecretFile: "/s"}
	const one = "/subscriptions/0f00c31a-9aa7-41cd-a6aa-b60cbd57f2b4"
	for says, cfg := range map[string]server.Config{
		"or leave the list out":                      {AzureResources: []string{stores.Everybody}},
		"set all three, or none":                     {AzureTenant: "contoso.example"},
		"beside others":                              with(app, stores.Everybody, one),
		"azure-resources: the list has management":   with(app, "vip"),
		"paths of subscriptions, resource groups or": with(app, one+"/"),
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", cfg.AzureResources, err)
		}
	}
	if err := with(app, one).Validate(); err != nil {
		t.Error(err)
	}
}

// with returns settings with these resources for the application in Azure.
func with(cfg server.Config, resources ...string) server.Config {
	cfg.AzureResources = resources
	return cfg
}

// TestVaultThatCannotBeUsed: a described vault whose file is gone is not reached as the application of the settings,
// which has no rights there, or has rights that the description leaves out.
func TestVaultThatCannotBeUsed(t *testing.T) {
	azure := newShared(t)
	faces := azure.makeKey(t, "faces")
	w := azure.serve(t, nil, azure.settings(t, "*"))
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	pem, err := os.ReadFile(azure.Operator().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(w.Dir(), "keystores", "azure.pem")
	if err := os.WriteFile(ca, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.KeyStores().Add(t.Context(), by, stores.Store{
		Address: w.address, Endpoint: "https://" + azure.Addr().String(),
		LoginEndpoint: "https://" + azure.Addr().String(), CAFile: ca,
		Login: stores.Login{Method: "federated", Tenant: azure.Operator().TenantID, ClientID: azure.clientID},
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	w = azure.serve(t, w, azure.settings(t, "*"))
	if says := w.protect(t, "vip", faces, ""); !strings.HasPrefix(says, "KeyStoreNotUsable") {
		t.Errorf("a key in a vault that cannot be used: %q", says)
	}
	space, vip, err := w.Identify(t.Context(), "vip")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Custody().Enable(t.Context(), space, visage.KeyRef{Vault: w.address, Name: faces}, vip)
	if refusal, _ := errors.AsType[*visage.Refusal](err); refusal == nil || refusal.Code != "KeyStoreNotUsable" {
		t.Errorf("past the check of the management plane: %v", err)
	}
}
