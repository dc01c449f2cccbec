package requirements_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
)

// here are the addresses of a test's client.
const here = `[{"value":"127.0.0.0/8"},{"value":"::1"}]`

// TestNetworkRulesOfResources checks that data is served only to the addresses that a resource's rules name.
func TestNetworkRulesOfResources(t *testing.T) {
	w := newServer(t, server.Config{})
	w.want(w.create("walled", "S0"), 201, "")
	w.want(w.create("beside", "S0"), 201, "")
	walled, beside := w.app("walled"), w.app("beside")
	lists := func(a app) answer { return a.face("GET", "v1.2/facelists", nil) }
	rules := func(properties string) answer {
		return w.want(w.arm("PATCH", account("walled"), `{"properties":{`+properties+`}}`), 200, "")
	}

	if a := w.arm("GET", account("walled"), ""); a.at("properties.networkAcls") != nil {
		t.Errorf("the resource shows rules that were not set: %s", a.body)
	}
	for _, step := range []struct{ name, properties, refusal string }{
		{"nobody", `"networkAcls":{"defaultAction":"Deny"}`, "Access denied due to Virtual Network/Firewall rules."},
		{"somebody else", `"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"203.0.113.0/24"}]}`,
			"Access denied due to"},
		{"we", `"networkAcls":{"defaultAction":"Deny","ipRules":` + here + `}`, ""},
		{"we, as before a change that says null", `"networkAcls":null,"publicNetworkAccess":null`, ""},
		{"nobody at all", `"publicNetworkAccess":"Disabled"`, "Public access is disabled."},
		{"we again, by the rules that stayed", `"publicNetworkAccess":"Enabled"`, ""},
		{"somebody else, whatever null says",
			`"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"203.0.113.0/24"}]}`, "Access denied due to"},
		{"still somebody else", `"networkAcls":null`, "Access denied due to"},
		{"everybody", `"networkAcls":{"defaultAction":"Allow"}`, ""},
	} {
		t.Run(step.name, func(t *testing.T) {
			w, walled, beside := w.in(t), walled, beside
			rules(step.properties)
			a := lists(walled)
			if step.refusal == "" && a.status != 200 {
				t.Errorf("let in: got %d %s", a.status, a.body)
			}
			if step.refusal != "" && (a.status != 403 || a.text("error.code") != "403" ||
				!strings.Contains(a.text("error.message"), step.refusal)) {
				t.Errorf("kept out: got %d %s, want 403 %q", a.status, a.body, step.refusal)
			}
			w.want(lists(beside), 200, "")
		})
	}
	a := rules(
		`"networkAcls":{"defaultAction":"Deny","bypass":"None","ipRules":[{"value":"198.51.100.0/24"}],"virtualNetworkRules":[]}`,
	)
	got, _ := a.at("properties.networkAcls.ipRules").([]any)
	if len(got) != 1 || got[0].(map[string]any)["value"] != "198.51.100.0/24" ||
		a.text("properties.networkAcls.defaultAction") != "Deny" ||
		a.text("properties.networkAcls.bypass") != "None" {
		t.Errorf("the rules come back as %s", a.body)
	}
}

// TestNetworkRulesOfVaultsRevoke revokes a key with its vault's firewall, and restores it.
func TestNetworkRulesOfVaultsRevoke(t *testing.T) {
	w := newServer(t, server.Config{AutoApprove: true})
	who := w.createWithIdentity("vip")
	w.want(w.makeVault("safe", "westus2", protected, who, "get", "wrapKey", "unwrapKey"), 201, "")
	w.makeKey("safe", "k", rsa2048)
	w.encrypt("vip", w.keySettings("safe", "k", "", ""))
	vip := w.app("vip")
	vip.enrol()
	vip.wantOpen()

	rules := func(properties string) {
		w.want(w.arm("PATCH", vault("safe"), `{"properties":{`+properties+`}}`), 200, "")
	}
	rules(`"networkAcls":{"defaultAction":"Deny","bypass":"AzureServices","ipRules":` + here + `}`)
	w.want(w.keyOf("safe", "GET", "/keys/k", ""), 200, "")
	vip.wantOpen()
	rules(`"networkAcls":{"defaultAction":"Deny","bypass":"None"}`)
	vip.wantClosed()
	rules(`"publicNetworkAccess":"Disabled","networkAcls":{"defaultAction":"Deny","bypass":"AzureServices"}`)
	vip.wantOpen()
	if a := w.keyOf("safe", "GET", "/keys/k", ""); a.status != 403 ||
		a.text("error.innererror.code") != "ForbiddenByConnection" {
		t.Errorf("a client while public access is disabled: %d %s", a.status, a.body)
	}
}

