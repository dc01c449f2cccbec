package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// provider is an OpenID provider of a workload identity pool.
type provider struct {
	Name      string          `json:"name"`
	Issuer    string          `json:"issuer"`
	Audiences []string        `json:"audiences"` // none: https://iam.googleapis.com/NAME
	JWKS      json.RawMessage `json:"jwks"`      // the issuer's keys; or the address from which they are fetched:
	JWKSURL   string          `json:"jwksUrl"`
	CA        string          `json:"ca"` // PEM, of that address
	// Subjects is the attribute condition: the ones that are accepted. None: all.
	Subjects []string `json:"subjects"`
	Disabled bool     `json:"disabled"`
}

// pool is the workload identity pool of a provider.
func (p provider) pool() string { return parent(p.Name) }

// keysOf returns the keys of a provider's issuer: those that were fetched last, while they cannot be fetched.
func (c *cloud) keysOf(p provider) (jose.JSONWebKeySet, error) {
	set, err := p.fetch()
	if known, found := c.fetched[p.JWKSURL]; err != nil && found {
		return known, nil
	}
	if err == nil && p.JWKSURL != "" {
		c.fetched[p.JWKSURL] = set
	}
	return set, err
}

func (p provider) fetch() (jose.JSONWebKeySet, error) {
	raw := []byte(p.JWKS)
	if p.JWKSURL != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(p.CA))
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, DisableKeepAlives: true,
		}}
		res, err := client.Get(p.JWKSURL)
		if err != nil {
			return jose.JSONWebKeySet{}, err
		}
		defer res.Body.Close()
		if raw, err = io.ReadAll(res.Body); err != nil {
			return jose.JSONWebKeySet{}, err
		}
	}
	var set jose.JSONWebKeySet
	err := json.Unmarshal(raw, &set)
	return set, err
}

func refuse(w http.ResponseWriter, code, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": text})
}

