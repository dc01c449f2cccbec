package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// door is a request of one plane, to try spellings on.
type door struct {
	name, method, address, token, key, body string
}

// send makes the request with another body, and returns the status and the answer.
func (d door) send(t *testing.T, s *servertest.Server, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), d.method, d.address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if d.key != "" {
		req.Header.Set("Ocp-Apim-Subscription-Key", d.key)
	}
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// doors are one for each plane that takes JSON.
func doors(t *testing.T, o *officer) []door {
	t.Helper()
	op := o.Operator()
	management := o.Token(t, "https://management.azure.com/")
	vault := o.Token(t, "https://vault.faces.example.org")
	account := o.URL + "/subscriptions/" + strings.ToUpper(op.SubscriptionID) +
		"/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"
	return []door{
		{"face", http.MethodPut, o.URL + "/face/v1.2/persongroups/spelled", "", o.Key, `{"name":"Größe"}`},
		{"management", http.MethodPut, account + "spelled?api-version=2025-09-01", management, "",
			`{"kind":"Face","sku":{"name":"S0"},"location":"local"}`},
		{"vault", http.MethodPost, "https://safe.vault.faces.example.org/keys/spelled/create?api-version=7.5", vault,
			"", `{"kty":"EC","crv":"P-256"}`},
		{"directory", http.MethodPost, o.URL + "/v1.0/directoryObjects/getByIds", o.Token(t, o.URL), "",
			`{"ids":["` + strings.ToUpper(op.ClientID) + `"]}`},
	}
}

// TestBodiesWithAByteOrderMark checks on every plane that JSON may begin with the byte order mark of UTF-8, and that
// the refusal of another encoding names it.
func TestBodiesWithAByteOrderMark(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000})
	for _, d := range doors(t, o) {
		if status, answer := d.send(t, o.Server, "\ufeff"+d.body); status >= 300 {
			t.Errorf("%s: with the mark of UTF-8: %d %s", d.name, status, answer)
		}
		var wide strings.Builder
		for _, unit := range utf16.Encode([]rune(d.body)) {
			wide.Write([]byte{byte(unit), byte(unit >> 8)})
		}
		for _, mark := range []string{"", "\xff\xfe"} {
			status, answer := d.send(t, o.Server, mark+wide.String())
			if status != http.StatusBadRequest || !strings.Contains(answer, "UTF-16") {
				t.Errorf("%s: in UTF-16 with mark %q: %d %s", d.name, mark, status, answer)
			}
		}
	}
}

// TestVersionsOfContracts accepts every spelling of a version on the planes that require one, and refuses invalid ones.
func TestVersionsOfContracts(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000})
	op := o.Operator()
	management, vault := o.Token(t, "https://management.azure.com/"), o.Token(t, "https://vault.faces.example.org")
	for _, d := range []struct{ address, token, code, missing string }{
		{o.URL + "/subscriptions/" + op.SubscriptionID + "/resourceGroups", management, "InvalidApiVersionParameter",
			"MissingApiVersionParameter"},
		{"https://safe.vault.faces.example.org/keys", vault, "BadParameter", "BadParameter"},
		{o.URL + "/common/discovery/instance", "", "invalid_request", ""},
	} {
		for _, version := range []string{"2025-09-01", "2016-10-01", "2025-06-01-preview", "2025-06-01-Preview.2",
			"7.0", "7.6-preview.1", "1.1"} {
			if status, _, body := get(t, o.Server, http.MethodGet, d.address+"?api-version="+version, d.token,
				""); status != http.StatusOK {
				t.Errorf("%s, version %s: %d %s", d.address, version, status, body)
			}
		}
		for _, version := range []string{"2025-02-30", "7", "latest", "2025-09-01-beta", "7.6-preview."} {
			status, _, body := get(t, o.Server, http.MethodGet, d.address+"?API-Version="+version, d.token, "")
			if status != http.StatusBadRequest || !strings.Contains(body, `"`+d.code+`"`) {
				t.Errorf("%s, version %s: %d %s, want 400 %s", d.address, version, status, body, d.code)
			}
		}
		if status, _, body := get(t, o.Server, http.MethodGet, d.address, d.token, ""); d.missing != "" &&
			(status != http.StatusBadRequest || !strings.Contains(body, d.missing)) {
			t.Errorf("%s without a version: %d %s, want 400 %s", d.address, status, body, d.missing)
		}
	}
}

