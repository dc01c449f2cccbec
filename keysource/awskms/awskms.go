// Package awskms wraps under keys of AWS Key Management Service.
//
// A key is a symmetric one (SYMMETRIC_DEFAULT, which is AES-256-GCM) or an RSA key for encryption. With a symmetric key
// the label of a call is the encryption context: the key binds it to the wrapped form, AWS writes it into CloudTrail,
// and a key policy can demand it. A source needs kms:DescribeKey, kms:Encrypt and kms:Decrypt on its key.
//
// AWS rotates the material of a key inside and keeps what it has replaced, so that keys have no versions here. Nothing
// is read from the environment, the files of the AWS command line or the metadata service of a machine.
package awskms

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// The HTTP policy. Callers poll sources, so nothing is retried here but a login.
const (
	deadline  = 5 * time.Second // of a call of a source, with its login
	maxAnswer = 1 << 18         // bytes of an answer that are read; the longest are some 10,000
	// how long credentials are used: shorter than the interval of polls, so that every poll asks whether the principal
	// may still log in, however long credentials live
	credentialsLife = 20 * time.Second
)

// Config is the way to one store.
type Config struct {
	// Address is that of the store, see ParseAddress.
	Address string
	// Endpoint and LoginEndpoint are the URLs of KMS and of STS, https://HOST[:PORT]: those of interface endpoints in a
	// private network, or of hosts with FIPS 140 validated modules. Default: the public ones of the region.
	Endpoint, LoginEndpoint string
	// Roots are the authorities that may sign the certificates of the hosts. Default: the system's.
	Roots *x509.CertPool
	// Dial connects to a host. Default: the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Servers opens sources over the keys of one store, which share the connections to it. It is safe for concurrent use.
type Servers struct {
	at                      place
	client                  *http.Client
	endpoint, loginEndpoint string // of KMS and of STS, without a slash
	credentialsLife         time.Duration
}

// NewServers returns the servers that cfg leads to. Nothing is sent yet.
func NewServers(cfg Config) (*Servers, error) {
	at, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	endpoint, err := checkEndpoint(cfg.Endpoint, at.host("kms"))
	if err != nil {
		return nil, err
	}
	loginEndpoint, err := checkEndpoint(cfg.LoginEndpoint, at.host("sts"))
	if err != nil {
		return nil, err
	}
	return &Servers{at, answer.Client(cfg.Roots, cfg.Dial, maxAnswer), endpoint, loginEndpoint, credentialsLife}, nil
}

// Listener returns the host and port of KMS that cfg leads to; empty if NewServers does not accept it.
func Listener(cfg Config) string {
	at, err := parseAddress(cfg.Address)
	if err != nil {
		return ""
	}
	endpoint, err := checkEndpoint(cfg.Endpoint, at.host("kms"))
	if err != nil {
		return ""
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
}

// checkEndpoint returns the URL of a service: the given one, or that of a host.
func checkEndpoint(given, host string) (string, error) {
	if given == "" {
		return "https://" + host, nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" ||
		u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("the endpoint %.200q is not https://HOST[:PORT]", given)
	}
	return "https://" + u.Host, nil
}

// Source is a keysource.Source over one key. It has credentials of its own, and the shared connections of its Servers.
type Source struct {
	key     visage.KeyRef
	arn     string
	login   Login
	servers *Servers

	session chan session // holds one; a call that logs in keeps it meanwhile
}

// Open returns a source over a key of this store. Nothing is sent yet.
func (s *Servers) Open(key visage.KeyRef, login Login) (*Source, error) {
	at, err := placeOf(key)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	if at.String() != s.at.String() {
		return nil, fmt.Errorf("open key %s: it is not in the store %s", key, s.at)
	}
	if login.get == nil {
		return nil, fmt.Errorf("open key %s: no login", key)
	}
	src := &Source{key: key, arn: at.arn(key.Name), login: login, servers: s, session: make(chan session, 1)}
	src.session <- session{}
	return src, nil
}

// The wrapped form: a byte that says how it was made, and the ciphertext as AWS returned it.
const (
	unlabelled = 1 // a symmetric key, without an encryption context
	labelled   = 2 // a symmetric key, with the label as encryption context
	byRSA      = 3
)

// The wrapping algorithms.
const (
	symmetric = "SYMMETRIC_DEFAULT"
	oaep      = "RSAES_OAEP_SHA_256"
)

// The requests and answers of the operations, as the reference of the API of KMS has them.
type (
	encryptRequest struct {
		KeyID     string `json:"KeyId"`
		Plaintext []byte
		Algorithm string            `json:"EncryptionAlgorithm"`
		Context   map[string]string `json:"EncryptionContext,omitempty"`
	}
	encryptAnswer struct {
		KeyID          string `json:"KeyId"` // an ARN
		CiphertextBlob []byte
		Algorithm      string `json:"EncryptionAlgorithm"`
	}
	decryptRequest struct {
		KeyID          string `json:"KeyId"`
		CiphertextBlob []byte
		Algorithm      string            `json:"EncryptionAlgorithm"`
		Context        map[string]string `json:"EncryptionContext,omitempty"`
	}
	decryptAnswer struct {
		KeyID     string `json:"KeyId"` // an ARN
		Plaintext []byte
		Algorithm string `json:"EncryptionAlgorithm"`
	}
)

// encryptionContext is the label as AWS takes it; nil for no label.
func encryptionContext(l keysource.Label) map[string]string {
	if l == (keysource.Label{}) {
		return nil
	}
	return map[string]string{
		"visage-instance": fmt.Sprintf("%x", l.Instance), "visage-resource": fmt.Sprintf("%x", l.Resource),
		"visage-generation": fmt.Sprint(l.Generation),
	}
}

// Wrap implements keysource.Source. It reads the key first, since the algorithm depends on it.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if ctx.Err() != nil {
		return nil, keysource.Ref{}, context.Cause(ctx)
	}
	ctx, cancel := timed(ctx)
	defer cancel()
	k, err := s.read(ctx)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, keysource.Ref{}, s.classified("wrap", err)
	}
	form, algorithm, label := byte(unlabelled), symmetric, encryptionContext(keysource.LabelOf(ctx))
	switch {
	case k.rsa():
		form, algorithm, label = byRSA, oaep, nil
	case label != nil:
		form = labelled
	}
	var answered encryptAnswer
	err = s.ask(ctx, "Encrypt", encryptRequest{s.arn, inner, algorithm, label}, &answered)
	if err != nil {
		return nil, keysource.Ref{}, s.explained(ctx, "wrap", err)
	}
	if err := s.mineAnswered(answered.KeyID, answered.Algorithm, algorithm); err != nil {
		return nil, keysource.Ref{}, s.classified("wrap", err)
	}
	if len(answered.CiphertextBlob) == 0 {
		return nil, keysource.Ref{}, s.failure("wrap", keysource.ErrUnknown, "", "the answer holds no ciphertext")
	}
	return append([]byte{form}, answered.CiphertextBlob...), s.ref(), nil
}

