package requirements_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// servedInstance is a real server; its operator is the customer as well.
type servedInstance struct {
	*testing.T
	*servertest.Server
	dir    string
	tokens map[string]string
}

func newServer(t *testing.T, cfg server.Config) *servedInstance {
	t.Helper()
	cfg.Dir, cfg.Rate = filepath.Join(t.TempDir(), "visage"), 100_000
	return &servedInstance{t, servertest.Start(t, cfg), cfg.Dir, map[string]string{}}
}

// in is the same servedInstance for a subtest.
func (w *servedInstance) in(t *testing.T) *servedInstance {
	return &servedInstance{t, w.Server, w.dir, w.tokens}
}

func (w *servedInstance) token(audience string) string {
	w.Helper()
	if w.tokens[audience] == "" {
		w.tokens[audience] = w.Token(w.T, audience)
	}
	return w.tokens[audience]
}

// answer is the answer to a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// at returns the value at a path of names in the JSON of an answer; nil if there is none.
func (a answer) at(path string) any {
	var v any
	if json.Unmarshal(a.body, &v) != nil {
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (a answer) text(path string) string {
	s, _ := a.at(path).(string)
	return s
}

func (w *servedInstance) send(method, address, host, bearer, key string, body any) answer {
	w.Helper()
	kind, content := "application/json", []byte{}
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	case []byte:
		kind, content = "application/octet-stream", b
	}
	req, err := http.NewRequestWithContext(w.Context(), method, address, bytes.NewReader(content))
	if err != nil {
		w.Fatal(err)
	}
	req.Host = host
	if len(content) > 0 {
		req.Header.Set("Content-Type", kind)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if key != "" {
		req.Header.Set("Ocp-Apim-Subscription-Key", key)
	}
	res, err := w.Client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b}
}

// arm makes a request of the management plane, below the subscription.
func (w *servedInstance) arm(method, path, body string) answer {
	w.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return w.send(method, w.URL+"/subscriptions/"+w.Operator().SubscriptionID+path+separator+"api-version=2025-09-01",
		"",
		w.token("https://management.azure.com"), "", body)
}

func account(name string) string {
	return "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/" + name
}

func vault(name string) string {
	return "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/" + name
}

// want fails the test when an answer has another status or, for refusals, another code.
func (w *servedInstance) want(a answer, status int, code string) answer {
	w.Helper()
	got := a.text("error.code")
	if a.status != status || code != "" && got != code {
		w.Fatalf("got %d %s, want %d %s: %s", a.status, got, status, code, a.body)
	}
	return a
}

// create makes a Face resource.
func (w *servedInstance) create(name, tier string) answer {
	w.Helper()
	return w.arm("PUT", account(name), `{"kind":"Face","location":"West US 2","sku":{"name":"`+tier+
		`"},"properties":{}}`)
}

// createWithIdentity creates an E0 resource with a system-assigned identity, and returns the identity's object id.
func (w *servedInstance) createWithIdentity(name string) string {
	w.Helper()
	made := w.want(
		w.arm(
			"PUT", account(name),
			`{"kind":"Face","location":"West US 2","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`,
		), 201, "",
	)
	return made.text("identity.principalId")
}

// makeVault creates a vault in which the operator has all permissions, and who the given ones.
func (w *servedInstance) makeVault(name, location, more, who string, permissions ...string) answer {
	w.Helper()
	tenant := w.Operator().TenantID
	entry := func(id string, keys []string) string {
		quoted, _ := json.Marshal(keys)
		return fmt.Sprintf(`{"tenantId":%q,"objectId":%q,"permissions":{"keys":%s}}`, tenant, id, quoted)
	}
	policies := entry(w.Operator().ClientID, []string{"all", "purge", "rotate"})
	if who != "" {
		policies += "," + entry(who, permissions)
	}
	return w.arm("PUT", vault(name),
		fmt.Sprintf(
			`{"location":%q,"properties":{"tenantId":%q,"sku":{"family":"A","name":"premium"},"accessPolicies":[%s]%s}}`,
			location, tenant, policies, more))
}

const protected = `,"enablePurgeProtection":true`

// keyOf makes a request of a vault without a DNS lookup of its host.
func (w *servedInstance) keyOf(vault, method, path, body string) answer {
	w.Helper()
	domain := "vault." + strings.TrimPrefix(w.URL, "https://")
	return w.send(method, w.URL+path+"?api-version=7.5", vault+"."+domain, w.token("https://"+domain), "", body)
}

// makeKey creates a key and returns its version.
func (w *servedInstance) makeKey(vault, name, body string) string {
	w.Helper()
	kid := w.want(w.keyOf(vault, "POST", "/keys/"+name+"/create", body), 200, "").text("key.kid")
	return kid[strings.LastIndex(kid, "/")+1:]
}

const rsa2048 = `{"kty":"RSA","key_size":2048}`

func (w *servedInstance) vaultURI(vault string) string {
	return "https://" + vault + ".vault." + strings.TrimPrefix(w.URL, "https://") + "/"
}

// keySettings is the body of a PATCH that encrypts a resource with a key.
func (w *servedInstance) keySettings(vault, key, version, more string) string {
	return fmt.Sprintf(
		`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":%q,"keyName":%q,"keyVersion":%q}%s}}}`,
		w.vaultURI(vault), key, version, more)
}

const serviceKeys = `{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`

// encrypt changes the key of a resource, waits for the end, and returns the resource.
func (w *servedInstance) encrypt(name, body string) answer {
	w.Helper()
	a := w.arm("PATCH", account(name), body)
	if a.status != 200 && a.status != 202 {
		w.Fatalf("PATCH %s: %d %s", name, a.status, a.body)
	}
	until := time.Now().Add(time.Minute)
	for a.text("properties.provisioningState") == "Accepted" && time.Now().Before(until) {
		a = w.want(w.arm("GET", account(name), ""), 200, "")
	}
	progress := a.text("properties.encryption.status.operation.progress")
	if a.text("properties.provisioningState") != "Succeeded" || progress == "failed" {
		w.Fatalf("the change of %s ended as %s", name, a.body)
	}
	return a
}

// allow enables or disables a version of a key; an empty one is the newest.
func (w *servedInstance) allow(vault, key, version string, on bool) {
	w.Helper()
	w.want(w.keyOf(vault, "PATCH", "/keys/"+key+"/"+version, fmt.Sprintf(`{"attributes":{"enabled":%t}}`, on)), 200, "")
}

// app is an application that uses a Face resource.
type app struct {
	*servedInstance
	key string
}

func (w *servedInstance) app(name string) app {
	w.Helper()
	return app{w, w.want(w.arm("POST", account(name)+"/listKeys", ""), 200, "").text("key1")}
}

func (a app) face(method, path string, body any) answer {
	a.Helper()
	return a.send(method, a.URL+"/face/"+path, "", "", a.key, body)
}

// secrets are an application's stored data, which must not be readable on disk.
var secrets = []string{"Confidentia Nameworthy", "user data of Confidentia, room 4711", "the confidential guest list"}

// enrol stores a person, and trains.
func (a app) enrol() {
	a.Helper()
	a.want(
		a.face("PUT", "v1.2/persongroups/guests",
			fmt.Sprintf(`{"name":%q,"recognitionModel":"recognition_04"}`, secrets[2])), 200, "",
	)
	person := a.want(
		a.face("POST", "v1.2/persongroups/guests/persons",
			fmt.Sprintf(`{"name":%q,"userData":%q}`, secrets[0], secrets[1])), 200, "",
	).text("personId")
	a.want(
		a.face("POST", "v1.2/persongroups/guests/persons/"+person+"/persistedfaces",
			servertest.Photo(1, "confidentia")), 200, "",
	)
	a.want(a.face("POST", "v1.2/persongroups/guests/train", nil), 202, "")
	look := time.NewTicker(100 * time.Millisecond) // tier F0 has a low rate
	defer look.Stop()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); <-look.C {
		if a.face("GET", "v1.2/persongroups/guests/training", nil).text("status") == "succeeded" {
			return
		}
	}
	a.Fatal("the training did not end in time")
}