// TestUpperCaseUUIDs uses every id of the Face API in upper case, as some platforms write UUIDs, and gets lower case.
func TestUpperCaseUUIDs(t *testing.T) {
	s := servertest.Start(t, server.Config{Rate: 1000})
	base := s.URL + "/face/v1.2"
	send := func(method, path, body string, into any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Ocp-Apim-Subscription-Key", s.Key)
		req.Header.Set("Content-Type", "application/json")
		if strings.HasPrefix(body, "\x89PNG") {
			req.Header.Set("Content-Type", "application/octet-stream")
		}
		res, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 {
			t.Fatalf("%s %s %.200s: %d %s (%v)", method, path, body, res.StatusCode, raw, err)
		}
		text := string(raw)
		for name, id := range ids(raw) {
			if id != strings.ToLower(id) {
				t.Errorf("%s %s answers %s in upper case: %s", method, path, name, text)
			}
		}
		if into == nil {
			return
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatalf("%s %s: %s: %v", method, path, text, err)
		}
	}
	up := strings.ToUpper
	var faces []struct{ FaceID string }
	send("POST", "/detect?recognitionModel=recognition_04", string(servertest.Photo(1, "ada", "bea")), &faces)
	a, b := up(faces[0].FaceID), up(faces[1].FaceID)
	send("POST", "/verify", `{"faceId1":"`+a+`","faceId2":"`+b+`"}`, nil)
	send("POST", "/group", `{"faceIds":["`+a+`","`+b+`"]}`, nil)
	send("POST", "/findsimilars", `{"faceId":"`+a+`","faceIds":["`+a+`","`+b+`"]}`, nil)
	for _, family := range []string{"persongroups", "largepersongroups"} {
		id := strings.TrimSuffix(family, "s")
		id = map[string]string{"persongroup": "personGroupId", "largepersongroup": "largePersonGroupId"}[id]
		send("PUT", "/"+family+"/g", `{"name":"g","recognitionModel":"recognition_04"}`, nil)
		var person struct{ PersonID string }
		send("POST", "/"+family+"/g/persons", `{"name":"ada"}`, &person)
		at := "/" + family + "/g/persons/" + up(person.PersonID)
		var added struct{ PersistedFaceID string }
		send("POST", at+"/persistedfaces", string(servertest.Photo(2, "ada")), &added)
		item := at + "/persistedfaces/" + up(added.PersistedFaceID)
		send("PATCH", at, `{"name":"Ada"}`, nil)
		send("GET", at, "", nil)
		send("PATCH", item, `{"userData":"x"}`, nil)
		send("GET", item, "", nil)
		var after []struct{ PersonID string }
		send("GET", "/"+family+"/g/persons?start="+up(person.PersonID), "", &after)
		if len(after) != 0 {
			t.Errorf("%s: the list goes on after %s with %+v", family, person.PersonID, after)
		}
		send("POST", "/verify", `{"faceId":"`+a+`","personId":"`+up(person.PersonID)+`","`+id+`":"g"}`, nil)
		send("POST", "/"+family+"/g/train", "", nil)
		for trained := (struct{ Status string }{}); trained.Status != "succeeded"; {
			send("GET", "/"+family+"/g/training", "", &trained)
		}
		var found []struct {
			FaceID     string
			Candidates []struct{ PersonID string }
		}
		send("POST", "/identify", `{"faceIds":["`+a+`"],"`+id+`":"g"}`, &found)
		if len(found) != 1 || found[0].FaceID != faces[0].FaceID || len(found[0].Candidates) != 1 {
			t.Errorf("%s: identified %+v", family, found)
		}
		send("DELETE", item, "", nil)
		send("DELETE", at, "", nil)
	}
	send("PUT", "/largefacelists/l", `{"name":"l","recognitionModel":"recognition_04"}`, nil)
	var added struct{ PersistedFaceID string }
	send("POST", "/largefacelists/l/persistedfaces", string(servertest.Photo(3, "ada")), &added)
	item := "/largefacelists/l/persistedfaces/" + up(added.PersistedFaceID)
	send("PATCH", item, `{"userData":"x"}`, nil)
	send("GET", item, "", nil)
	send("DELETE", item, "", nil)
}

// ids finds the ids in an answer, by the names of their fields.
func ids(raw []byte) map[string]string {
	found := map[string]string{}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				walk(k, inner)
			}
		case []any:
			for _, inner := range v {
				walk(name, inner)
			}
		case string:
			if len(v) == 36 {
				found[name] = v
			}
		}
	}
	var v any
	if json.Unmarshal(raw, &v) == nil {
		walk("", v)
	}
	return found
}