// Unwrap implements keysource.Source.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := timed(ctx)
	defer cancel()
	if err := s.mine("unwrap", ref); err != nil {
		return nil, err
	}
	if len(blob) < 2 || blob[0] < unlabelled || blob[0] > byRSA {
		return nil, s.failure("unwrap", keysource.ErrWrong, "", "this source makes no wrapped keys of this form")
	}
	request := decryptRequest{KeyID: s.arn, CiphertextBlob: blob[1:], Algorithm: symmetric}
	switch blob[0] {
	case labelled:
		request.Context = encryptionContext(keysource.LabelOf(ctx))
	case byRSA:
		request.Algorithm = oaep
	}
	var answered decryptAnswer
	if err := s.ask(ctx, "Decrypt", request, &answered); err != nil {
		return nil, s.explained(ctx, "unwrap", err)
	}
	if err := s.mineAnswered(answered.KeyID, answered.Algorithm, request.Algorithm); err != nil {
		clear(answered.Plaintext)
		return nil, s.classified("unwrap", err)
	}
	if len(answered.Plaintext) == 0 {
		return nil, s.failure("unwrap", keysource.ErrUnknown, "", "the answer holds no plaintext")
	}
	return answered.Plaintext, nil
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ctx.Err() != nil {
		return keysource.Description{}, context.Cause(ctx)
	}
	ctx, cancel := timed(ctx)
	defer cancel()
	if ref != (keysource.Ref{}) {
		if err := s.mine("get", ref); err != nil {
			return keysource.Description{}, err
		}
	}
	k, err := s.read(ctx)
	if err != nil {
		return keysource.Description{}, s.classified("get", err)
	}
	enabled := true
	if e, ok := errors.AsType[*keysource.Error](k.usable()); ok {
		if e.Reason != keysource.Disabled && e.Reason != keysource.Expired {
			return keysource.Description{}, s.classified("get", e)
		}
		enabled = false
	}
	return keysource.Description{
		Ref: s.ref(), Algorithm: k.algorithm(), Enabled: enabled, Expires: k.ValidTo.Time,
		KeyType: k.Spec, Bits: bits[k.Spec], Unfit: k.unfit(s.servers.at.partition),
	}, nil
}

func (s *Source) ref() keysource.Ref { return keysource.Ref{URI: s.key.Unversioned()} }

// mine checks that ref names this key.
func (s *Source) mine(verb string, ref keysource.Ref) error {
	if ref != s.ref() {
		return s.failure(verb, keysource.ErrWrong, "",
			fmt.Sprintf("%s, version %q, is another key", ref.URI, ref.Version))
	}
	return nil
}

// mineAnswered checks that an answer is of this key and of the algorithm that was asked for.
func (s *Source) mineAnswered(arn, by, asked string) error {
	switch {
	case arn == "":
		return errors.New("the answer names no key")
	case arn != s.arn:
		return anotherKey(arn)
	case by != asked:
		return &keysource.Error{Class: keysource.ErrWrong,
			Text: fmt.Sprintf("AWS answered with the algorithm %.60q, and %s was asked for", by, asked)}
	}
	return nil
}

func anotherKey(arn string) error {
	return &keysource.Error{Class: keysource.ErrWrong, Text: fmt.Sprintf("AWS answered for key %.200q", arn)}
}