// recognises reports whether the person is identified, and returns the answer if not.
func (a app) recognises() (bool, answer) {
	a.Helper()
	found := a.face("POST", "v1.2/detect?recognitionModel=recognition_04", servertest.Photo(2, "confidentia"))
	var faces []struct{ FaceID string }
	if found.status != 200 || json.Unmarshal(found.body, &faces) != nil || len(faces) != 1 {
		return false, found
	}
	said := a.face("POST", "v1.2/identify", fmt.Sprintf(`{"personGroupId":"guests","faceIds":[%q]}`, faces[0].FaceID))
	var candidates []struct{ Candidates []struct{ PersonID string } }
	return said.status == 200 && json.Unmarshal(said.body, &candidates) == nil && len(candidates) == 1 &&
		len(candidates[0].Candidates) == 1, said
}

// wantOpen waits until the person is recognised again; it fails after a minute, the promised limit.
func (a app) wantOpen() {
	a.Helper()
	var said answer
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		ok, got := a.recognises()
		if ok {
			return
		}
		said = got
	}
	a.Fatalf("the data is not available: %d %s", said.status, said.body)
}

// wantClosed waits until the data is refused with the documented code.
func (a app) wantClosed() {
	a.Helper()
	var said answer
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		_, said = a.recognises()
		if said.status == 403 && said.text("error.code") == "EncryptionKeyRevoked" {
			return
		}
	}
	a.Fatalf("the data is available: %d %s", said.status, said.body)
}

// readable returns which of the secrets can be read in a file below dir, in any form in which they could be written.
func readable(t *testing.T, dir string, secrets ...string) (found []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			wide := make([]byte, 0, 2*len(s))
			for _, c := range []byte(s) {
				wide = append(wide, c, 0)
			}
			for _, form := range [][]byte{
				[]byte(s), wide, []byte(hex.EncodeToString([]byte(s))),
				[]byte(base64.RawStdEncoding.EncodeToString([]byte(s))[:len(s)]), []byte(strings.ToLower(s)),
			} {
				if bytes.Contains(b, form) || strings.Contains(d.Name(), s) {
					found = append(found, s+" in "+path)
				}
			}
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files in %s: %v", files, dir, err)
	}
	return found
}
