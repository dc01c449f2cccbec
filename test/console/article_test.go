package console_test

import (
	"bytes"
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

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestAcceptance walks through the whole story of a customer's key in the browser, in French. What an application does
// between the steps, and what somebody finds who takes the disk away, is the test's part.
func TestAcceptance(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "visage")
	h := house{servertest.Start(t, server.Config{Dir: dir, Rate: 1 << 20}), t, map[string]string{}}
	h.facts["amelie"] = h.colleague("Amélie Dupont", identity.CognitiveContributor)
	staff := newClient(h, "accueil")
	walkWith(t, h.Server, acts{
		"enrol":    func() any { staff.enrol("Grace Hopper", "Ada Lovelace"); return nil },
		"identify": func() any { return staff.identify("Ada Lovelace") },
		"search":   func() any { return search(t, dir, staff.secrets()) },
	}, "acceptance.mjs", h.facts)
}

// colleague makes a person who has a role on the subscription, and returns their object id.
func (h house) colleague(name, role string) string {
	h.t.Helper()
	id := h.person(name)
	h.manage(http.MethodPut, "/providers/Microsoft.Authorization/roleAssignments/"+visage.NewUUID().String(),
		fmt.Sprintf(`{"properties":{"roleDefinitionId":"/subscriptions/%s/providers/Microsoft.Authorization/`+
			`roleDefinitions/%s","principalId":%q}}`, h.Operator().SubscriptionID, role, id))
	return id
}

// client is an application that uses the faces of a resource.
type client struct {
	house
	host   string
	people map[string]string // ids by name
}

func newClient(h house, subdomain string) *client {
	return &client{h, subdomain + "." + strings.TrimPrefix(h.URL, "https://"), map[string]string{}}
}

const staffPath = "/face/v1.2/persongroups/personnel"

// enrol makes a group with people of two photos each, and trains it.
func (c *client) enrol(names ...string) {
	c.t.Helper()
	c.must(http.MethodPut, staffPath, []byte(`{"name":"Personnel de l’accueil","userData":"bâtiment 7"}`), nil)
	for i, name := range names {
		var person struct {
			ID string `json:"personId"`
		}
		c.must(http.MethodPost, staffPath+"/persons", fmt.Appendf(nil, `{"name":%q}`, name), &person)
		for take := range 2 {
			c.must(http.MethodPost, staffPath+"/persons/"+person.ID+"/persistedFaces",
				servertest.Photo(10*i+take, name), nil)
		}
		c.people[name] = person.ID
	}
	c.must(http.MethodPost, staffPath+"/train", []byte(`{}`), nil)
	for {
		var training struct{ Status string }
		if c.must(http.MethodGet, staffPath+"/training", nil, &training); training.Status == "succeeded" {
			return
		}
		select {
		case <-c.t.Context().Done():
			c.t.Fatal("the group was not trained in time")
		case <-time.After(10 * time.Millisecond): // clients ask again too
		}
	}
}

// identify says what comes of a new photo of somebody: "known", "unknown", or the code of the refusal.
func (c *client) identify(name string) string {
	c.t.Helper()
	var found []struct {
		ID string `json:"faceId"`
	}
	code := c.ask(http.MethodPost, "/face/v1.2/detect?returnFaceId=true", servertest.Photo(1000, name), &found)
	if code != "" {
		return code
	}
	var candidates []struct {
		Candidates []struct {
			ID string `json:"personId"`
		} `json:"candidates"`
	}
	code = c.ask(http.MethodPost, "/face/v1.2/identify",
		fmt.Appendf(nil, `{"faceIds":[%q],"personGroupId":"personnel"}`, found[0].ID), &candidates)
	switch {
	case code != "":
		return code
	case len(candidates[0].Candidates) == 1 && candidates[0].Candidates[0].ID == c.people[name]:
		return "known"
	}
	return "unknown"
}

func (c *client) must(method, path string, body []byte, into any) {
	c.t.Helper()
	if code := c.ask(method, path, body, into); code != "" {
		c.t.Fatalf("%s %s: %s", method, path, code)
	}
}

