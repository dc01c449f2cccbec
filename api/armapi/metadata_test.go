package armapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// public requests a path without credentials.
func (m manager) public(path string) (int, []byte) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.URL+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	res, err := m.Client.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return res.StatusCode, b
}

// endpointsV2022 is the form that Terraform's client decodes, with the fields it requires.
type endpointsV2022 struct {
	Name           string
	Authentication struct {
		LoginEndpoint, Tenant, IdentityProvider string
		Audiences                               []string
	}
	Suffixes                                                        struct{ KeyVaultDNS string }
	ResourceManager, MicrosoftGraphResourceID, GraphAudience, Graph string
}

// TestMetadataShapes decodes each form as the clients that request it do, and follows its addresses.
func TestMetadataShapes(t *testing.T) {
	m := start(t)
	decode := func(version string, into any) {
		t.Helper()
		// az appends it to an address with a slash
		status, body := m.public("//metadata/endpoints?api-version=" + version)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", version, status, body)
		}
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s: %s: %v", version, body, err)
		}
	}
	for _, version := range []string{"1.0", "2014-01-01", "2015-01-01", "2015-11-01", "2017-12-31-preview",
		"2018-01-01", "2018-05-01"} {
		var old struct {
			GalleryEndpoint, GraphEndpoint, PortalEndpoint, GraphAudience string
			Authentication                                                struct {
				LoginEndpoint string
				Audiences     []string
				Tenant        *string
			}
			CloudEndpoint map[string]any
		}
		decode(version, &old)
		if old.GalleryEndpoint == "" || old.GraphEndpoint != m.URL+"/" || old.PortalEndpoint == "" ||
			len(old.Authentication.Audiences) == 0 {
			t.Errorf("%s: %+v", version, old)
		}
		later := version >= "2018"
		if (old.Authentication.Tenant != nil) != later || (old.CloudEndpoint != nil) != later ||
			len(old.CloudEndpoint) > 0 {
			t.Errorf(
				"%s: the tenant and an empty list of locations, which any word is one of, are there since 2018, and "+
					"here it is %+v", version, old,
			)
		}
		m.signIn(old.Authentication.LoginEndpoint, old.Authentication.Audiences[0])
	}
	for _, version := range []string{"2019-05-01", "2019-10-01", "2020-06-01", "2022-06"} {
		var list []endpointsV2022
		decode(version, &list)
		if len(list) != 1 {
			t.Fatalf("%s: %d clouds", version, len(list))
		}
		m.checkEndpoints(version, list[0])
	}
	for _, version := range []string{"2022-09-01", "2023-11-01", "2031-01-01-preview"} {
		var one endpointsV2022
		decode(version, &one)
		m.checkEndpoints(version, one)
		if one.Authentication.LoginEndpoint != m.URL {
			t.Errorf("%s: sign in at %q: Terraform treats anything but the origin as another product", version,
				one.Authentication.LoginEndpoint)
		}
	}
	for query, code := range map[string]string{"": "MissingApiVersionParameter",
		"?api-version=":       "MissingApiVersionParameter",
		"?api-version=newest": "InvalidApiVersionParameter"} {
		status, body := m.public("/metadata/endpoints" + query)
		if status != http.StatusBadRequest || !strings.Contains(string(body), code) {
			t.Errorf("%q: %d %s, want %s", query, status, body, code)
		}
	}
}

func (m manager) checkEndpoints(version string, c endpointsV2022) {
	m.t.Helper()
	vault, err := url.Parse("https://v." + c.Suffixes.KeyVaultDNS)
	if err != nil || !strings.HasPrefix(c.Suffixes.KeyVaultDNS, "vault.localhost:") ||
		!strings.HasSuffix(m.URL, ":"+vault.Port()) {
		m.t.Errorf("%s: vaults are below %q: %v", version, c.Suffixes.KeyVaultDNS, err)
	}
	// Terraform treats any identity provider but AAD, and any tenant but common, as another product.
	if c.Name == "" || c.ResourceManager != m.URL+"/" || c.MicrosoftGraphResourceID != m.URL+"/" ||
		c.GraphAudience != m.URL+"/" ||
		c.Authentication.Tenant != "common" || c.Authentication.IdentityProvider != "AAD" {
		m.t.Errorf("%s: %+v", version, c)
	}
	for _, audience := range append(c.Authentication.Audiences, c.MicrosoftGraphResourceID,
		"https://"+c.Suffixes.KeyVaultDNS) {
		m.signIn(c.Authentication.LoginEndpoint, audience)
	}
}

// signIn requests a token for an audience below an authority, in each way in which clients build the address.
func (m manager) signIn(authority, audience string) {
	m.t.Helper()
	o := m.Operator()
	base := strings.TrimSuffix(authority, "/")
	addresses := []string{base + "/" + o.TenantID + "/oauth2/v2.0/token"}
	if strings.HasSuffix(base, "/adfs") { // without the tenant
		addresses = append(addresses, base+"/oauth2/v2.0/token")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {o.ClientID},
		"client_secret": {o.ClientSecret}, "scope": {audience + "/.default"}}
	for _, address := range addresses {
		res, err := m.Client.PostForm(address, form)
		if err != nil {
			m.t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			m.t.Errorf("a token for %s at %s: %d %s %v", audience, address, res.StatusCode, body, err)
		}
	}
}
