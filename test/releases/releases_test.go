// Package releases_test starts the current program on data directories that every released version has written.
package releases_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// writeRelease makes the fixture of a version: see RELEASING.md.
var writeRelease = flag.String("write-release", "", "write the data directory of this `VERSION` to testdata")

const releases = "testdata"

// storedFormat is the store format of each release.
var storedFormat = map[string]uint32{"before-0.1.0": 0, "0.1.0": 1}

// releaseConfig is the configuration of a fixture's server: its addresses do not change, so that keys are found again.
func releaseConfig(dir string) server.Config {
	return server.Config{
		Dir: dir, PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000, AutoApprove: true,
	}
}

// The resources of a fixture: default is encrypted with the service's key, vip with a customer's key in the instance's
// own vault.
const vip = "vip"

// release is a server on the data of a release.
type release struct {
	*servertest.Server
	keys map[string]string // access keys by resource
}

func (r *release) accounts() string {
	return r.URL + "/subscriptions/" + r.Operator().SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"
}

// ask makes a request about a resource on the management plane.
func (r *release) ask(t *testing.T, method, what, body string) (status int, answer string) {
	t.Helper()
	at := r.accounts() + what + "?api-version=2025-09-01"
	req, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.Token(t, "https://management.azure.com/"))
	req.Header.Set("Content-Type", "application/json")
	return r.do(t, req)
}

// data makes a request on the data plane of a resource.
func (r *release) data(t *testing.T, resource, method, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+"/face/v1.2/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", r.keys[resource])
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(body, "\x89PNG") {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	return r.do(t, req)
}

