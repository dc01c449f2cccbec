package gcpkms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"time"
)

// Login gets an access token from the services. Every call reads its secrets again, so that they can be replaced. An
// error that wraps keysource.ErrDenied means that the principal certainly no longer exists. It may be called from many
// goroutines.
type Login func(ctx context.Context, s *Services) (token string, err error)

// scope is what tokens are for: Cloud KMS alone; federated tokens that become those of a service account need more.
const (
	scope         = "https://www.googleapis.com/auth/cloudkms"
	scopeFederate = "https://www.googleapis.com/auth/cloud-platform"
)

var (
	providerPattern = regexp.MustCompile(`^projects/[1-9][0-9]{0,18}/locations/global/workloadIdentityPools/` +
		`[a-z][a-z0-9-]{3,31}/providers/[a-z][a-z0-9-]{3,31}$`)
	accountPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z0-9.-]{1,100}\.gserviceaccount\.com$`)
)

// CheckProvider refuses what is not the name of an OpenID provider of a workload identity pool.
func CheckProvider(provider string) error {
	if !providerPattern.MatchString(provider) {
		return fmt.Errorf("a provider is projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/"+
			"PROVIDER; got %.300q", provider)
	}
	return nil
}

// CheckServiceAccount refuses what is not the address of a service account.
func CheckServiceAccount(email string) error {
	if !accountPattern.MatchString(email) {
		return fmt.Errorf("a service account is NAME@PROJECT.iam.gserviceaccount.com; got %.200q", email)
	}
	return nil
}

// DefaultAudience is the audience of assertions that a provider accepts unless it is made with others.
func DefaultAudience(provider string) string { return "https://iam.googleapis.com/" + provider }

// WorkloadIdentity logs in with assertions of an OpenID issuer, such as this service for the identities of its
// resources: no secret is stored anywhere. The security token service exchanges an assertion for a token (RFC 8693),
// for the provider of a workload identity pool. The token is that of the assertion's subject or, with a service
// account, that of the account. get returns an assertion for an audience that the provider accepts; it is asked for
// each login, since it alone knows at once that an identity is gone.
func WorkloadIdentity(
	provider, serviceAccount string, get func(ctx context.Context) (assertion string, expires time.Time, err error),
) Login {
	return func(ctx context.Context, s *Services) (string, error) {
		assertion, _, err := get(ctx)
		if err != nil {
			return "", &loginError{fmt.Errorf("get an assertion to log in with: %w", err)}
		}
		asked := scope
		if serviceAccount != "" {
			asked = scopeFederate
		}
		token, err := s.exchange(ctx, sts, "/v1/token", url.Values{
			"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"audience":             {"//iam.googleapis.com/" + provider},
			"scope":                {asked},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
			"subject_token":        {assertion},
		})
		if err != nil || serviceAccount == "" {
			return token, err
		}
		return s.impersonate(ctx, token, serviceAccount)
	}
}

// impersonate gets the token of a service account (projects.serviceAccounts.generateAccessToken of iamcredentials v1).
func (s *Services) impersonate(ctx context.Context, token, serviceAccount string) (string, error) {
	body, err := json.Marshal(map[string]any{"scope": []string{scope}, "lifetime": "300s"})
	if err != nil {
		return "", fmt.Errorf("encode the request: %w", err)
	}
	header := http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
	var got struct {
		Token string `json:"accessToken"`
	}
	path := "/v1/projects/-/serviceAccounts/" + serviceAccount + ":generateAccessToken"
	if _, err := s.send(ctx, credentials, http.MethodPost, path, header, body, &got); err != nil {
		return "", ofLogin(err)
	}
	if got.Token == "" {
		return "", errors.New("the answer to the login holds no token")
	}
	return got.Token, nil
}

// exchange asks a token endpoint of OAuth 2.0.
func (s *Services) exchange(ctx context.Context, service, path string, form url.Values) (string, error) {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	var got struct {
		Token string `json:"access_token"`
	}
	body := []byte(form.Encode())
	defer clear(body)
	if _, err := s.send(ctx, service, http.MethodPost, path, header, body, &got); err != nil {
		return "", ofLogin(err)
	}
	if got.Token == "" {
		return "", errors.New("the answer to the login holds no token")
	}
	return got.Token, nil
}

func ofLogin(err error) error {
	if e, ok := errors.AsType[*refusal](err); ok {
		e.login = true
	}
	return err
}

// maxKeyFile is how much of a key file is read, in bytes; one has about 2,400.
const maxKeyFile = 1 << 16

// ServiceAccountKey logs in with the key of a service account, in a file as Google writes it (RFC 7523 §2.1).
func ServiceAccountKey(file string) Login {
	return func(ctx context.Context, s *Services) (string, error) {
		account, err := readAccount(file)
		if err != nil {
			return "", &loginError{err}
		}
		assertion, err := account.assertion(time.Now())
		if err != nil {
			return "", &loginError{err}
		}
		return s.exchange(ctx, oauth2, "/token", url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion},
		})
	}
}

// account is the file of a service account's key.
type account struct {
	Type  string `json:"type"`
	Email string `json:"client_email"`
	KeyID string `json:"private_key_id"`
	Key   string `json:"private_key"` // PEM
}

func readAccount(file string) (account, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return account{}, fmt.Errorf("read the key of a service account: %w", err)
	}
	defer clear(raw)
	var a account
	if len(raw) > maxKeyFile || json.Unmarshal(raw, &a) != nil || a.Type != "service_account" {
		return account{}, errors.New("the file with the key of a service account is not one that Google writes")
	}
	return a, nil
}

// assertion signs what asks for a token: the account, for the token endpoint, for five minutes.
func (a account) assertion(now time.Time) (string, error) {
	block, _ := pem.Decode([]byte(a.Key))
	if block == nil {
		return "", errors.New("the file with the key of a service account holds no private key")
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return "", errors.New("the file with the key of a service account holds no RSA key")
	}
	head, headErr := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": a.KeyID})
	claims, claimsErr := json.Marshal(map[string]any{
		"iss": a.Email, "aud": "https://oauth2.googleapis.com/token", "scope": scope, "iat": now.Unix(),
		"exp": now.Add(5 * time.Minute).Unix(),
	})
	if err := errors.Join(headErr, claimsErr); err != nil {
		return "", fmt.Errorf("encode the assertion of a service account: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign the assertion of a service account: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// session is a token.
type session struct {
	token string
	until time.Time // when it is replaced; zero: there is none
}

// loginError is the failure to make a login, before anything was sent.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }

// token returns a token that is not the given one, and whether it is new.
func (o operation) token(ctx context.Context, not string) (current session, fresh bool, err error) {
	select {
	case current = <-o.session:
		defer func() { o.session <- current }()
	case <-ctx.Done():
		return session{}, false, context.Cause(ctx)
	}
	if current.token != "" && current.token != not && time.Now().Before(current.until) {
		return current, false, nil
	}
	token, err := o.login(ctx, o.services)
	if isLoginDenied(err) { // perhaps only of a key or a file that had just been replaced
		token, err = o.login(ctx, o.services)
	}
	if err != nil {
		return session{}, false, err
	}
	current = session{token, time.Now().Add(o.services.tokenLife)}
	return current, true, nil
}
