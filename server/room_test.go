package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// smallVolume mounts a volume of the given MiB, which is removed after the test.
func smallVolume(t *testing.T, size int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "volume")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("mode=0700,size=%dm", size), "tmpfs", dir).
		CombinedOutput(); err != nil {
		t.Skipf("this system cannot mount a small volume: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// filled is a server on a small volume, filled through its own API.
type filled struct {
	*servertest.Server
	t       *testing.T
	persons []string // in the order of creation
	faceID  string   // of a face that was detected before
}

// face makes a request of the Face API with a body of JSON.
func (f *filled) face(method, path, body string) (status int, answer string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.URL+"/face/v1.2"+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", f.Key)
	req.Header.Set("Content-Type", "application/json")
	return f.do(req)
}

func (f *filled) do(req *http.Request) (status int, answer string) {
	f.t.Helper()
	res, err := f.Client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// want fails the test when an answer has another status, or lacks a text.
func (f *filled) want(when string, want int, text string, status int, answer string) {
	f.t.Helper()
	if status != want || !strings.Contains(answer, text) {
		f.t.Errorf("%s: %d %.300s, want %d and %q", when, status, answer, want, text)
	}
}

// fill adds persons until they have been refused for a second: the store compacts in the background, and then has room
// again for a while.
func (f *filled) fill() {
	f.t.Helper()
	body := fmt.Sprintf(`{"name":"somebody","userData":%q}`, strings.Repeat("x", 16<<10))
	var refused time.Time
	for len(f.persons) < 20_000 {
		status, answer := f.face(http.MethodPost, "/largepersongroups/g/persons", body)
		var made struct{ PersonID string }
		switch {
		case status == http.StatusOK && json.Unmarshal([]byte(answer), &made) == nil:
			f.persons, refused = append(f.persons, made.PersonID), time.Time{}
		case status != http.StatusInsufficientStorage:
			f.t.Fatalf("person %d: %d %s", len(f.persons), status, answer)
		case refused.IsZero():
			refused = time.Now()
		case time.Since(refused) > time.Second:
			f.t.Logf("%d persons; %s", len(f.persons), answer)
			return
		}
	}
	f.t.Fatal("the volume did not become full")
}

// serves checks what must still work on a full disk, and what must be refused.
func (f *filled) serves(when string) {
	f.t.Helper()
	last := f.persons[len(f.persons)-1]
	status, answer := f.face(http.MethodGet, "/largepersongroups/g/persons/"+last, "")
	f.want(when+": get a person", 200, last, status, answer)
	status, answer = f.face(http.MethodGet, "/largepersongroups/g/persons?top=5", "")
	f.want(when+": list persons", 200, "somebody", status, answer)
	status, answer = f.face(http.MethodPost, "/identify",
		fmt.Sprintf(`{"faceIds":[%q],"largePersonGroupId":"g"}`, f.faceID))
	f.want(when+": identify", 200, f.persons[0], status, answer)
	status, answer = f.face(http.MethodPost, "/verify", fmt.Sprintf(`{"faceId1":%q,"faceId2":%q}`, f.faceID, f.faceID))
	f.want(when+": verify", 200, `"isIdentical":true`, status, answer)
	status, answer = f.face(http.MethodGet, "/largepersongroups/g/training", "")
	f.want(when+": training", 200, "succeeded", status, answer)
	gone := f.persons[len(f.persons)/2]
	status, answer = f.face(http.MethodDelete, "/largepersongroups/g/persons/"+gone, "")
	f.want(when+": delete a person", 200, "", status, answer)
	status, answer = f.face(http.MethodGet, "/largepersongroups/g/persons/"+gone, "")
	f.want(when+": get a deleted person", 404, "PersonNotFound", status, answer)
	f.persons = append(f.persons[:len(f.persons)/2], f.persons[len(f.persons)/2+1:]...)
	o := f.Operator()
	accounts := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.CognitiveServices/accounts",
		o.SubscriptionID, o.ResourceGroup)
	status, answer = f.arm(http.MethodPost, accounts+"/default/listKeys", "")
	f.want(when+": list keys", 200, f.Key, status, answer)
	status, answer = f.arm(http.MethodPatch, accounts+"/default", `{"tags":{"full":"yes"}}`)
	f.want(when+": change tags", 200, "full", status, answer)
	status, answer = f.vault(http.MethodPost, "/keys/k/encrypt", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
	f.want(when+": encrypt", 200, "value", status, answer)
	status, answer = f.vault(http.MethodPatch, "/keys/k/", `{"attributes":{"enabled":false}}`)
	f.want(when+": disable a key", 200, `"enabled":false`, status, answer)
	status, answer = f.vault(http.MethodPatch, "/keys/k/", `{"attributes":{"enabled":true}}`)
	f.want(when+": enable a key", 200, `"enabled":true`, status, answer)
	status, answer = f.page("/healthz")
	f.want(when+": healthz", 200, "ok", status, answer)

	// New data is refused on every plane, in its own form.
	const told = "nearly full"
	status, answer = f.face(http.MethodPut, "/largepersongroups/other", `{"name":"other"}`)
	f.want(when+": make a group", 507, `"code":"InsufficientStorage"`, status, answer)
	f.want(when+": make a group", 507, told, status, answer)
	status, answer = f.face(http.MethodPatch, "/largepersongroups/g/persons/"+last, `{"name":"another"}`)
	f.want(when+": change a person", 507, told, status, answer)
	status, answer = detect(f.t, f.Server, f.Key)
	f.want(when+": keep a detected face", 507, told, status, answer)
	status, answer = call(f.t, f.Server, http.MethodPost, "/face/v1.2/detect?returnFaceId=false", f.Key,
		servertest.Photo(1, "ada"))
	f.want(when+": detect alone", 200, "faceRectangle", status, answer)
	status, answer = f.arm(http.MethodPut, accounts+"/second",
		`{"kind":"Face","location":"local","sku":{"name":"S0"},"properties":{}}`)
	f.want(when+": make a resource", 507, `"code":"InsufficientStorage"`, status, answer)
	status, answer = f.vault(http.MethodPost, "/keys/other/create", `{"kty":"RSA"}`)
	f.want(when+": make a key", 507, `"code":"InsufficientStorage"`, status, answer)
	status, answer = f.page("/readyz")
	f.want(when+": readyz", 200, "degraded\nstorage: full: the volume of the data has ", status, answer)
	status, answer = f.page("/metrics")
	f.want(when+": metrics", 200, `visage_server_disk_full{holds="data"} 1`, status, answer)
}

func TestAFullDiskRefusesWhatIsNewAlone(t *testing.T) {
	dir := smallVolume(t, 60)
	config := server.Config{Dir: filepath.Join(dir, "visage"), Rate: 100_000}
	f := &filled{Server: servertest.Start(t, config), t: t}
	o := f.Operator()
	vault := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.KeyVault/vaults/safe",
		o.SubscriptionID, o.ResourceGroup)
	status, answer := f.arm(http.MethodPut, vault, fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},
		"accessPolicies":[{"tenantId":%[1]q,"objectId":%q,"permissions":{"keys":["all"]}}]}}`, o.TenantID, o.ClientID))
	f.want("make a vault", 201, "", status, answer)
	status, answer = f.vault(http.MethodPost, "/keys/k/create", `{"kty":"RSA"}`)
	f.want("make a key", 200, "", status, answer)
	status, answer = f.face(http.MethodPut, "/largepersongroups/g", `{"name":"g"}`)
	f.want("make a group", 200, "", status, answer)
	status, answer = f.face(http.MethodPost, "/largepersongroups/g/persons", `{"name":"ada"}`)
	f.want("make a person", 200, "personId", status, answer)
	var made struct{ PersonID, FaceID string }
	if err := json.Unmarshal([]byte(answer), &made); err != nil {
		t.Fatal(err)
	}
	f.persons = []string{made.PersonID}
	status, answer = call(t, f.Server, http.MethodPost, "/face/v1.2/largepersongroups/g/persons/"+made.PersonID+
		"/persistedfaces", f.Key, servertest.Photo(1, "ada"))
	f.want("add a face", 200, "persistedFaceId", status, answer)
	status, answer = f.face(http.MethodPost, "/largepersongroups/g/train", "")
	f.want("train", 202, "", status, answer)
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && !strings.Contains(answer, "succeeded"); {
		_, answer = f.face(http.MethodGet, "/largepersongroups/g/training", "")
	}
	_, answer = detect(t, f.Server, f.Key)
	var found []struct{ FaceID string }
	if err := json.Unmarshal([]byte(answer), &found); err != nil || len(found) != 1 {
		t.Fatalf("detect: %s", answer)
	}
	f.faceID = found[0].FaceID

	if err := os.WriteFile(filepath.Join(dir, "others"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f.fill()
	for range 5 {
		f.serves("full")
	}
	status, answer = f.face(http.MethodPost, "/largepersongroups/g/train", "")
	f.want("train while full", 202, "", status, answer)
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && !strings.Contains(answer, "succeeded"); {
		_, answer = f.face(http.MethodGet, "/largepersongroups/g/training", "")
	}

	// After a restart the disk is still full, and everything that was acknowledged is there.
	if err := f.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	f.Server = servertest.Start(t, config)
	f.fill()
	f.serves("restarted")

	// The server recovers by itself.
	if err := os.Remove(filepath.Join(dir, "others")); err != nil {
		t.Fatal(err)
	}
	status, answer = f.face(http.MethodPut, "/largepersongroups/other", `{"name":"other"}`)
	f.want("healed: make a group", 200, "", status, answer)
	status, answer = f.page("/readyz")
	f.want("healed: readyz", 200, "ok\n", status, answer)
	for _, p := range f.persons {
		if status, answer := f.face(http.MethodGet, "/largepersongroups/g/persons/"+p, ""); status != http.StatusOK {
			t.Fatalf("person %s: %d %s", p, status, answer)
		}
	}
}

func (f *filled) page(path string) (int, string) {
	f.t.Helper()
	return call(f.t, f.Server, http.MethodGet, path, "", nil)
}

func (f *filled) arm(method, path, body string) (int, string) {
	f.t.Helper()
	return f.withToken(method, f.URL+path+"?api-version=2023-05-01", "https://management.azure.com/", "", body)
}

func (f *filled) vault(method, path, body string) (int, string) {
	f.t.Helper()
	host := "vault." + strings.TrimPrefix(f.URL, "https://")
	return f.withToken(method, f.URL+path+"?api-version=7.4", "https://"+host, "safe."+host, body)
}

func (f *filled) withToken(method, url, audience, host, body string) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+f.Token(f.t, audience))
	return f.do(req)
}
