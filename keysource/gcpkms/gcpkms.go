// Package gcpkms wraps under keys of Google Cloud KMS, over its published REST definition.
//
// A key is symmetric (GOOGLE_SYMMETRIC_ENCRYPTION) or an RSA key for decryption with OAEP and SHA-256 or SHA-512, of
// 2048 bits or more. A symmetric key binds the label of a call, and the version that wrapped, to the wrapped form as
// additional authenticated data. Cloud KMS encrypts with no asymmetric key: the public key of the version wraps here,
// and the service itself opens what was wrapped before Wrap returns it.
//
// The principal needs the permissions cloudkms.cryptoKeys.get, cloudkms.cryptoKeyVersions.get and, on the key,
// cloudkms.cryptoKeyVersions.useToEncrypt and useToDecrypt (for RSA useToDecrypt and viewPublicKey).
package gcpkms

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// The HTTP policy. Callers poll sources, so nothing is retried here but a login.
const (
	deadline  = 5 * time.Second // of a call of a source, with its login
	maxAnswer = 1 << 20         // bytes of an answer that are read; a key and a version have about 2,000 together
	// how long a token is used: shorter than the interval of polls, so that every poll asks whether the principal may
	// still log in, however long tokens live
	tokenLife = 20 * time.Second
)

// The services, by the first label of their names.
const (
	kms         = "cloudkms"
	sts         = "sts"            // exchanges an assertion for a token
	credentials = "iamcredentials" // gives the token of a service account
	oauth2      = "oauth2"         // gives a token for the key of a service account
)

// serviceMark stands for the name of a service in Config.Endpoint.
const serviceMark = "{service}"

// Config is the way to the services.
type Config struct {
	// Endpoint is the base address of the services: https and a host, in which {service} stands for cloudkms, sts,
	// iamcredentials and oauth2. Default: https://{service}.googleapis.com. A private endpoint may be
	// https://{service}-NAME.p.googleapis.com.
	Endpoint string
	// Roots are the authorities that may sign the certificates of the services. Default: the system's.
	Roots *x509.CertPool
	// Dial connects to a service. Default: the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Listener returns the host and port of Cloud KMS for a value of Config.Endpoint that NewServices has accepted.
func Listener(endpoint string) string {
	u, err := url.Parse(strings.ReplaceAll(cmp.Or(endpoint, public), serviceMark, kms))
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
}

// public is the endpoint of Google's public services.
const public = "https://" + serviceMark + ".googleapis.com"

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(strings.ReplaceAll(endpoint, serviceMark, kms))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" ||
		u.Fragment != "" {
		return fmt.Errorf("the endpoint is https:// and a host, in which %s may stand for the name of each service; "+
			"got %.200q", serviceMark, endpoint)
	}
	return nil
}

// Services opens sources that share the connections to Google's services. It is safe for concurrent use.
type Services struct {
	client    *http.Client
	endpoint  string
	tokenLife time.Duration
}

// NewServices returns the services that cfg leads to. Nothing is sent yet.
func NewServices(cfg Config) (*Services, error) {
	endpoint := cmp.Or(cfg.Endpoint, public)
	if err := checkEndpoint(endpoint); err != nil {
		return nil, err
	}
	client := answer.Client(cfg.Roots, cfg.Dial, maxAnswer)
	return &Services{client, endpoint, tokenLife}, nil
}

// Source is a keysource.Source over one key. It has tokens of its own, and the shared connections of its Services.
type Source struct {
	key      visage.KeyRef
	name     string // of the key in requests
	login    Login
	services *Services
	session  chan session // holds one; a call that logs in keeps it meanwhile
}