// TestManagementAndVaultsFoldUUIDs names subscriptions, tenants, identities and key versions in upper case.
func TestManagementAndVaultsFoldUUIDs(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000})
	op := o.Operator()
	up := strings.ToUpper
	management, vault := o.Token(t, "https://management.azure.com/"), o.Token(t, "https://vault.faces.example.org")
	in := o.URL + "/subscriptions/" + up(op.SubscriptionID) +
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/upper?api-version=2024-11-01"
	body := `{"location":"local","properties":{"tenantId":"` + up(op.TenantID) + `","sku":{"family":"A","name":"standard"},"accessPolicies":[
		{"tenantId":"` + up(op.TenantID) + `","objectId":"` + up(op.ClientID) + `","permissions":{"keys":["all"]}}]}}`
	status, _, answer := get(t, o.Server, http.MethodPut, in, management, body)
	if status != http.StatusCreated || !strings.Contains(answer, `"tenantId":"`+op.TenantID+`"`) ||
		!strings.Contains(answer, `"objectId":"`+op.ClientID+`"`) {
		t.Errorf("make a vault: %d %s", status, answer)
	}
	key := o.key(t, "k1")
	status, _, answer = get(t, o.Server, http.MethodGet, key.Vault+"/keys/k1/"+up(key.Version)+"?api-version=7.5",
		vault, "")
	if status != http.StatusOK || !strings.Contains(answer, key.String()) {
		t.Errorf("get a version: %d %s", status, answer)
	}
	assignment := "0F2B1C3D-4E5F-4A6B-8C7D-9E0F1A2B3C4D"
	role := "/subscriptions/" + up(op.SubscriptionID) + "/providers/Microsoft.Authorization/roleDefinitions/" +
		up("acdd72a7-3385-48ef-bd42-f606fba81ae7")
	at := o.URL + "/subscriptions/" + op.SubscriptionID + "/providers/Microsoft.Authorization/roleAssignments/" +
		assignment + "?api-version=2022-04-01"
	status, _, answer = get(t, o.Server, http.MethodPut, at, management,
		`{"properties":{"roleDefinitionId":"`+role+`","principalId":"`+up(op.ClientID)+`"}}`)
	if status != http.StatusCreated || !strings.Contains(answer, strings.ToLower(assignment)) ||
		!strings.Contains(answer, `"principalId":"`+op.ClientID+`"`) {
		t.Errorf("assign a role: %d %s", status, answer)
	}
	if status, _, answer := get(t, o.Server, http.MethodGet, at, management, ""); status != http.StatusOK {
		t.Errorf("get the assignment: %d %s", status, answer)
	}
}

// TestAddressesComeFromThePublicURL sends requests with an invented host, and gets addresses of this instance.
func TestAddressesComeFromThePublicURL(t *testing.T) {
	o := newOfficer(
		t, server.Config{PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000, AutoApprove: true},
	)
	if status, body, _ := o.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
		`{"name":"g"}`); status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	op := o.Operator()
	account := "/subscriptions/" + op.SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/vip?api-version=2025-09-01"
	status := arm(t, o.Server, http.MethodPut, account,
		`{"kind":"Face","sku":{"name":"E0"},"location":"local","identity":{"type":"SystemAssigned"}}`)
	if status != http.StatusCreated {
		t.Fatalf("make a resource: %d", status)
	}
	key := o.key(t, "k1")
	if _, who, err := o.Identify(t.Context(), "vip"); err != nil {
		t.Fatal(err)
	} else {
		o.vault(t, "safe", "local", true, who)
	}
	for _, c := range []struct{ method, path, header, body string }{
		{http.MethodPost, "/face/v1.2/persongroups/g/train", "Operation-Location", ""},
		{http.MethodPatch, account, "Azure-AsyncOperation", `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{
			"keyVaultUri":"` + key.Vault + `:443/","keyName":"k1","keyVersion":"` + strings.ToUpper(key.Version) + `"}}}}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, o.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example:8443"
		req.Header.Set("X-Forwarded-Host", "evil.example")
		req.Header.Set("X-Forwarded-Proto", "http")
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Ocp-Apim-Subscription-Key", o.Key)
		if c.header == "Azure-AsyncOperation" {
			req.Header.Set("Authorization", "Bearer "+o.Token(t, "https://management.azure.com/"))
		}
		res, err := o.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get(c.header); !strings.HasPrefix(got, "https://faces.example.org/") {
			t.Errorf("%s %s: %d %s: %s is %q", c.method, c.path, res.StatusCode, raw, c.header, got)
		}
	}
}

// TestFormsWithAByteOrderMark signs in with a form that begins with the byte order mark of UTF-8.
func TestFormsWithAByteOrderMark(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	op := s.Operator()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {op.ClientID},
		"client_secret": {op.ClientSecret}, "scope": {s.URL + "/.default"}}
	res, err := s.Client.Post(s.URL+"/"+op.TenantID+"/oauth2/v2.0/token", "application/x-www-form-urlencoded",
		strings.NewReader("\ufeff"+form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("got %d, want 200", res.StatusCode)
	}
}