// TestPagesOfAllowedOrigins checks that only pages of the origins that a resource names can use its data.
func TestPagesOfAllowedOrigins(t *testing.T) {
	w := newServer(t, server.Config{})
	w.want(w.create("mine", "S0"), 201, "")
	const page, other = "https://app.example.org", "https://elsewhere.example.org"
	ask := func(method, host, origin, key string, preflight bool) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, w.URL+"/face/v1.2/facelists", nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host + "." + strings.TrimPrefix(w.URL, "https://")
		}
		req.Header.Set("Origin", origin)
		if key != "" {
			req.Header.Set("Ocp-Apim-Subscription-Key", key)
		}
		if preflight {
			req.Header.Set("Access-Control-Request-Method", "GET")
			req.Header.Set("Access-Control-Request-Headers", "ocp-apim-subscription-key")
		}
		res, err := w.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return res
	}
	allowed := func(res *http.Response) string { return res.Header.Get("Access-Control-Allow-Origin") }

	if res := ask("OPTIONS", "mine", page, "", true); res.StatusCode != 405 || allowed(res) != "" {
		t.Errorf("before any origin is named: %d %v", res.StatusCode, res.Header)
	}
	spelled := strings.Replace(page, "https://", "HTTPS://", 1) + ".:443/"
	named := w.arm("PATCH", account("mine"), `{"properties":{"cors":{"allowedOrigins":["`+spelled+`","`+page+`"]}}}`)
	w.want(named, 200, "")
	if got, want := fmt.Sprint(named.at("properties.cors.allowedOrigins")), "["+page+"]"; got != want {
		t.Errorf("the origins are %s, want %s", got, want)
	}
	for _, wrong := range []string{"https://*.example.org", "https://app.example.org/x", "null", "app.example.org",
		"ftp://app.example.org"} {
		w.want(w.arm("PATCH", account("mine"), `{"properties":{"cors":{"allowedOrigins":["`+wrong+`"]}}}`), 400,
			"InvalidCorsOrigin")
	}
	key := w.app("mine").key
	for _, host := range []string{"mine", ""} {
		res := ask("OPTIONS", host, page, "", true)
		if res.StatusCode != 204 || allowed(res) != page ||
			!strings.Contains(res.Header.Get("Access-Control-Allow-Methods"), "GET") ||
			res.Header.Get("Access-Control-Allow-Headers") != "ocp-apim-subscription-key" {
			t.Errorf("preflight at %q: %d %v", host, res.StatusCode, res.Header)
		}
		if res := ask("OPTIONS", host, other, "", true); res.StatusCode != 405 || allowed(res) != "" {
			t.Errorf("preflight of another origin at %q: %d %v", host, res.StatusCode, res.Header)
		}
	}
	if res := ask("OPTIONS", "default", page, "", true); allowed(res) != "" {
		t.Errorf("preflight at another resource's host: %v", res.Header)
	}
	if res := ask("GET", "", page, key, false); res.StatusCode != 200 || allowed(res) != page ||
		res.Header.Get("Vary") != "Origin" {
		t.Errorf("an answer for the page: %d %v", res.StatusCode, res.Header)
	}
	if res := ask("GET", "mine", page, "wrong", false); res.StatusCode != 401 || allowed(res) != page {
		t.Errorf("a refusal for the page: %d %v", res.StatusCode, res.Header)
	}
	if res := ask("GET", "", other, key, false); res.StatusCode != 200 || allowed(res) != "" {
		t.Errorf("an answer for another page: %d %v", res.StatusCode, res.Header)
	}
	if res := ask("GET", "", page, w.app("default").key, false); res.StatusCode != 200 || allowed(res) != "" {
		t.Errorf("an answer about a resource that does not name the page: %d %v", res.StatusCode, res.Header)
	}
	w.want(w.arm("PATCH", account("mine"), `{"properties":{"cors":{"allowedOrigins":["*"]}}}`), 200, "")
	if res := ask("GET", "mine", other, key, false); allowed(res) != other {
		t.Errorf("an answer for any page: %v", res.Header)
	}
	w.want(w.arm("PATCH", account("mine"), `{"properties":{"cors":{"allowedOrigins":[]}}}`), 200, "")
	if res := ask("GET", "mine", page, key, false); allowed(res) != "" {
		t.Errorf("after the origins were removed: %v", res.Header)
	}
}