// ask sends a request, and returns the code of the refusal. A body that is not JSON is a photo.
func (c *client) ask(method, path string, body []byte, into any) (code string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Host = c.host
	req.Header.Set("Authorization", "Bearer "+c.Token(c.t, "https://cognitiveservices.azure.com"))
	req.Header.Set("Content-Type", "application/octet-stream")
	if len(body) > 0 && body[0] == '{' {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.Client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var refusal struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	switch {
	case res.StatusCode >= http.StatusBadRequest:
		if err := json.Unmarshal(said, &refusal); err != nil || refusal.Error.Code == "" {
			c.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, said)
		}
		return refusal.Error.Code
	case into != nil:
		if err := json.Unmarshal(said, into); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, said)
		}
	}
	return ""
}

// secrets are texts that no file may show.
func (c *client) secrets() []string {
	all := []string{"Personnel de l", "timent 7"}
	for name, id := range c.people {
		all = append(all, name, id)
	}
	return all
}

// search returns the files below a folder that show one of the secrets.
func search(t *testing.T, dir string, secrets []string) []string {
	t.Helper()
	found := []string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				found = append(found, filepath.Base(path)+": "+secret)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestArticle walks through the flows of the article, and through what happens to people who work.
func TestArticle(t *testing.T) {
	t.Parallel()
	cfg := server.Config{Dir: filepath.Join(t.TempDir(), "visage"), AutoApprove: true}
	h := house{servertest.Start(t, cfg), t, map[string]string{}}
	for _, name := range []string{
		"en-script", "fr-plain", "en-shared", "fr-shared", "restarted",
	} {
		h.protectable(name)
	}
	h.facts["ada"] = h.colleague("Ada Lovelace", identity.Owner)
	h.newVault("safe", "local", true)
	h.newVault("bare", "local", false)
	h.newVault("far", "elsewhere", true)
	h.facts["first"] = h.newKey("safe", "faces", `{"kty":"RSA","key_size":2048}`)
	h.facts["second"] = h.newKey("safe", "faces", `{"kty":"RSA","key_size":2048}`)
	h.newKey("safe", "other", `{"kty":"RSA","key_size":2048}`)
	h.newKey("safe", "twice", `{"kty":"EC","crv":"P-256"}`)
	h.newKey("safe", "curve", `{"kty":"EC","crv":"P-256"}`)
	walkWith(t, h.Server, acts{"restart": func() any {
		if err := h.Stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		again := cfg
		again.Listen = "127.0.0.1" + h.URL[strings.LastIndex(h.URL, ":"):]
		*h.Server = *servertest.Start(t, again)
		return nil
	}}, "article.mjs", h.facts)
}

// TestClicks counts what it takes to put a resource under a key of the customer's own.
func TestClicks(t *testing.T) {
	t.Parallel()
	h := house{servertest.Start(t, server.Config{AutoApprove: true}), t, map[string]string{}}
	h.protectable("mouse")
	h.protectable("keyboard")
	walk(t, h.Server, "clicks.mjs", h.facts)
}

// protectable makes a resource of tier E0.
func (h house) protectable(name string) {
	h.t.Helper()
	h.manage(http.MethodPut, "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"+name,
		`{"kind":"Face","sku":{"name":"E0"},"location":"local","properties":{}}`)
}

// newVault makes a vault whose keys the operator may manage.
func (h house) newVault(name, location string, protected bool) {
	h.t.Helper()
	o := h.Operator()
	protection := ""
	if protected {
		protection = `"enablePurgeProtection":true,`
	}
	h.manage(http.MethodPut, "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/"+name, fmt.Sprintf(`{
		"location":%q,"properties":{%s"tenantId":%q,"sku":{"family":"A","name":"standard"},
		"enableRbacAuthorization":false,"accessPolicies":[{"tenantId":%[3]q,"objectId":%[4]q,
		"permissions":{"keys":["all","rotate"]}}]}}`, location, protection, o.TenantID, o.ClientID))
}

// newKey makes a version of a key, and returns its identifier.
func (h house) newKey(vault, name, body string) string {
	h.t.Helper()
	var made struct {
		Key struct {
			ID string `json:"kid"`
		} `json:"key"`
	}
	h.call(http.MethodPost, vault+".vault."+strings.TrimPrefix(h.URL, "https://"),
		"/keys/"+name+"/create?api-version=7.5",
		"Bearer "+h.Token(h.t, strings.Replace(h.URL, "https://", "https://vault.", 1)), "application/json",
		strings.NewReader(body), &made)
	return made.Key.ID
}