// security is the security token service: it gives a token for an assertion (RFC 8693).
func (c *cloud) security(w http.ResponseWriter, raw []byte) {
	form, err := url.ParseQuery(string(raw))
	if fault := c.faults["sts"]; fault.Code != 0 {
		writeJSON(w, fault.Code, map[string]string{"error": fault.Status, "error_description": fault.Message})
		return
	}
	if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" ||
		form.Get("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token" ||
		form.Get("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" || form.Get("scope") == "" {
		refuse(w, "invalid_request", "The request is not one to exchange a token.")
		return
	}
	p, found := c.providers[strings.TrimPrefix(form.Get("audience"), "//iam.googleapis.com/")]
	if !found || p.Disabled {
		refuse(w, "invalid_target", `The target service indicated by the "audience" parameters is invalid. This might `+
			`either be because the pool or provider is disabled or deleted or because it doesn't exist.`)
		return
	}
	subject, code, err := c.verify(p, form.Get("subject_token"))
	if err != nil {
		refuse(w, code, "%v", err)
		return
	}
	given := c.issue("principal://iam.googleapis.com/"+p.pool()+"/subject/"+subject, form.Get("scope"))
	writeJSON(w, http.StatusOK, map[string]any{"access_token": given, "token_type": "Bearer", "expires_in": 3599,
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
}

// verify returns the subject of an assertion, or the code of an error.
func (c *cloud) verify(p provider, assertion string) (subject, code string, err error) {
	const bad = "invalid_grant"
	parsed, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return "", bad, errors.New("Unable to parse the ID Token.")
	}
	keys, err := c.keysOf(p)
	if err != nil {
		return "", bad, errors.New("Error connecting to the given credential's issuer.")
	}
	var claims jwt.Claims
	if parsed.Claims(keys, &claims) != nil {
		return "", bad, errors.New("Unable to verify the ID Token signature.")
	}
	audiences := p.Audiences
	if len(audiences) == 0 {
		audiences = []string{"https://iam.googleapis.com/" + p.Name, "//iam.googleapis.com/" + p.Name}
	}
	switch now := time.Now(); {
	case claims.Issuer != p.Issuer:
		return "", bad, fmt.Errorf("The issuer in ID Token %s does not match the expected ones: %s.", claims.Issuer,
			p.Issuer)
	case !slices.ContainsFunc(audiences, claims.Audience.Contains):
		return "", bad, fmt.Errorf("The audience in ID Token %v does not match the expected audience %s.",
			claims.Audience, audiences[0])
	case claims.IssuedAt == nil || claims.Expiry == nil ||
		claims.Expiry.Time().Sub(claims.IssuedAt.Time()) > 24*time.Hour:
		return "", bad, errors.New("The ID Token lacks iat or exp, or lives for more than 24 hours.")
	case now.After(claims.Expiry.Time()):
		return "", bad, fmt.Errorf("ID Token issued at %d is stale to sign-in.", claims.IssuedAt.Time().Unix())
	case len(p.Subjects) > 0 && !slices.Contains(p.Subjects, claims.Subject):
		return "", "unauthorized_client", errors.New("The given credential is rejected by the attribute condition.")
	}
	return claims.Subject, "", nil
}

func (c *cloud) issue(principal, scope string) string {
	given := "ya29." + rand.Text()
	c.tokens[given] = token{principal, scope, time.Now().Add(time.Hour)}
	return given
}

// serviceAccount is a service account. Members may act as it (roles/iam.workloadIdentityUser).
type serviceAccount struct {
	Email    string   `json:"email"`
	Members  []string `json:"members"`
	Disabled bool     `json:"disabled"`
	public   *rsa.PublicKey
}

// create gives the account a key, and returns the file of it.
func (a *serviceAccount) create() (map[string]string, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	a.public = &private.PublicKey
	return map[string]string{
		"type": "service_account", "client_email": a.Email, "private_key_id": rand.Text(),
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "https://oauth2.googleapis.com/token",
	}, nil
}

// generate gives the token of a service account (google.iam.credentials.v1.IAMCredentials.GenerateAccessToken).
func (c *cloud) generate(w http.ResponseWriter, r *http.Request) {
	t, err := c.authenticate(r, "cloud-platform")
	if err != nil {
		writeFailure(w, err)
		return
	}
	email := strings.TrimPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/")
	email = strings.TrimSuffix(email, ":generateAccessToken")
	a := c.accounts[email]
	switch {
	case a == nil:
		writeFailure(w, fail("NOT_FOUND", "Unknown service account %s.", email))
	case a.Disabled || !slices.Contains(a.Members, t.principal):
		writeFailure(w, &failure{http.StatusForbidden, "PERMISSION_DENIED", "Permission " +
			"'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).", "IAM_PERMISSION_DENIED"})
	default:
		writeJSON(w, http.StatusOK, map[string]any{
			"accessToken": c.issue("serviceAccount:"+email, "https://www.googleapis.com/auth/cloudkms"),
			"expireTime":  time.Now().Add(5 * time.Minute).UTC().Format(time.RFC3339),
		})
	}
}

// oauth gives a token for an assertion that the key of a service account has signed (RFC 7523).
func (c *cloud) oauth(w http.ResponseWriter, raw []byte) {
	form, err := url.ParseQuery(string(raw))
	if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		refuse(w, "unsupported_grant_type", "Invalid grant_type.")
		return
	}
	parsed, err := jwt.ParseSigned(form.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		refuse(w, "invalid_grant", "Invalid JWT: Failed to decode.")
		return
	}
	var claims struct {
		jwt.Claims
		Scope string `json:"scope"`
	}
	if parsed.UnsafeClaimsWithoutVerification(&claims) != nil || c.accounts[claims.Issuer] == nil {
		refuse(w, "invalid_grant", "Invalid grant: account not found")
		return
	}
	a := c.accounts[claims.Issuer]
	switch now := time.Now(); {
	case parsed.Claims(a.public, &claims) != nil:
		refuse(w, "invalid_grant", "Invalid JWT Signature.")
	case claims.IssuedAt == nil || claims.Expiry == nil || now.After(claims.Expiry.Time()) ||
		!claims.Audience.Contains("https://oauth2.googleapis.com/token"):
		refuse(w, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "+
			"timeframe. Check your iat and exp values in the JWT claim.")
	case a.Disabled:
		refuse(w, "invalid_grant", "Account disabled: %s", a.Email)
	default:
		writeJSON(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3599,
			"access_token": c.issue("serviceAccount:"+a.Email, claims.Scope)})
	}
}
