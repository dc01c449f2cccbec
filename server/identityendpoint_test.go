package server_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// identityVariables are the variables that the server wrote for programs that use the managed identity endpoint.
func identityVariables(t *testing.T, s *servertest.Server) (endpoint, header string) {
	t.Helper()
	path := filepath.Join(s.Dir(), server.IdentityEndpointFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = value
	}
	return said["IDENTITY_ENDPOINT"], said["IDENTITY_HEADER"]
}

// askIdentity sends a request to the endpoint; headers are name, value, name, value. A header Host sets the host.
func askIdentity(t *testing.T, address string, headers ...string) (status int, answer map[string]string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %d, not an object of strings: %v", address, res.StatusCode, err)
	}
	if res.StatusCode == http.StatusOK && answer["access_token"] == "" ||
		res.StatusCode != http.StatusOK && (answer["error"] == "" || answer["error_description"] == "") {
		t.Errorf("%s: %d %v", address, res.StatusCode, answer)
	}
	return res.StatusCode, answer
}

// TestManagedIdentityConnections opens more connections to the endpoint than it allows.
func TestManagedIdentityConnections(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, server.Config{IdentityEndpoint: "127.0.0.1:0", IdentityEndpointFor: []string{"app"}})
	if _, err := s.Directory().CreateApplication(t.Context(),
		identity.Creation{Tenant: s.Operator().TenantID, Name: "app"}); err != nil {
		t.Fatal(err)
	}
	endpoint, header := identityVariables(t, s)
	at, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for range 300 {
		c, err := net.Dial("tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	if status, answer := askIdentity(t, endpoint+"?api-version=2019-08-01&resource="+url.QueryEscape(managementPlane),
		"X-IDENTITY-HEADER", header); status != 200 {
		t.Errorf("beside silent connections: %d %v", status, answer)
	}
	// the server itself waits longer for a header
	if err := silent[0].SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := silent[0].Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Errorf("the oldest of 300 connections: %v, want it closed", err)
	}
}

