package prove_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server/servertest"
)

// described is the server's specification of itself, as far as requests need it.
type described struct {
	Paths map[string]map[string]struct {
		Tags       []string
		Parameters []struct {
			Name, In string
			Schema   schema
		}
		RequestBody struct {
			Content map[string]struct{ Schema schema }
		}
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Enum       []string
	Items      *schema
	Properties map[string]schema
}

// fuzzer makes requests from the specification of a server: mostly valid, with occasional mistakes.
type fuzzer struct {
	*rand.Rand
	doc  described
	pool []string // ids and names that may exist
}

// fuzzTime is the duration of the test: VISAGE_FUZZ, such as 2m, or a moment in a plain run.
func fuzzTime(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("VISAGE_FUZZ")
	if s == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("VISAGE_FUZZ: %v", err)
	}
	return d
}

var oddities = []string{
	"", " ", "\x00", "null", "-1", "9999999999999999999999", "../../etc/passwd", "ü̈\u202e", "%s%n", "'\"><",
	strings.Repeat("a", 300), "00000000-0000-0000-0000-000000000000",
	"1e400", "true", "[]", "{}", "\xff\xfe", "2026-01-01T00:00:00Z",
}

func (f *fuzzer) text() string {
	switch n := f.IntN(10); {
	case n < 6 && len(f.pool) > 0:
		return f.pool[f.IntN(len(f.pool))]
	case n < 8:
		return oddities[f.IntN(len(oddities))]
	}
	return fmt.Sprintf("fuzz%d", f.IntN(20))
}

// value makes a value of a schema, sometimes of another type.
func (f *fuzzer) value(s schema, depth int) any {
	if s.Ref != "" {
		s = f.doc.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	kind := s.Type
	if f.IntN(25) == 0 {
		kind = []string{"string", "integer", "boolean", "array", "null", "object"}[f.IntN(6)]
	}
	switch kind {
	case "string":
		if len(s.Enum) > 0 && f.IntN(4) > 0 {
			return s.Enum[f.IntN(len(s.Enum))]
		}
		return f.text()
	case "integer", "number":
		return []any{0, 1, -1, 10, 1001, 1 << 40, 0.5, 0.99}[f.IntN(8)]
	case "boolean":
		return f.IntN(2) == 0
	case "null":
		return nil
	case "array":
		all := []any{}
		for range []int{0, 1, 1, 2, 3, 12}[f.IntN(6)] {
			if s.Items != nil && depth < 6 {
				all = append(all, f.value(*s.Items, depth+1))
			}
		}
		return all
	}
	object := map[string]any{}
	names := sortedKeys(s.Properties)
	for _, name := range names {
		if f.IntN(5) > 0 && depth < 6 {
			object[name] = f.value(s.Properties[name], depth+1)
		}
	}
	if f.IntN(20) == 0 {
		object["unknown"] = f.text()
	}
	return object
}

// operation is an operation of the server, with a request for it.
type operation struct {
	plane, method, pattern string
	values                 []string // of the path's segments
	query                  string
	body                   []byte
	contentType            string
}

func (o operation) path(version string) string {
	segments, n := strings.Split(o.pattern, "/"), 0
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = url.PathEscape(o.values[n])
			n++
		}
	}
	path := strings.Join(segments, "/") + o.query
	if version != "" {
		path = strings.Replace(path, "/face/v1.2/", "/face/"+version+"/", 1)
	}
	return path
}

func (f *fuzzer) draw(planes ...string) operation {
	for {
		patterns := sortedKeys(f.doc.Paths)
		pattern := patterns[f.IntN(len(patterns))]
		methods := sortedKeys(f.doc.Paths[pattern])
		method := methods[f.IntN(len(methods))]
		about := f.doc.Paths[pattern][method]
		if !slices.Contains(planes, about.Tags[0]) || strings.Contains(pattern, "Visage.Operations") {
			continue // streams of the whole instance are tested elsewhere
		}
		o := operation{plane: about.Tags[0], method: strings.ToUpper(method), pattern: pattern,
			contentType: "application/json"}
		query := url.Values{}
		for _, p := range about.Parameters {
			switch {
			case p.In == "path":
				o.values = append(o.values, f.text())
			case f.IntN(3) == 0:
				query.Set(p.Name, fmt.Sprint(f.value(p.Schema, 0)))
			}
		}
		switch o.plane {
		case "management":
			query.Set("api-version", "2025-09-01")
		case "vault":
			query.Set("api-version", "7.4")
		}
		if len(query) > 0 {
			o.query = "?" + query.Encode()
		}
		content := about.RequestBody.Content
		_, image := content["application/octet-stream"]
		switch body, found := content["application/json"]; {
		case image && f.IntN(2) == 0:
			o.contentType, o.body = "application/octet-stream",
				servertest.Photo(f.IntN(50), fmt.Sprint("person", f.IntN(9)))
		case found:
			b, err := json.Marshal(f.value(body.Schema, 0))
			if err != nil {
				panic(err)
			}
			if f.IntN(15) == 0 {
				b = b[:f.IntN(len(b)+1)]
			}
			o.body = b
		}
		return o
	}
}

// learn adds names from answers to those used in requests.
func (f *fuzzer) learn(answer any) {
	switch v := answer.(type) {
	case map[string]any:
		for name, inner := range v {
			if s, ok := inner.(string); ok && strings.HasSuffix(strings.ToLower(name), "id") && len(s) < 100 {
				f.pool = append(f.pool, s)
			}
			f.learn(inner)
		}
	case []any:
		for _, inner := range v {
			f.learn(inner)
		}
	}
	if len(f.pool) > 60 {
		f.pool = f.pool[len(f.pool)-60:]
	}
}