// Open returns a source over key, which wraps with the version in key or, if there is none, with the primary version.
// Nothing is sent yet.
func (s *Services) Open(key visage.KeyRef, login Login) (*Source, error) {
	if parsed, err := ParseKey(key.Vault, key.Name, key.Version); err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	} else if parsed != key {
		return nil, fmt.Errorf("open key: %s is not in its one spelling, which is %s", key, parsed)
	}
	if login == nil {
		return nil, fmt.Errorf("open key %s: no login", key)
	}
	src := &Source{key: key, name: resource(key), login: login, services: s, session: make(chan session, 1)}
	src.session <- session{}
	return src, nil
}

// The wrapped form: a byte that says how it was made, and the ciphertext as the service or the public key made it.
const (
	unlabelled = 1 // symmetric, without a label
	labelled   = 2 // symmetric, with the label bound to it
	byRSA      = 3
)

// Wrap implements keysource.Source. It reads the key or the version first, and encrypts with that version by name: the
// service itself may use the earlier primary version for hours after a change.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	o, ctx, end := s.begin(ctx, "wrap")
	defer end()
	v, err := o.chosen(ctx)
	if err != nil {
		return nil, keysource.Ref{}, o.classified(err)
	}
	ref := keysource.Ref{URI: s.key.Unversioned(), Version: v.number()}
	var blob []byte
	if v.rsa() {
		blob, err = o.wrapRSA(ctx, v, inner)
	} else {
		blob, err = o.encrypt(ctx, v, inner)
	}
	if err != nil {
		return nil, keysource.Ref{}, o.classified(err)
	}
	return blob, ref, nil
}

func (o operation) encrypt(ctx context.Context, v version, inner []byte) ([]byte, error) {
	label := keysource.LabelOf(ctx).Bytes()
	form := byte(unlabelled)
	if label != nil {
		form = labelled
	}
	aad := o.associated(v.number(), label)
	request := encryptRequest{Plaintext: inner, PlaintextCRC: crcOf(inner), AAD: aad, AADCRC: crcOf(aad)}
	var got encryptAnswer
	if err := o.call(ctx, http.MethodPost, v.Name+":encrypt", request, &got); err != nil {
		return nil, err
	}
	switch {
	case !got.VerifiedPlaintext || !got.VerifiedAAD || len(got.Ciphertext) == 0 ||
		!got.CiphertextCRC.matches(got.Ciphertext):
		return nil, errCorrupted
	case !sameResource(v.Name, got.Name):
		return nil, &keysource.Error{Class: keysource.ErrWrong,
			Text: fmt.Sprintf("version %s was asked for, and %.300q has wrapped", v.number(), got.Name)}
	}
	return append([]byte{form}, got.Ciphertext...), nil
}

// wrapRSA wraps with the public key of a version, and has the service open the result: that asks for the permission to
// unwrap, leaves an entry in the service's log, and shows that the public key is the right one.
func (o operation) wrapRSA(ctx context.Context, v version, inner []byte) ([]byte, error) {
	var public publicKey
	if err := o.call(ctx, http.MethodGet, v.Name+"/publicKey", nil, &public); err != nil {
		return nil, err
	}
	ciphertext, err := public.encrypt(v, inner)
	if err != nil {
		return nil, err
	}
	opened, err := o.decryptRSA(ctx, v.number(), ciphertext)
	defer clear(opened)
	switch {
	case err != nil:
		return nil, err
	case subtle.ConstantTimeCompare(opened, inner) != 1:
		return nil, &keysource.Error{Class: keysource.ErrWrong, Text: "the public key is not that of the version"}
	}
	return append([]byte{byRSA}, ciphertext...), nil
}

