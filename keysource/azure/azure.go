// Package azure wraps under keys in vaults that speak the Azure Key Vault protocol: those in Azure, and the built-in
// ones.
package azure

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/weakkey"
	"github.com/visage-face/visage/keysource"
)

// Credential gets tokens for one principal. Every call returns a new token; the source keeps it until it expires or is
// refused. An error that wraps keysource.ErrDenied means that the principal or its secret certainly no longer exists;
// any other error means that no answer came. It may be called from many goroutines.
type Credential interface {
	Token(ctx context.Context, scope string) (token string, expires time.Time, err error)
}

// Config selects the vaults that may be used, and the way to them.
type Config struct {
	// Hosts are further hosts of vaults, as visage.Origin.Host writes them: "v1.vault.localhost:8443". One that begins
	// with a dot is a suffix, and the name before it must be a vault's. Azure's own suffixes are always allowed.
	Hosts []string
	// Scope is the scope of the requested tokens, whatever a vault's challenge names, so that no host receives a token
	// for another service. Default: "https://" with the host's suffix, and "/.default".
	Scope string
	// Roots are the authorities that may sign a vault's certificate. Default: the system's.
	Roots *x509.CertPool
	// Dial connects to a vault. Default: the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// The HTTP policy. Callers poll sources, so nothing is retried here.
const (
	deadline = 5 * time.Second // of a call, including its challenge and its token
	// of a connection and of its handshake, with which the transport goes on when its caller has left; the latter is
	// longer than a call, whose end says more
	dialTime      = 5 * time.Second
	handshakeTime = 10 * time.Second
	idleTime      = 60 * time.Second // longer than the interval of polls, so that a heartbeat costs no handshake
	// connections that are kept open between calls: a vault is asked for many keys a few at a time
	idlePerVault = 8
	bufferSize   = 2 << 10  // of a connection; requests and answers have about this length
	maxAnswer    = 64 << 10 // bytes of an answer that are read; a key with all its tags has about 8,000
	algorithm    = "RSA-OAEP-256"
	apiScopeTail = "/.default"
)

// suffixes are the host suffixes of vaults in Azure's clouds.
var suffixes = []string{".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net"}

// vaultName matches the part of a host before a suffix (key vault contract §A1).
var vaultName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{1,22})[a-z0-9]$`)

// Vaults opens sources that share the connections to each vault, so that many keys need few connections. Idle
// connections are closed after a minute. It is safe for concurrent use.
type Vaults struct {
	cfg       Config
	transport *transport
}

// NewVaults returns the vaults that cfg allows. Nothing is sent yet.
func NewVaults(cfg Config) *Vaults {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTime}).DialContext
	}
	return &Vaults{cfg, &transport{http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
			TLSHandshakeTimeout:    handshakeTime,
			IdleConnTimeout:        idleTime,
			MaxIdleConnsPerHost:    idlePerVault,
			ReadBufferSize:         bufferSize,
			WriteBufferSize:        bufferSize,
			MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}}
}

// Source is a keysource.Source over one key. It has a token of its own, and the shared connections of its Vaults.
type Source struct {
	key    visage.KeyRef
	client *azkeys.Client
}

// ParseAddress returns the address of a vault in its one spelling.
func ParseAddress(address string) (string, error) {
	key, err := newKey(address, "any", "")
	return key.Vault, err
}

// Open returns a source over key, which wraps with the version in key or, if there is none, with the newest. Nothing is
// sent yet. Hosts that are not allowed are refused.
func (v *Vaults) Open(key visage.KeyRef, credential Credential) (*Source, error) {
	checked, err := newKey(key.Vault, key.Name, key.Version)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	host := strings.TrimPrefix(checked.Vault, "https://")
	suffix, ok := v.cfg.allowed(host)
	if !ok {
		return nil, fmt.Errorf("open key %s: host %s is not one of the vaults that this instance may use", checked,
			host)
	}
	if credential == nil {
		return nil, fmt.Errorf("open key %s: no credential", checked)
	}
	scope := v.cfg.Scope
	if scope == "" {
		scope = "https://" + strings.TrimPrefix(suffix, ".") + apiScopeTail
	}
	client, err := azkeys.NewClient(checked.Vault, tokens{credential, scope}, &azkeys.ClientOptions{
		ClientOptions: azcore.ClientOptions{
			Retry:     policy.RetryOptions{MaxRetries: -1},
			Telemetry: policy.TelemetryOptions{Disabled: true},
			Transport: v.transport,
		},
		// The scope is pinned above, which is stricter than comparing the challenge with the host.
		DisableChallengeResourceVerification: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", checked, err)
	}
	return &Source{key: checked, client: client}, nil
}

// InAzure reports whether key lies in a vault of one of Azure's clouds.
func InAzure(key visage.KeyRef) bool {
	_, ok := Config{}.allowed(strings.TrimPrefix(key.Vault, "https://"))
	return ok
}

// allowed returns the suffix that allows a host; an exactly allowed host is its own suffix.
func (c Config) allowed(host string) (suffix string, ok bool) {
	for _, h := range slices.Concat(suffixes, c.Hosts) {
		h = strings.ToLower(h)
		if name, found := strings.CutSuffix(host, h); found &&
			(name == "" || h[0] == '.' && vaultName.MatchString(name)) {
			return h, host != ""
		}
	}
	return "", false
}

// Wrap implements keysource.Source. The vault wraps, with an explicit version: this checks the permission and leaves an
// entry in the vault's log, which wrapping here with the public key would not.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	version := s.key.Version
	if version == "" {
		newest, err := s.Describe(ctx, keysource.Ref{})
		if err != nil {
			return nil, keysource.Ref{}, err
		}
		version = newest.Ref.Version
	}
	var blob []byte
	err := s.call(ctx, "wrap", func(ctx context.Context) error {
		res, err := s.client.WrapKey(ctx, s.key.Name, version, parameters(inner), nil)
		if err != nil {
			return err
		}
		blob = res.Result
		return s.sameKey(res.KID, version)
	})
	if err == nil && len(blob) < 256 {
		err = s.failure("wrap", keysource.ErrUnknown, "",
			fmt.Sprintf("the vault answered with %d bytes, too few for any key", len(blob)))
	}
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	return blob, keysource.Ref{URI: s.key.Unversioned(), Version: version}, nil
}

// Unwrap implements keysource.Source.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.mine("unwrap", ref); err != nil {
		return nil, err
	}
	if len(blob) == 0 {
		return nil, s.failure("unwrap", keysource.ErrWrong, "", "the wrapped key is empty")
	}
	var inner []byte
	err := s.call(ctx, "unwrap", func(ctx context.Context) error {
		res, err := s.client.UnwrapKey(ctx, s.key.Name, ref.Version, parameters(blob), nil)
		if err != nil {
			return err
		}
		inner = res.Result
		return s.sameKey(res.KID, ref.Version)
	})
	if err == nil && len(inner) == 0 {
		err = s.failure("unwrap", keysource.ErrUnknown, "", "the vault answered without a value")
	}
	if err != nil {
		clear(inner)
		return nil, err
	}
	return inner, nil
}

// Describe implements keysource.Source. It needs the permission to get the key, which neither wrapping at a known
// version nor unwrapping does.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	version := s.key.Version
	if ref != (keysource.Ref{}) {
		if err := s.mine("get", ref); err != nil {
			return keysource.Description{}, err
		}
		version = ref.Version
	}
	var d keysource.Description
	err := s.call(ctx, "get", func(ctx context.Context) error {
		res, err := s.client.GetKey(ctx, s.key.Name, version, nil)
		if err != nil {
			return err
		}
		if res.Key == nil || res.Key.KID == nil || res.Attributes == nil || res.Attributes.Enabled == nil {
			return errors.New("the answer describes no key")
		}
		found := version
		if found == "" {
			ref, err := parseKeyID(string(*res.Key.KID))
			if err != nil || ref.Version == "" {
				return errors.New("the answer names no version of a key")
			}
			found = ref.Version
		}
		d = describe(res.KeyBundle)
		d.Ref = keysource.Ref{URI: s.key.Unversioned(), Version: found}
		return s.sameKey(res.Key.KID, found)
	})
	if err != nil {
		return keysource.Description{}, err
	}
	return d, nil
}

func describe(k azkeys.KeyBundle) keysource.Description {
	d := keysource.Description{Algorithm: algorithm, Enabled: *k.Attributes.Enabled, Operations: []string{}}
	if k.Key.Kty != nil {
		d.KeyType = string(*k.Key.Kty)
	}
	if n := slices.IndexFunc(k.Key.N, func(b byte) bool { return b != 0 }); n >= 0 {
		d.Bits = (len(k.Key.N) - n) * 8
		if err := weakkey.Public(new(big.Int).SetBytes(k.Key.N), new(big.Int).SetBytes(k.Key.E)); err != nil {
			d.Weak = err.Error()
		}
	}
	for _, op := range k.Key.KeyOps {
		if op != nil {
			d.Operations = append(d.Operations, string(*op))
		}
	}
	if k.Attributes.NotBefore != nil {
		d.NotBefore = *k.Attributes.NotBefore
	}
	if k.Attributes.Expires != nil {
		d.Expires = *k.Attributes.Expires
	}
	if k.Attributes.RecoveryLevel != nil {
		d.Recovery = *k.Attributes.RecoveryLevel
	}
	return d
}

func parameters(value []byte) azkeys.KeyOperationParameters {
	oaep := azkeys.EncryptionAlgorithmRSAOAEP256
	return azkeys.KeyOperationParameters{Algorithm: &oaep, Value: value}
}

// mine checks that ref names a version of this key: without a version, the vault would use its newest.
func (s *Source) mine(verb string, ref keysource.Ref) error {
	if ref.URI != s.key.Unversioned() || ref.Version == "" {
		return s.failure(verb, keysource.ErrWrong, "",
			fmt.Sprintf("%s, version %q, is another key", ref.URI, ref.Version))
	}
	return nil
}

// errOtherKey is a vault's answer for another key than the requested one.
type errOtherKey struct{ kid string }

func (e errOtherKey) Error() string { return fmt.Sprintf("the vault answered for key %.300q", e.kid) }

func (s *Source) sameKey(kid *azkeys.ID, version string) error {
	if kid == nil {
		return errors.New("the answer names no key")
	}
	got, err := parseKeyID(string(*kid))
	if err != nil || !got.SameKey(s.key) || got.Version != version {
		return errOtherKey{string(*kid)}
	}
	return nil
}

// call makes one call within the deadline and classifies its error.
func (s *Source) call(ctx context.Context, verb string, do func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	within, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	err := do(within)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.classify(verb, err)
}

// tokens supplies the official client with the tokens of a credential.
type tokens struct {
	credential Credential
	scope      string
}

// errToken is a failure to get a token.
type errToken struct{ err error }

func (e errToken) Error() string { return "get a token: " + e.err.Error() }

// GetToken implements azcore.TokenCredential. The scope in the vault's challenge is ignored: see Config.Scope.
func (t tokens) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, expires, err := t.credential.Token(ctx, t.scope)
	if err != nil {
		return azcore.AccessToken{}, errToken{err}
	}
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, nil
}

// transport bounds the length of answers, and rejects challenges that would make the client's parser panic.
type transport struct{ http.Client }

// Do implements policy.Transporter.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	res, err := t.Client.Do(req)
	if err != nil {
		return nil, err
	}
	id := cmp.Or(res.Header.Get("x-ms-request-id"), res.Header.Get("X-Request-ID")) // Azure's, the built-in vault's
	keysource.TraceOf(req.Context()).Answered(id)
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	if challenge := res.Header.Get("WWW-Authenticate"); res.StatusCode == http.StatusUnauthorized && challenge != "" &&
		!readable(challenge) {
		res.Body.Close() // its content is not needed, and an error of Close does not matter
		return nil, errors.New("the vault's authentication challenge is malformed")
	}
	return res, nil
}

// readable reports whether a challenge names a token endpoint with a tenant: the client reads the fourth segment of
// that address without checking that it exists.
func readable(challenge string) bool {
	named := false
	for part := range strings.SplitSeq(strings.ReplaceAll(challenge, "Bearer ", ""), " ") {
		name, value, _ := strings.Cut(part, "=")
		if name != "authorization" {
			continue
		}
		u, err := url.Parse(strings.Trim(value, `",`))
		if err != nil || u.Scheme != "https" || u.Host == "" || len(u.Path) < 2 {
			return false
		}
		named = true
	}
	return named
}
