package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// federated is a vault of another instance, which stands for Azure, as its vaults have names of Azure: its token
// service gives an application tokens for the assertions of an issuer that it trusts, for one subject.
type federated struct {
	*officer
	dir, listen string
	clientID    string // of the application
	objectID    visage.PrincipalID
	from        issuer
}

const principalsPath = "/providers/Visage.Identity/servicePrincipals"

func newFederated(t *testing.T) *federated {
	t.Helper()
	f := &federated{dir: filepath.Join(t.TempDir(), "azure"), listen: "127.0.0.1:0"}
	f.start(t, server.Config{})
	f.listen = f.Addr().String() // also after trust
	f.vault(t, "safe", "local", true, "")
	app := f.Manage(t, http.MethodPost, principalsPath, map[string]any{"displayName": "visage"})
	f.clientID, _ = app["appId"].(string)
	id, _ := app["objectId"].(string)
	f.objectID = visage.PrincipalID(id)
	return f
}

func (f *federated) start(t *testing.T, cfg server.Config) {
	t.Helper()
	cfg.Dir, cfg.Listen, cfg.PublicURL = f.dir, f.listen, "https://azure.net"
	f.officer = &officer{Server: servertest.Start(t, cfg)}
	f.keys = vaultClient(t, f.Server, "safe")
}

func (f *federated) describe(*testing.T) stores.Store {
	at := "https://" + f.Addr().String()
	return stores.Store{Address: "https://safe.vault.azure.net", Endpoint: at, LoginEndpoint: at,
		CAFile: f.Operator().CAFile,
		Login:  stores.Login{Method: "federated", Tenant: f.Operator().TenantID, ClientID: f.clientID}}
}

// trust starts the instance anew, since the issuers that it trusts are settings.
func (f *federated) trust(t *testing.T, of issuer) {
	t.Helper()
	f.from = of
	ca := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(ca, []byte(of.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(); err != nil {
		t.Fatal(err)
	}
	f.start(t, server.Config{TrustedIssuers: []string{of.URL + "=" + azure.FederatedAudience}, IssuerCAFile: ca})
}

func (f *federated) makeKey(t *testing.T, name string) string { return f.key(t, name).Name }

// grant gives the application a federated credential for one identity, and rights in the vault.
func (f *federated) grant(t *testing.T, who visage.PrincipalID, _ ...string) {
	t.Helper()
	f.Manage(t, http.MethodPut, principalsPath+"/"+string(f.objectID)+"/federatedSubjects", map[string]any{
		"value": []map[string]any{{"issuer": f.from.URL, "subject": string(who)}}})
	f.vault(t, "safe", "local", true, f.objectID)
}

func (f *federated) revoke(t *testing.T, _ string) { f.vault(t, "safe", "local", true, "") }

func (f *federated) rotate(t *testing.T, key string) string {
	t.Helper()
	made, err := f.keys.CreateKey(t.Context(), key, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.Key.KID.Version()
}

func TestFederated(t *testing.T) { walkArticle(t, newFederated(t)) }

func TestFederatedOfOthers(t *testing.T) { walkOthers(t, newFederated(t)) }

func TestFederatedTheft(t *testing.T) { walkTheft(t, newFederated(t)) }

// TestFederatedRefusals holds that vaults which are not configured cannot be named, and that nobody logs in without a
// federated credential.
func TestFederatedRefusals(t *testing.T) {
	store := newFederated(t)
	s := newStoreWalk(t, store)
	faces := store.makeKey(t, "faces")
	store.grant(t, s.who, faces)
	elsewhere := *s
	elsewhere.address = strings.Replace(s.address, "https://safe.", "https://other.", 1)
	if says := elsewhere.protect(t, "vip", faces, ""); !strings.Contains(says, "cannot use the vault") {
		t.Errorf("a vault that is not configured: %q", says)
	}
	store.Manage(t, http.MethodPut, principalsPath+"/"+string(store.objectID)+"/federatedSubjects",
		map[string]any{"value": []any{}})
	if says := s.protect(t, "vip", faces, ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("without a federated credential: %q", says)
	}
	store.grant(t, s.who, faces)
	if says := s.protect(t, "vip", faces, ""); says != "" {
		t.Errorf("with it: %q", says)
	}
}
