package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// officer is a server with a vault, a key and an identity for the default resource that may use it.
type officer struct {
	*servertest.Server
	keys  *azkeys.Client
	space sealed.SpaceID
	who   visage.PrincipalID
}

const vaultPath = "/subscriptions/%s/resourceGroups/default/providers/Microsoft.KeyVault/vaults/%s?api-version=2024-11-01"

func newOfficer(t *testing.T, cfg server.Config) *officer {
	t.Helper()
	o := &officer{Server: servertest.Start(t, cfg)}
	o.identify(t)
	o.vault(t, "safe", "local", true, o.who)
	o.keys = vaultClient(t, o.Server, "safe")
	return o
}

func (o *officer) identify(t *testing.T) {
	t.Helper()
	var err error
	if o.space, o.who, err = o.Identify(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
}

// vault creates a vault in which the operator has all permissions, and who those that custody needs.
func (o *officer) vault(t *testing.T, name, region string, protection bool, who visage.PrincipalID) {
	t.Helper()
	op := o.Operator()
	policies := `{"tenantId":"` + op.TenantID + `","objectId":"` + op.ClientID + `","permissions":{"keys":["all"]}}`
	if who != "" {
		policies += `,{"tenantId":"` + op.TenantID + `","objectId":"` + string(who) +
			`","permissions":{"keys":["get","wrapKey","unwrapKey"]}}`
	}
	protected := ""
	if protection {
		protected = `"enablePurgeProtection":true,`
	}
	body := `{"location":"` + region + `","properties":{"tenantId":"` + op.TenantID +
		`","sku":{"family":"A","name":"standard"},` + protected +
		`"accessPolicies":[` + policies + `]}}`
	status := arm(t, o.Server, http.MethodPut, fmt.Sprintf(vaultPath, op.SubscriptionID, name), body)
	if status != http.StatusCreated && status != http.StatusOK {
		t.Fatalf("make a vault: %d", status)
	}
}

func (o *officer) key(t *testing.T, name string) visage.KeyRef {
	t.Helper()
	made, err := o.keys.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := azure.ParseKey(string(*made.Key.KID), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (o *officer) enable(t *testing.T, key visage.KeyRef) {
	t.Helper()
	if _, err := o.Custody().Enable(t.Context(), o.space, key, o.who); err != nil {
		t.Fatal(err)
	}
	o.until(t, "the end of the change", func(s custody.Status) bool { return s.Operation.Progress != custody.Running })
}

func (o *officer) until(t *testing.T, what string, is func(custody.Status) bool) custody.Status {
	t.Helper()
	return o.within(t, 30*time.Second, time.Millisecond, what, is)
}

// within waits for a state, and looks once in every interval.
func (o *officer) within(
	t *testing.T, limit, interval time.Duration, what string, is func(custody.Status) bool,
) custody.Status {
	t.Helper()
	deadline := time.After(limit)
	for {
		s, err := o.Custody().Status(t.Context(), o.space)
		if err != nil {
			t.Fatal(err)
		}
		if is(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("%s did not happen in time: %+v", what, s)
		case <-time.After(interval):
		}
	}
}

// allow enables or disables the key.
func (o *officer) allow(t *testing.T, key visage.KeyRef, on bool) {
	t.Helper()
	_, err := o.keys.UpdateKey(t.Context(), key.Name, key.Version, azkeys.UpdateKeyParameters{
		KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(on)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// groups reads stored data on the data plane.
func (o *officer) groups(t *testing.T) (status int, body string, header http.Header) {
	t.Helper()
	return o.face(t, http.MethodGet, "/face/v1.2/persongroups", "")
}

func (o *officer) face(t *testing.T, method, path, body string) (status int, answer string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, o.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", o.Key)
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(body, "\x89PNG") {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	res, err := o.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw), res.Header
}

func (o *officer) page(t *testing.T, path string) string {
	t.Helper()
	res, err := o.Client.Get(o.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", path, res.StatusCode, err)
	}
	return string(raw)
}

// metric returns the value of a series of the server's metrics, which must be there.
func (o *officer) metric(t *testing.T, series string) float64 {
	t.Helper()
	page := o.page(t, "/metrics")
	_, rest, found := strings.Cut("\n"+page, "\n"+series+" ")
	text, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(text, 64)
	if !found || err != nil {
		t.Fatalf("no value of %s in\n%s", series, page)
	}
	return value
}

// TestCustomerKey covers the life of a customer's key in a vault of this instance, with the official client for keys on
// both sides: enabled, revoked, restored, across a restart, a new version followed, disabled.
func TestCustomerKey(t *testing.T) {
	o := newOfficer(t, server.Config{Rate: 1000})
	if status, body, _ := o.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
		`{"name":"g"}`); status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	key := o.key(t, "k1")
	unversioned := key
	unversioned.Version = ""
	o.enable(t, unversioned)
	if s := o.until(t, "the active key",
		func(s custody.Status) bool { return s.Condition == custody.Active }); s.Version != key.Version {
		t.Errorf("%+v", s)
	}

	o.allow(t, key, false)
	o.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if status, body, _ := o.groups(t); status != http.StatusForbidden ||
		!strings.Contains(body, "EncryptionKeyRevoked") {
		t.Errorf("while revoked: %d %s", status, body)
	}
	if page := o.page(t, "/readyz"); !strings.Contains(page, "resources revoked: 1") {
		t.Errorf("ready: %q", page)
	}
	if page := o.page(t, "/metrics"); !strings.Contains(page, `visage_custody_resources{state="revoked"} 1`) {
		t.Error("the metrics do not show the locked resource")
	}

	if err := o.Stop(); err != nil {
		t.Fatal(err)
	}
	o.Server = servertest.Start(t,
		server.Config{Rate: 1000, Dir: o.Dir(), Listen: strings.TrimPrefix(o.URL, "https://")})
	o.keys = vaultClient(t, o.Server, "safe")
	o.until(t, "the lock after a restart",
		func(s custody.Status) bool { return s.Condition == custody.Revoked && !s.NextCheck.IsZero() })
	o.allow(t, key, true)
	o.until(t, "the restoration", func(s custody.Status) bool { return s.Condition == custody.Active })
	if status, body, _ := o.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
		t.Errorf("restored: %d %s", status, body)
	}

	next := o.key(t, "k1") // another version
	o.until(t, "the end of the move to the new version", func(s custody.Status) bool {
		return s.Version == next.Version && s.Operation.Progress != custody.Running
	})
	o.allow(t, key, false) // the version before is not needed any more
	if _, err := o.Custody().Disable(t.Context(), o.space); err != nil {
		t.Fatal(err)
	}
	o.until(t, "the service's key", func(s custody.Status) bool { return s.Condition == custody.ServiceManaged })
	if status, body, _ := o.groups(t); status != http.StatusOK {
		t.Errorf("disabled: %d %s", status, body)
	}
}

// TestKeyPreconditions checks that unsuitable keys in a vault of this instance are refused in the order of the
// contract, and that nothing changes.
func TestKeyPreconditions(t *testing.T) {
	o := newOfficer(t, server.Config{AutoApprove: true})
	good := o.key(t, "k1")
	r := realm{o.Server, t}
	token := r.Token(t, managementPlane)
	made := r.call(201, "", token, "PUT", groupPath+"/vip",
		`{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	vip := visage.PrincipalID(made["identity"].(map[string]any)["principalId"].(string))
	o.vault(t, "safe", "local", true, vip)
	o.vault(t, "unprotected", "local", false, vip)
	o.vault(t, "elsewhere", "mars", true, vip)
	o.vault(t, "astray", "mars", false, vip)
	o.vault(t, "closed", "local", true, "")
	safe := good.Vault
	in := func(vault string) string { return strings.Replace(safe, "safe.", vault+".", 1) }
	for _, c := range []struct{ vault, key, code string }{
		{in("nowhere"), "k1", "KeyVaultNotFound"},
		{in("unprotected"), "k1", "KeyVaultPurgeProtectionRequired"},
		{in("elsewhere"), "k1", "KeyVaultRegionMismatch"},
		{in("astray"), "k1", "KeyVaultPurgeProtectionRequired"}, // checked before the region
		{in("closed"), "k1", "KeyVaultAccessDenied"},
		{safe, "k2", "KeyVaultKeyNotFound"},
		{"https://key.example.com", "k1", "InvalidKeyVaultProperties"},
		{"http://" + strings.TrimPrefix(safe, "https://"), "k1", "InvalidKeyVaultProperties"},
	} {
		r.call(400, c.code, token, "PATCH", groupPath+"/vip", fmt.Sprintf(
			`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":%q,"keyName":%q}}}}`, c.vault, c.key))
	}
	after := r.call(200, "", token, "GET", groupPath+"/vip", "")
	if e, found := after["properties"].(map[string]any)["encryption"]; found {
		t.Errorf("after refusals: %v", e)
	}
	if _, err := o.Custody().Enable(t.Context(), o.space, good, "22222222-2222-2222-2222-222222222222"); err == nil {
		t.Error("an identity that does not exist was accepted")
	}
	if s, err := o.Custody().Status(t.Context(), o.space); err != nil || s.Condition != custody.ServiceManaged {
		t.Errorf("after refusals: %+v, %v", s, err)
	}
	if bytes.Contains([]byte(o.page(t, "/readyz")), []byte("active")) {
		t.Error("a refused key is active")
	}

	// A vault elsewhere is not confused with the vault of this instance that has the key in use, whatever its name.
	var err error
	if o.space, o.who, err = o.Identify(t.Context(), "vip"); err != nil {
		t.Fatal(err)
	}
	o.enable(t, good)
	r.call(400, "InvalidKeyVaultProperties", token, "PATCH", groupPath+"/vip",
		`{"properties":{"encryption":{"keyVaultProperties":{`+
			`"keyVaultUri":"https://safe.vault.somewhere.example","keyName":"k1"}}}}`)
}

// TestAzureSettings checks that an application needs all its settings, and that only vaults are contacted, also with an
// application.
func TestAzureSettings(t *testing.T) {
	if err := (server.Config{AzureTenant: "contoso.example", AzureClient: "x"}).Validate(); err == nil {
		t.Error("an application without a secret was accepted")
	}
	o := newOfficer(
		t, server.Config{AzureTenant: "contoso.example", AzureClient: "x", AzureSecretFile: "/does/not/exist"},
	)
	_, err := o.Custody().Enable(t.Context(), o.space, visage.KeyRef{Vault: "https://contoso.example", Name: "k1"},
		o.who)
	if refusal, ok := errors.AsType[*visage.Refusal](err); !ok || refusal.Code != "InvalidKeyVaultProperties" {
		t.Errorf("a host that is no vault's: %v", err)
	}
}

// TestRevokedAtWork revokes and restores the key repeatedly while a group is trained and searched. Every request is
// answered completely, or refused because of the key; none that began after the lock is answered; and with the key
// restored all data is there.
func TestRevokedAtWork(t *testing.T) {
	o := newOfficer(t, server.Config{Rate: 100_000})
	const group = "/face/v1.2/persongroups/g"
	must := func(method, path, body string) string {
		t.Helper()
		status, answer, _ := o.face(t, method, path, body)
		if status/100 != 2 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return answer
	}
	must(http.MethodPut, group, `{"name":"g","recognitionModel":"recognition_04"}`)
	for i := range 5 {
		var made struct {
			PersonID string `json:"personId"`
		}
		if err := json.Unmarshal([]byte(must(http.MethodPost, group+"/persons", `{"name":"p"}`)), &made); err != nil {
			t.Fatal(err)
		}
		photo := string(servertest.Photo(i, fmt.Sprintf("person %d", i)))
		must(http.MethodPost, group+"/persons/"+made.PersonID+"/persistedfaces?detectionModel=detection_03", photo)
	}
	key := o.key(t, "k1")
	o.enable(t, key)
	identify := func() (status int, answer string) {
		status, found, _ := o.face(t, http.MethodPost,
			"/face/v1.2/detect?recognitionModel=recognition_04&detectionModel=detection_03",
			string(servertest.Photo(9, "person 3")))
		if status != http.StatusOK {
			return status, found
		}
		var faces []struct {
			FaceID string `json:"faceId"`
		}
		if err := json.Unmarshal([]byte(found), &faces); err != nil || len(faces) != 1 {
			t.Errorf("detect: %s", found)
			return 0, found
		}
		status, answer, _ = o.face(t, http.MethodPost, "/face/v1.2/identify",
			`{"faceIds":["`+faces[0].FaceID+`"],"personGroupId":"g"}`)
		return status, answer
	}
	trained := func() bool {
		status, answer, _ := o.face(t, http.MethodGet, group+"/training", "")
		return status == http.StatusOK && strings.Contains(answer, "succeeded")
	}
	must(http.MethodPost, group+"/train", "")
	for !trained() {
		<-time.After(time.Millisecond)
	}
	if status, answer := identify(); status != http.StatusOK || !strings.Contains(answer, "personId") {
		t.Fatalf("before: %d %s", status, answer)
	}

	var work sync.WaitGroup
	ended := make(chan struct{})
	for worker := range 3 {
		work.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				status, answer := 0, ""
				if worker == 0 {
					status, answer, _ = o.face(t, http.MethodPost, group+"/train", "")
				} else {
					status, answer = identify()
				}
				switch {
				case status/100 == 2:
				case status == http.StatusForbidden && strings.Contains(answer, "EncryptionKeyRevoked"):
				case strings.Contains(answer, "NotTrained"), strings.Contains(answer, "TrainingNotFinished"):
				default:
					t.Errorf("at work: %d %s", status, answer)
				}
			}
		})
	}
	var took []time.Duration
	for range 20 {
		start := time.Now()
		o.allow(t, key, false)
		for {
			status, _, _ := o.groups(t)
			if status == http.StatusForbidden {
				break
			}
		}
		took = append(took, time.Since(start))
		o.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		for range 3 {
			if status, answer := identify(); status != http.StatusForbidden ||
				!strings.Contains(answer, "EncryptionKeyRevoked") {
				t.Errorf("after the lock: %d %s", status, answer)
			}
		}
		o.allow(t, key, true)
		o.until(t, "the restoration", func(s custody.Status) bool { return s.Condition == custody.Active })
	}
	close(ended)
	work.Wait()
	slices.Sort(took)
	t.Logf("from disabling the key to the first 403: median %v, longest %v", took[len(took)/2], took[len(took)-1])

	for !trained() { // a training that a lock has interrupted continues and ends
		<-time.After(time.Millisecond)
	}
	must(http.MethodPost, group+"/train", "")
	for !trained() {
		<-time.After(time.Millisecond)
	}
	if status, answer := identify(); status != http.StatusOK || !strings.Contains(answer, "personId") {
		t.Errorf("afterwards: %d %s", status, answer)
	}
}