// TestManagedIdentityEndpoint sends valid and invalid requests in both forms.
func TestManagedIdentityEndpoint(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, server.Config{
		IdentityEndpoint: "127.0.0.1:0", IdentityEndpointIMDS: true,
		IdentityEndpointFor: []string{"app", "other", "/subscriptions/s/resourceGroups/g/providers/Microsoft.X/y/z"},
	})
	endpoint, header := identityVariables(t, s)
	imds := strings.Replace(endpoint, "/msi/token", "/metadata/identity/oauth2/token", 1)
	good := []string{"X-IDENTITY-HEADER", header}
	metadata := []string{"Metadata", "true"}
	const version, imdsVersion = "?api-version=2019-08-01&resource=", "?api-version=2018-02-01&resource="
	// None of the named identities exists yet, and an application whose name is that of a resource must not count as
	// one.
	create := func(name string) identity.Principal {
		p, err := s.Directory().CreateApplication(t.Context(),
			identity.Creation{Tenant: s.Operator().TenantID, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if _, err := s.Directory().EnsureManaged(t.Context(), s.Operator().TenantID, "/subscriptions/s/evil/app",
		identity.SystemAssigned); err != nil {
		t.Fatal(err)
	}
	if status, answer := askIdentity(t, endpoint+version+url.QueryEscape(managementPlane), good...); status != 400 ||
		answer["error"] != "invalid_request" {
		t.Errorf("before any identity exists: %d %v", status, answer)
	}
	app, other := create("app"), create("other")
	outsider := create("outsider")
	if status, answer := askIdentity(t, endpoint+version+url.QueryEscape(managementPlane), good...); status != 400 ||
		!strings.Contains(answer["error_description"], "Several") {
		t.Errorf("several identities, and none is named: %d %v", status, answer)
	}
	only := "&client_id=" + app.ClientID
	for _, audience := range []string{managementPlane + "/", facePlane, s.URL,
		strings.Replace(s.URL, "localhost", "vault.localhost", 1)} {
		status, answer := askIdentity(t, endpoint+version+url.QueryEscape(audience)+only, good...)
		who, err := s.Directory().Verify(t.Context(), answer["access_token"], audience)
		if status != 200 || err != nil || who.ObjectID != app.ID || answer["client_id"] != app.ClientID ||
			answer["expires_on"] == "" {
			t.Errorf("for %s: %d %v %v", audience, status, who, err)
		}
	}
	system, err := s.Directory().EnsureManaged(t.Context(), s.Operator().TenantID,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.X/y/z", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	face := url.QueryEscape(facePlane)
	for _, c := range []struct {
		name, address string
		headers       []string
		status        int
		want          string // the client id, or the error
	}{
		{"the system-assigned one when none is named", endpoint + version + face, good, 200, system.ClientID},
		{"by object id", endpoint + version + face + "&object_id=" + other.ID, good, 200, other.ClientID},
		{"by the path of its resource", endpoint + version + face + "&mi_res_id=" +
			url.QueryEscape(strings.ToUpper(system.Resource)), good, 200, system.ClientID},
		{"of 2017", endpoint + "/?api-version=2017-09-01&resource=" + face + "&clientid=" + app.ClientID,
			[]string{"secret", header}, 200, app.ClientID},
		{"no header", endpoint + version + face + only, nil, 401, "unauthorized"},
		{"a wrong header", endpoint + version + face + only, []string{"X-IDENTITY-HEADER", header[1:]}, 401,
			"unauthorized"},
		{"the header of IMDS at App Service", endpoint + version + face + only, metadata, 401, "unauthorized"},
		{"another version", endpoint + "?api-version=2020-01-01&resource=" + face + only, good, 400, "invalid_request"},
		{"no resource", endpoint + "?api-version=2019-08-01" + only, good, 400, "invalid_resource"},
		{"nobody's resource", endpoint + version + "https://graph.example" + only, good, 400, "invalid_resource"},
		{"one that was not named", endpoint + version + face + "&client_id=" + outsider.ClientID, good, 400,
			"invalid_request"},
		{"the operator", endpoint + version + face + "&client_id=" + s.Operator().ClientID, good, 400,
			"invalid_request"},
		{"named in two ways", endpoint + version + face + only + "&object_id=" + app.ID, good, 400, "invalid_request"},
		{"given twice", endpoint + version + face + only + only, good, 400, "invalid_request"},
		{"through a proxy", endpoint + version + face + only, append([]string{"X-Forwarded-For", "10.0.0.1"}, good...),
			400, "invalid_request"},
		{"IMDS", imds + imdsVersion + face + only, metadata, 200, app.ClientID},
		{"IMDS at its own address", imds + imdsVersion + face + only,
			append([]string{"Host", "169.254.169.254"}, metadata...), 200, app.ClientID},
		{"IMDS probed", imds, nil, 400, "bad_request_102"},
		{"IMDS through a proxy", imds + imdsVersion + face + only,
			append([]string{"X-Forwarded-For", "10.0.0.1"}, metadata...), 400, "invalid_request"},
		{"IMDS by a name", imds + imdsVersion + face + only, append([]string{"Host", "rebound.example"}, metadata...),
			400, "invalid_request"},
		{"IMDS without a version", imds + "?resource=" + face + only, metadata, 400, "invalid_request"},
		{"IMDS for nobody", imds + imdsVersion + "nobody" + only, metadata, 400, "invalid_resource"},
		{"another path", strings.Replace(endpoint, "/msi/token", "/face/v1.0/detect", 1), good, 404, "invalid_request"},
	} {
		status, answer := askIdentity(t, c.address, c.headers...)
		if got := answer["client_id"] + answer["error"]; status != c.status || got != c.want {
			t.Errorf("%s: %d %q (%s), want %d %q", c.name, status, got, answer["error_description"], c.status, c.want)
		}
	}
	// The planes' own listener serves none of these paths.
	for _, path := range []string{"/msi/token", "/metadata/identity/oauth2/token"} {
		res, err := s.Client.Get(s.URL + path + version + face + only)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == 200 {
			t.Errorf("%s is answered by the planes' listener", path)
		}
	}
	res, err := s.Client.Get(s.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text strings.Builder
	if err := res.Write(&text); err != nil ||
		!strings.Contains(text.String(),
			`visage_api_requests_total{plane="identity",route="GET /msi/token",status="401"} 3`) {
		t.Errorf("the metrics do not count the refusals: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range entries(t, s.Dir()) {
		switch {
		case e.Kind == audit.IdentityToken:
			seen[string(e.Outcome)+" "+e.Details[audit.DetailSubject]+" "+e.Details[audit.DetailAudience]] = true
		case e.Kind == audit.AccessRefuse && e.Details[audit.DetailPlane] == "identity":
			seen[e.Code+" "+e.Details[audit.DetailOperation]] = true
		}
	}
	for _, want := range []string{
		string(audit.Done) + " " + app.ID + " " + managementPlane + "/",
		string(audit.Done) + " " + system.ID + " " + facePlane,
		string(audit.Refused) + " " + app.ID + " ", "unauthorized GET /msi/token", "invalid_request GET /msi/token",
		"invalid_request GET /metadata/identity/oauth2/token",
	} {
		if !seen[want] {
			t.Errorf("the audit log has no entry for %q: %v", want, seen)
		}
	}
	if seen["bad_request_102 GET /metadata/identity/oauth2/token"] {
		t.Error("the audit log has an entry for a client's probe")
	}
}

// TestManagedIdentityEndpointKeepsItsSecret restarts a server: programs continue with the same secret, which changes
// when its file is deleted.
func TestManagedIdentityEndpointKeepsItsSecret(t *testing.T) {
	t.Parallel()
	cfg := server.Config{Dir: filepath.Join(t.TempDir(), "visage"), IdentityEndpoint: "127.0.0.1:0",
		IdentityEndpointFor: []string{"operator"}}
	start := func() string {
		s := servertest.Start(t, cfg)
		endpoint, header := identityVariables(t, s)
		status, answer := askIdentity(t, endpoint+"?api-version=2019-08-01&resource="+url.QueryEscape(managementPlane),
			"X-IDENTITY-HEADER", header)
		if status != 200 || answer["client_id"] != s.Operator().ClientID {
			t.Errorf("the operator, who was named: %d %v", status, answer)
		}
		imds := strings.Replace(endpoint, "/msi/token", "/metadata/identity/oauth2/token", 1)
		if status, answer := askIdentity(t, imds+"?api-version=2018-02-01&resource="+url.QueryEscape(managementPlane),
			"Metadata", "true"); status != 404 {
			t.Errorf("IMDS, which is not enabled: %d %v", status, answer)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		return header
	}
	first := start()
	if again := start(); again != first {
		t.Error("a restart changes the secret")
	}
	if err := os.Remove(filepath.Join(cfg.Dir, server.IdentityEndpointFile)); err != nil {
		t.Fatal(err)
	}
	if renewed := start(); renewed == first || len(renewed) < 32 {
		t.Error("deleting the file does not change the secret")
	}
}

func TestManagedIdentitySettings(t *testing.T) {
	for _, c := range []struct {
		cfg  server.Config
		want string
	}{
		{server.Config{IdentityEndpoint: "0.0.0.0:8444", IdentityEndpointFor: []string{"app"}}, "identity-endpoint"},
		{server.Config{IdentityEndpoint: ":8444", IdentityEndpointFor: []string{"app"}}, "identity-endpoint"},
		{server.Config{IdentityEndpoint: "169.254.169.254:80", IdentityEndpointFor: []string{"app"}},
			"identity-endpoint"},
		{server.Config{IdentityEndpoint: "localhost", IdentityEndpointFor: []string{"app"}}, "identity-endpoint"},
		{server.Config{IdentityEndpoint: "127.0.0.1:8444"}, "identity-endpoint-for"},
		{server.Config{IdentityEndpointFor: []string{"app"}}, "identity-endpoint"},
		{server.Config{IdentityEndpointIMDS: true}, "identity-endpoint"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want+":") {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	if err := (server.Config{IdentityEndpoint: "[::1]:8444", IdentityEndpointFor: []string{"app"}}).
		Validate(); err != nil {
		t.Error(err)
	}
}

// TestGoManagedIdentity lets the unmodified official Go credentials find the endpoint from the environment.
func TestGoManagedIdentity(t *testing.T) {
	s := servertest.Start(t, server.Config{IdentityEndpoint: "127.0.0.1:0", IdentityEndpointFor: []string{"app"}})
	app, err := s.Directory().CreateApplication(t.Context(),
		identity.Creation{Tenant: s.Operator().TenantID, Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, header := identityVariables(t, s)
	t.Setenv("IDENTITY_ENDPOINT", endpoint)
	t.Setenv("IDENTITY_HEADER", header)
	system, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	user,
		err := azidentity.NewManagedIdentityCredential(
		&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(app.ClientID)},
	)
	if err != nil {
		t.Fatal(err)
	}
	stranger,
		err := azidentity.NewManagedIdentityCredential(
		&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(s.Operator().ClientID)},
	)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	scopes := policy.TokenRequestOptions{Scopes: []string{managementPlane + "/.default"}}
	for name, credential := range map[string]azcore.TokenCredential{"system": system, "user": user, "default": chain} {
		got, err := credential.GetToken(t.Context(), scopes)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if who, err := s.Directory().Verify(t.Context(), got.Token, managementPlane); err != nil ||
			who.ObjectID != app.ID {
			t.Errorf("%s: %v %v", name, who, err)
		}
	}
	if _, err := stranger.GetToken(t.Context(), scopes); err == nil ||
		!strings.Contains(err.Error(), "Identity not found") {
		t.Errorf("one that was not named: %v", err)
	}
}

// TestGoWorkloadIdentity gives the official credential the token of another issuer in a file, as Kubernetes does.
func TestGoWorkloadIdentity(t *testing.T) {
	issuer := servertest.Start(t, server.Config{})
	const audience = "https://management.azure.com"
	address := issuer.URL + "/" + issuer.Operator().TenantID + "/v2.0"
	s := servertest.Start(
		t, server.Config{TrustedIssuers: []string{address + "=" + audience}, IssuerCAFile: issuer.Operator().CAFile},
	)
	app, err := s.Directory().CreateApplication(t.Context(),
		identity.Creation{Tenant: s.Operator().TenantID, Name: "pod"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(issuer.Token(t, audience)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AZURE_FEDERATED_TOKEN_FILE": file, "AZURE_CLIENT_ID": app.ClientID, "AZURE_TENANT_ID": s.Operator().TenantID,
		"AZURE_AUTHORITY_HOST": s.URL,
	} {
		t.Setenv(name, value)
	}
	scopes := policy.TokenRequestOptions{Scopes: []string{managementPlane + "/.default"}}
	ask := func(tenant string) error {
		// The authority comes from the environment. AZURE_TENANT_ID of "adfs" needs no option at all.
		t.Setenv("AZURE_TENANT_ID", tenant)
		options := &azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: policy.ClientOptions{Transport: s.Client,
				Retry: policy.RetryOptions{MaxRetries: -1}, Cloud: cloud.Configuration{}},
			DisableInstanceDiscovery: tenant != "adfs",
		}
		credential, err := azidentity.NewWorkloadIdentityCredential(options)
		if err != nil {
			return err
		}
		got, err := credential.GetToken(t.Context(), scopes)
		if err != nil {
			return err
		}
		who, err := s.Directory().Verify(t.Context(), got.Token, managementPlane)
		if err == nil && who.ObjectID != app.ID {
			t.Errorf("%s: the token is of %s", tenant, who.ObjectID)
		}
		return err
	}
	if err := ask(s.Operator().TenantID); err == nil {
		t.Error("a subject without trust gets a token")
	}
	if err := s.Directory().SetSubjects(t.Context(), app.ID,
		[]identity.Subject{{Issuer: address, Name: issuer.Operator().ClientID}}); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{s.Operator().TenantID, "adfs"} {
		if err := ask(tenant); err != nil {
			t.Errorf("tenant %s: %v", tenant, err)
		}
	}
}