// TestAPIFuzz sends valid and invalid requests made from the service's own specification, on every plane. The service
// must never fail, must answer each refusal in its plane's form, and must have no damaged data in the end.
func TestAPIFuzz(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "visage")
	s := startService(t, dir, false)
	api := s.client(t, s.key(t, "default"))
	s.run(t, "vault", "create", "safe")
	f := newFuzzer(t, s, api)
	operator := s.operator(t)
	f.pool = append(f.pool, "safe", "fuzz1", "fuzz2", operator.SubscriptionID, operator.ResourceGroup,
		operator.TenantID)
	management := operator.token(t, api, "https://management.azure.com")
	vault := operator.token(t, api, strings.Replace(s.endpoint, "https://", "https://vault.", 1))
	asked, refused, failures, routes := 0, 0, 0, map[string]bool{}
	for end := time.Now().Add(fuzzTime(t)); time.Now().Before(end); asked++ {
		o := f.draw("face", "face", "management", "vault", "token")
		for at, segment := range wilds(o.pattern) { // mostly names that exist
			if f.IntN(20) == 0 {
				continue
			}
			switch segment {
			case "{subscription}":
				o.values[at] = operator.SubscriptionID
			case "{group}":
				o.values[at] = operator.ResourceGroup
			case "{tenant}":
				o.values[at] = operator.TenantID
			case "{account}", "{vault}":
				o.values[at] = fmt.Sprintf("fuzz%d", f.IntN(4)) // not the names that the test itself needs
			}
		}
		header := http.Header{"Content-Type": {o.contentType}}
		host := ""
		switch o.plane {
		case "face":
			header.Set("Ocp-Apim-Subscription-Key", api.key)
		case "management":
			header.Set("Authorization", "Bearer "+management)
		case "vault":
			header.Set("Authorization", "Bearer "+vault)
			host = strings.Replace(strings.TrimPrefix(s.endpoint, "https://"), "localhost", "safe.vault.localhost", 1)
		}
		status, answer := api.send(t, o.method, s.endpoint+o.path(""), host, header, o.body)
		routes[o.method+" "+o.pattern] = true
		if status >= 500 {
			t.Errorf("%s %s with %q: %d %s", o.method, o.path(""), o.body, status, answer)
			if failures++; failures >= 10 {
				break
			}
		}
		if status == http.StatusNotFound && slices.Contains(o.values, "") && len(answer) == 0 {
			continue // an empty segment made it a path outside of every plane
		}
		var decoded any
		if len(answer) > 0 {
			if err := json.Unmarshal(answer, &decoded); err != nil {
				t.Fatalf("%s %s: %d, not JSON: %s", o.method, o.path(""), status, answer)
			}
		}
		if status >= 400 {
			refused++
			if o.method != http.MethodHead && !wellSpelled(o.plane, answer) { // an answer to HEAD has no body
				t.Fatalf("%s %s: %d spelled as %s", o.method, o.path(""), status, answer)
			}
		} else {
			f.learn(decoded)
		}
	}
	s.kill(t)
	if err := verify(t, dir); err != nil {
		t.Fatalf("verify afterwards: %v", err)
	}
	t.Attr("requests", fmt.Sprint(asked))
	t.Attr("refused", fmt.Sprint(refused))
	t.Attr("operations", fmt.Sprint(len(routes)))
	if failures > 0 {
		t.Logf("the service said:\n%s", s.log)
	}
	t.Attr("failures", fmt.Sprint(failures))
}

func wilds(pattern string) []string {
	var all []string
	for segment := range strings.SplitSeq(pattern, "/") {
		if strings.HasPrefix(segment, "{") {
			all = append(all, segment)
		}
	}
	return all
}

// wellSpelled reports whether an error has the form of its plane's contract.
func wellSpelled(plane string, answer []byte) bool {
	if plane == "token" {
		var said struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		return json.Unmarshal(answer, &said) == nil && said.Error != "" && said.Description != ""
	}
	var said struct {
		Error struct{ Code, Message string }
	}
	return json.Unmarshal(answer, &said) == nil && said.Error.Code != "" && said.Error.Message != ""
}

func newFuzzer(t *testing.T, s *service, api *client) *fuzzer {
	t.Helper()
	f := &fuzzer{Rand: chance(t)}
	status, body := api.send(t, "GET", s.endpoint+"/openapi.json", "", nil, nil)
	if err := json.Unmarshal(body, &f.doc); err != nil || status != http.StatusOK || len(f.doc.Paths) == 0 {
		t.Fatalf("read the description: %d, %v", status, err)
	}
	return f
}

// send sends a request unchanged.
func (c *client) send(t *testing.T, method, address, host string, header http.Header, body []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.Host = header, host
	if header == nil {
		req.Header = http.Header{}
	}
	res, err := c.http.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// operatorFile is the content of operator.json.
type operatorFile struct{ Endpoint, TenantID, SubscriptionID, ResourceGroup, ClientID, ClientSecret string }

func (s *service) operator(t *testing.T) operatorFile {
	t.Helper()
	var o operatorFile
	data, err := os.ReadFile(filepath.Join(s.dir, "operator.json"))
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o operatorFile) token(t *testing.T, c *client, audience string) string {
	t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {o.ClientID}, "client_secret": {o.ClientSecret},
		"scope": {audience + "/.default"},
	}
	status, body := c.send(t, "POST", o.Endpoint+"/"+o.TenantID+"/oauth2/v2.0/token", "",
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	var said struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Token == "" {
		t.Fatalf("get a token: %d %s", status, body)
	}
	return said.Token
}