// Unwrap implements keysource.Source. A version that is disabled or to be destroyed opens nothing, although the service
// may use it for some time yet: Unwrap reads its state as well. That the state cannot be read is no reason to refuse
// what the service has opened.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	o, ctx, end := s.begin(ctx, "unwrap")
	defer end()
	if err := o.mine(ref); err != nil {
		return nil, err
	}
	if len(blob) < 2 || blob[0] < unlabelled || blob[0] > byRSA {
		return nil, o.failure(keysource.ErrWrong, "", "this source makes no wrapped keys of this form")
	}
	var inner []byte
	var err error
	switch blob[0] {
	case byRSA:
		inner, err = o.decryptRSA(ctx, ref.Version, blob[1:])
	case labelled:
		inner, err = o.decrypt(ctx, blob[1:], o.associated(ref.Version, keysource.LabelOf(ctx).Bytes()))
	default:
		inner, err = o.decrypt(ctx, blob[1:], o.associated(ref.Version, nil))
	}
	if err != nil && !isPrecondition(err) {
		return nil, o.classified(err)
	}
	v, stateErr := o.readVersion(ctx, ref.Version)
	if stateErr == nil {
		stateErr = v.usable()
	}
	if err == nil && !isVerdict(stateErr) {
		return inner, nil
	}
	clear(inner)
	if isVerdict(stateErr) {
		err = stateErr
	}
	return nil, o.classified(err)
}

func (o operation) decrypt(ctx context.Context, ciphertext, aad []byte) ([]byte, error) {
	request := decryptRequest{Ciphertext: ciphertext, CiphertextCRC: crcOf(ciphertext), AAD: aad, AADCRC: crcOf(aad)}
	var got decryptAnswer
	if err := o.call(ctx, http.MethodPost, o.name+":decrypt", request, &got); err != nil {
		return nil, err
	}
	return got.inner()
}

func (o operation) decryptRSA(ctx context.Context, version string, ciphertext []byte) ([]byte, error) {
	request := decryptRequest{Ciphertext: ciphertext, CiphertextCRC: crcOf(ciphertext)}
	var got decryptAnswer
	if err := o.call(ctx, http.MethodPost, o.versionName(version)+":asymmetricDecrypt", request, &got); err != nil {
		return nil, err
	}
	if !got.VerifiedCiphertext {
		clear(got.Plaintext)
		return nil, errCorrupted
	}
	return got.inner()
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ctx.Err() != nil {
		return keysource.Description{}, context.Cause(ctx)
	}
	o, ctx, end := s.begin(ctx, "get")
	defer end()
	asked := s.key.Version
	if ref != (keysource.Ref{}) {
		if err := o.mine(ref); err != nil {
			return keysource.Description{}, err
		}
		asked = ref.Version
	}
	k, err := o.readKey(ctx)
	if err != nil {
		return keysource.Description{}, o.classified(err)
	}
	var v version
	switch {
	case asked != "":
		if v, err = o.readVersion(ctx, asked); err != nil {
			return keysource.Description{}, o.classified(err)
		}
	case k.Primary != nil:
		v = *k.Primary
	}
	d := keysource.Description{
		Ref:       keysource.Ref{URI: s.key.Unversioned(), Version: v.number()},
		Algorithm: v.algorithm(), KeyType: v.Algorithm, Bits: v.bits(), Unfit: k.unfit(v), Enabled: v.State == enabled,
	}
	return d, nil
}

// mine checks that ref names a version of this key.
func (o operation) mine(ref keysource.Ref) error {
	if ref.URI != o.key.Unversioned() || !versionPattern.MatchString(ref.Version) {
		return o.failure(keysource.ErrWrong, "", fmt.Sprintf("%s, version %q, is another key", ref.URI, ref.Version))
	}
	return nil
}

// associated returns the additional authenticated data of a version's use: the version, because an answer to a request
// to decrypt does not name it, and the label.
func (o operation) associated(version string, label []byte) []byte {
	return fmt.Appendf(nil, "visage/gcpkms/v1 %s %s", version, label)
}

// operation is a call of a source.
type operation struct {
	*Source
	verb string // for messages
	// id is the reason of the call's requests in the audit log of Cloud KMS
	id string
}

// begin returns an operation, and a context that ends after the deadline of all its requests.
func (s *Source) begin(ctx context.Context, verb string) (operation, context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errSlow)
	return operation{s, verb, "visage " + visage.NewUUID().String()}, ctx, cancel
}