func (r *release) do(t *testing.T, req *http.Request) (status int, answer string) {
	t.Helper()
	res, err := r.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// vault makes a request about the vault's keys, and expects success.
func (r *release) vault(t *testing.T, method, path, body string) (answer string) {
	t.Helper()
	at := "https://safe.vault.faces.example.org/keys/" + path + "?api-version=7.5"
	req, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.Token(t, "https://vault.faces.example.org"))
	req.Header.Set("Content-Type", "application/json")
	status, answer := r.do(t, req)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// makeVault creates a vault in which the operator has all permissions, and who those that custody needs.
func (r *release) makeVault(t *testing.T, who visage.PrincipalID) {
	t.Helper()
	op := r.Operator()
	policy := `{"tenantId":"` + op.TenantID + `","objectId":"%s","permissions":{"keys":[%s]}}`
	policies := fmt.Sprintf(policy, op.ClientID, `"all"`) +
		"," + fmt.Sprintf(policy, who, `"get","wrapKey","unwrapKey"`)
	body := `{"location":"local","properties":{"tenantId":"` + op.TenantID + `","enablePurgeProtection":true,` +
		`"sku":{"family":"A","name":"standard"},"accessPolicies":[` + policies + `]}}`
	at := r.URL + "/subscriptions/" + op.SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe?api-version=2024-11-01"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.Token(t, "https://management.azure.com/"))
	req.Header.Set("Content-Type", "application/json")
	if status, answer := r.do(t, req); status/100 != 2 {
		t.Fatalf("make a vault: %d %s", status, answer)
	}
}

// allow enables or disables the customer's key.
func (r *release) allow(t *testing.T, version string, on bool) {
	t.Helper()
	r.vault(t, http.MethodPatch, "k1/"+version, fmt.Sprintf(`{"attributes":{"enabled":%t}}`, on))
}

// until waits for a state of the customer's key, and returns the version in use.
func (r *release) until(t *testing.T, state string) (version string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		status, answer := r.ask(t, http.MethodGet, vip, "")
		var account struct {
			Properties struct {
				State      string `json:"provisioningState"`
				Encryption struct {
					Status struct{ State, KeyVersion string }
				}
			}
		}
		if err := json.Unmarshal([]byte(answer), &account); status != http.StatusOK || err != nil {
			t.Fatalf("the resource %s: %d %s", vip, status, answer)
		}
		s := account.Properties.Encryption.Status
		if s.State == state && account.Properties.State == "Succeeded" {
			return s.KeyVersion
		}
		select {
		case <-deadline:
			t.Fatalf("the key did not become %s in time: %s", state, answer)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// must is data that expects success; into gets the answer, unless it is nil.
func (r *release) must(t *testing.T, resource, method, path, body string, into any) {
	t.Helper()
	status, answer := r.data(t, resource, method, path, body)
	if status/100 != 2 {
		t.Fatalf("%s: %s %s: %d %s", resource, method, path, status, answer)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			t.Fatalf("%s: %s %s: %v in %s", resource, method, path, err, answer)
		}
	}
}

// openRelease starts a server on a directory, and reads the keys of its resources.
func openRelease(t *testing.T, dir string) *release {
	t.Helper()
	r := &release{Server: servertest.Start(t, releaseConfig(dir))}
	r.keys = map[string]string{"default": r.Key}
	return r
}

func (r *release) takeKey(t *testing.T) {
	t.Helper()
	status, answer := r.ask(t, http.MethodPost, vip+"/listKeys", "")
	var keys struct {
		Key1 string `json:"key1"`
	}
	if err := json.Unmarshal([]byte(answer), &keys); status != http.StatusOK || err != nil {
		t.Fatalf("the keys of %s: %d %s", vip, status, answer)
	}
	r.keys[vip] = keys.Key1
}

const (
	photoQuery = "?detectionModel=detection_03"
	modelQuery = "?recognitionModel=recognition_04&detectionModel=detection_03"
	longest    = 36_500 // days: nothing in a fixture expires
)

// photo is a photo of a fixture's person.
func photo(take int, name string) string { return string(servertest.Photo(take, name)) }

// fillRelease stores the data that checkRelease reads.
func fillRelease(t *testing.T, dir string) {
	r := openRelease(t, dir)
	status, answer := r.ask(t, http.MethodPut, vip,
		`{"location":"local","kind":"Face","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	var made struct {
		Identity struct{ PrincipalID visage.PrincipalID }
	}
	if err := json.Unmarshal([]byte(answer), &made); status/100 != 2 || err != nil {
		t.Fatalf("make a resource: %d %s", status, answer)
	}
	r.makeVault(t, made.Identity.PrincipalID)
	r.takeKey(t)
	for _, resource := range []string{"default", vip} {
		r.must(t, resource, http.MethodPut, "persongroups/staff",
			`{"name":"staff","userData":"of `+resource+`","recognitionModel":"recognition_04"}`, nil)
		for i, name := range []string{"ann", "ben"} {
			var made struct {
				PersonID string `json:"personId"`
			}
			r.must(t, resource, http.MethodPost, "persongroups/staff/persons",
				`{"name":"`+name+`","userData":"`+name+` of `+resource+`"}`, &made)
			r.must(t, resource, http.MethodPost,
				"persongroups/staff/persons/"+made.PersonID+"/persistedfaces"+photoQuery, photo(i, name), nil)
		}
		r.must(t, resource, http.MethodPost, "persongroups/staff/train", "", nil)
		r.trained(t, resource)
		r.must(t, resource, http.MethodPut, "facelists/wanted",
			`{"name":"wanted","recognitionModel":"recognition_04"}`, nil)
		r.must(t, resource, http.MethodPost, "facelists/wanted/persistedfaces"+photoQuery, photo(5, "cleo"), nil)
		for what, body := range map[string]string{
			"/retention": fmt.Sprintf(`{"days":%d,"since":"lastMatch"}`, longest),
			"/placeHold": `{"kind":"persongroup","id":"staff","reason":"case 4711"}`,
		} {
			method := http.MethodPut
			if what == "/placeHold" {
				method = http.MethodPost
			}
			if status, answer := r.ask(t, method, resource+what, body); status/100 != 2 {
				t.Fatalf("%s%s: %d %s", resource, what, status, answer)
			}
		}
	}
	r.vault(t, http.MethodPost, "k1/create", `{"kty":"RSA"}`)
	status, answer = r.ask(t, http.MethodPatch, vip, `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault",
		"keyVaultProperties":{"keyVaultUri":"https://safe.vault.faces.example.org/","keyName":"k1"}}}}`)
	if status/100 != 2 {
		t.Fatalf("enable the customer's key: %d %s", status, answer)
	}
	version := r.until(t, "active")
	r.allow(t, version, false)
	r.until(t, "revoked")
	r.allow(t, version, true)
	r.until(t, "active")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	// Opening the store once more removes the log, whose content is in tables by now.
	store, err := server.OpenStore(t.Context(), releaseConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func (r *release) trained(t *testing.T, resource string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		var training struct{ Status string }
		r.must(t, resource, http.MethodGet, "persongroups/staff/training", "", &training)
		if training.Status == "succeeded" {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("the training of %s is %s", resource, training.Status)
		case <-time.After(time.Millisecond):
		}
	}
}

// checkRelease opens a directory with today's program, through its API, and reads everything that fillRelease stored.
func checkRelease(t *testing.T, dir string) {
	r := openRelease(t, dir)
	r.takeKey(t)
	version := r.until(t, "active")
	for _, resource := range []string{"default", vip} {
		r.checkFaces(t, resource)
		if status, answer := r.ask(t, http.MethodGet, resource+"/retention", ""); status != http.StatusOK ||
			!strings.Contains(answer, fmt.Sprint(longest)) || !strings.Contains(answer, "case 4711") {
			t.Errorf("%s: retention and holds: %d %s", resource, status, answer)
		}
		status, answer := r.data(t, resource, http.MethodDelete, "persongroups/staff", "")
		if status != http.StatusConflict {
			t.Errorf("%s: deleting a group on hold: %d %s", resource, status, answer)
		}
	}
	r.allow(t, version, false)
	r.until(t, "revoked")
	if status, answer := r.data(t, vip, http.MethodGet, "persongroups", ""); status != http.StatusForbidden {
		t.Errorf("without its key: %d %s", status, answer)
	}
	r.allow(t, version, true)
	r.until(t, "active")
	r.checkFaces(t, vip)
	if page := r.metrics(t); !strings.Contains(page, fmt.Sprintf("visage_sealed_format %d\n", sealed.Format)) {
		t.Error("the metrics do not show the format of the store")
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

func (r *release) metrics(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, page := r.do(t, req)
	return page
}

// checkFaces checks the matches of each search.
func (r *release) checkFaces(t *testing.T, resource string) {
	t.Helper()
	type person struct{ PersonID, Name, UserData string }
	var people []person
	r.must(t, resource, http.MethodGet, "persongroups/staff/persons", "", &people)
	for i, name := range []string{"ann", "ben"} {
		at := slices.IndexFunc(people, func(p person) bool { return p.Name == name })
		if at < 0 || people[at].UserData != name+" of "+resource {
			t.Fatalf("%s: the people are %+v", resource, people)
		}
		var found []struct {
			Candidates []struct{ PersonID string }
		}
		probe := r.detect(t, resource, photo(10+i, name))
		r.must(t, resource, http.MethodPost, "identify", `{"personGroupId":"staff","faceIds":["`+probe+`"]}`, &found)
		if len(found) != 1 || len(found[0].Candidates) != 1 || found[0].Candidates[0].PersonID != people[at].PersonID {
			t.Errorf("%s: %s is identified as %+v", resource, name, found)
		}
	}
	var similar []struct{ PersistedFaceID string }
	probe := r.detect(t, resource, photo(15, "cleo"))
	r.must(t, resource, http.MethodPost, "findsimilars", `{"faceListId":"wanted","faceId":"`+probe+`"}`, &similar)
	if len(similar) != 1 {
		t.Errorf("%s: on the list are %+v", resource, similar)
	}
}

func (r *release) detect(t *testing.T, resource, photo string) (id string) {
	t.Helper()
	var faces []struct{ FaceID string }
	r.must(t, resource, http.MethodPost, "detect"+modelQuery, photo, &faces)
	if len(faces) != 1 {
		t.Fatalf("%s: detected %+v", resource, faces)
	}
	return faces[0].FaceID
}

// checkOffline opens everything, verifies the audit log from its first entry, and returns the number of entries by
// kind.
func checkOffline(t *testing.T, dir string) (kinds map[audit.Kind]int) {
	t.Helper()
	store, err := server.OpenStore(t.Context(), releaseConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if store.Maintenance().Format() != sealed.Format {
		t.Errorf("the store has format %d", store.Maintenance().Format())
	}
	err = server.VerifyEach(t.Context(), store, func(v server.Verified) error {
		if locked := v.Resource == vip; v.State != server.VerifiedOpen && !locked || len(v.Findings) > 0 {
			t.Errorf("verified: %+v", v)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	history := audit.Read(store)
	if _, err := history.Verify(t.Context()); err != nil {
		t.Errorf("the audit log: %v", err)
	}
	kinds = map[audit.Kind]int{}
	for e, err := range history.Entries(t.Context(), audit.Query{Limit: 10_000}) {
		if err != nil {
			t.Fatal(err)
		}
		kinds[e.Kind]++
	}
	for _, kind := range []audit.Kind{
		audit.InstanceStart, audit.InstanceStop, audit.ResourceCreate, audit.CustodyEnable, audit.CustodyLock,
		audit.CustodyRestore, audit.RetentionSet, audit.HoldPlace, audit.VaultOperation,
	} {
		if kinds[kind] == 0 {
			t.Errorf("the audit log has no %s", kind)
		}
	}
	return kinds
}

// TestStoresOfReleasesOpen opens the store of every released version. With -write-release it first makes the store of a
// new one.
func TestStoresOfReleasesOpen(t *testing.T) {
	if *writeRelease != "" {
		to := filepath.Join(releases, *writeRelease+".tar.gz")
		if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s exists: the store of a release is never rewritten", to)
		}
		dir := filepath.Join(t.TempDir(), "visage")
		fillRelease(t, dir)
		pack(t, dir, to)
	}
	stores, err := filepath.Glob(filepath.Join(releases, "*.tar.gz"))
	if err != nil || len(stores) == 0 {
		t.Fatalf("no stores of releases: %v", err)
	}
	for _, file := range stores {
		name := strings.TrimSuffix(filepath.Base(file), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			if _, ok := storedFormat[name]; !ok {
				t.Fatal("storedFormat lacks this release")
			}
			dir := filepath.Join(t.TempDir(), "visage")
			unpack(t, file, dir)
			checkRelease(t, dir)
			kinds := checkOffline(t, dir)
			migrated := int(sealed.Format - storedFormat[name])
			if kinds[audit.StoreMigrate] != migrated {
				t.Errorf("the audit log has %d migrations, not %d", kinds[audit.StoreMigrate], migrated)
			}
		})
	}
}

// TestNewerStoresAreRefused checks that neither the service nor offline commands open a store of a later format, and
// that both name the version that does. The number can be raised without the root key, since the store is refused
// before the key is read.
func TestNewerStoresAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "visage")
	unpack(t, filepath.Join(releases, "before-0.1.0.tar.gz"), dir)
	raise(t, filepath.Join(dir, "data"))
	before := listed(t, dir)
	refused := func(what string, err error) {
		t.Helper()
		const want = "this store was written by a newer version of Visage (format 1000000); this program knows "
		const advice = ": use version 99.0.0 or later"
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), advice) {
			t.Errorf("%s: %v", what, err)
		}
	}
	cfg := releaseConfig(dir)
	_, err := server.OpenStore(t.Context(), cfg)
	refused("offline", err)
	cfg.Listen, cfg.Recogniser = "127.0.0.1:0", servertest.Faces{}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	refused("serving", srv.Run(t.Context()))
	if after := listed(t, dir); !maps.Equal(before, after) {
		t.Error("the refusals have changed files")
	}
}

// raise gives a store a future format.
func raise(t *testing.T, data string) {
	t.Helper()
	db, err := pebble.Open(data, &pebble.Options{FormatMajorVersion: pebble.FormatFlushableIngest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	key := append(make([]byte, 16), 'I')
	row, closer, err := db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	const header, mac = 4, 32
	// A CBOR map begins with its size, and appended pairs belong to it once that is raised: here the format, the
	// version that supports it, and an unknown future field. The authentication code at the end is then wrong, which
	// does not matter.
	raised := append(slices.Clone(row[:len(row)-mac]), 0x05, 0x1a, 0x00, 0x0f, 0x42, 0x40, 0x07, 0x66)
	raised = append(append(raised, "99.0.0"...), 0x18, 0x63, 0x61, 'x')
	raised[header] += 3
	raised = append(raised, make([]byte, mac)...)
	if err := errors.Join(closer.Close(), db.Set(key, raised, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// quiet is a logger that discards everything.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// listed returns everything in a directory.
func listed(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// needless are files that a store recreates.
var needless = []string{"BALLAST", "LOCK"}

// pack writes a directory to an archive, without times and owners.
func pack(t *testing.T, dir, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	out := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || slices.Contains(needless, d.Name()) {
			return err
		}
		local, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(name)
		if err == nil {
			err = out.WriteHeader(&tar.Header{Name: filepath.ToSlash(local), Mode: 0o600, Size: int64(len(b))})
		}
		if err == nil {
			_, err = out.Write(b)
		}
		return err
	})
	if err := errors.Join(err, out.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// unpack reverses pack.
func unpack(t *testing.T, from, dir string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || !filepath.IsLocal(path.Clean(h.Name)) {
			t.Fatalf("%s: %v", from, err)
		}
		b, err := io.ReadAll(in)
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
