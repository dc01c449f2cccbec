// Package hashivault wraps under keys of the transit engine of HashiCorp Vault and OpenBao.
//
// A key is of type aes256-gcm96, rsa-2048, rsa-3072 or rsa-4096. With an AES key the label of a call is bound to the
// wrapped form as associated data. The policy that a source needs on the engine TRANSIT is read on TRANSIT/keys/NAME,
// and update (never create) on TRANSIT/encrypt/NAME and TRANSIT/decrypt/NAME: with create, a server makes a new key in
// the place of a deleted one when it is asked to encrypt.
package hashivault

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// The HTTP policy. Callers poll sources, so nothing is retried here but a login.
const (
	deadline  = 5 * time.Second // of a call of a source, with its login
	maxAnswer = 1 << 20         // bytes of an answer that are read; a key has about 900 for each RSA version
	// how long a token is used: shorter than the interval of polls, so that every poll asks whether the principal may
	// still log in, however long tokens live
	tokenLife = 20 * time.Second
)

// Config is the way to the servers.
type Config struct {
	// Roots are the authorities that may sign a server's certificate. Default: the system's.
	Roots *x509.CertPool
	// Dial connects to a server. Default: the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Refusals are those of all Servers that log in with the same secret. Default: refused logins are made again.
	Refusals *Refusals
}

// Servers opens sources that share the connections to each server. It is safe for concurrent use.
type Servers struct {
	http      atomic.Pointer[http.Client]
	limit     int64 // bytes of an answer
	tokenLife time.Duration
	refusals  *Refusals
}

// NewServers returns the servers that cfg leads to. Nothing is sent yet.
func NewServers(cfg Config) *Servers {
	return newServers(cfg, maxAnswer)
}

func newServers(cfg Config, limit int64) *Servers {
	s := &Servers{limit: limit, tokenLife: tokenLife, refusals: cfg.Refusals}
	s.http.Store(answer.Client(cfg.Roots, cfg.Dial, limit))
	return s
}

// Source is a keysource.Source over one key. It has tokens of its own, and the shared connections of its Servers.
type Source struct {
	key visage.KeyRef
	*client

	mu sync.Mutex
	// when each version was made, as the server said first. A version that was made again is another key.
	made map[string]time.Time
}

// Open returns a source over key, which wraps with the version in key or, if there is none, with the newest. Nothing is
// sent yet.
func (s *Servers) Open(key visage.KeyRef, login Login) (*Source, error) {
	at, err := placeOf(key)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	if login == nil {
		return nil, fmt.Errorf("open key %s: no login", key)
	}
	return &Source{key: key, client: s.client(at, login, s.tokenLife), made: map[string]time.Time{}}, nil
}

// The wrapped form: a byte that says whether the label is bound to it, and the ciphertext as the server wrote it.
const (
	unlabelled = 1
	labelled   = 2
)

// Wrap implements keysource.Source. It reads the key first: a key that is missing is not made anew, whatever the policy
// permits, and one that this source has seen before it was made anew is refused with ErrWrong.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	ctx, cancel := timed(ctx)
	defer cancel()
	k, err := s.read(ctx, "wrap")
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	version, err := k.choose(s.key.Version)
	if err != nil {
		return nil, keysource.Ref{}, s.classified("wrap", err)
	}
	if err := s.remember(k); err != nil {
		return nil, keysource.Ref{}, s.classified("wrap", err)
	}
	number, _ := strconv.Atoi(version) // of choose
	request := map[string]any{
		"plaintext": base64.StdEncoding.EncodeToString(inner), "key_version": number,
	}
	form := byte(unlabelled)
	if label := keysource.LabelOf(ctx).Bytes(); label != nil && k.aead() {
		form, request["associated_data"] = labelled, base64.StdEncoding.EncodeToString(label)
	}
	var answered struct {
		Ciphertext string `json:"ciphertext"`
		Version    int    `json:"key_version"`
	}
	if err := s.call(ctx, http.MethodPost, "encrypt/"+s.key.Name, request, &answered); err != nil {
		return nil, keysource.Ref{}, s.classified("wrap", err)
	}
	if got, ok := versionOf(answered.Ciphertext); !ok {
		return nil, keysource.Ref{}, s.failure("wrap", keysource.ErrUnknown, "", "the answer holds no ciphertext")
	} else if got != version {
		return nil, keysource.Ref{}, s.failure("wrap", keysource.ErrWrong, "",
			fmt.Sprintf("version %s was asked for, and version %s has wrapped", version, got))
	}
	return append([]byte{form}, answered.Ciphertext...), keysource.Ref{URI: s.key.Unversioned(), Version: version}, nil
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
	if len(blob) == 0 || blob[0] != unlabelled && blob[0] != labelled {
		return nil, s.failure("unwrap", keysource.ErrWrong, "", "this source makes no wrapped keys of this form")
	}
	text := string(blob[1:])
	if version, ok := versionOf(text); !ok || version != ref.Version {
		return nil, s.failure("unwrap", keysource.ErrWrong, "",
			fmt.Sprintf("the wrapped key does not name version %s", ref.Version))
	}
	request := struct { // every poll sends one: a map would cost more
		Ciphertext string `json:"ciphertext"`
		Associated string `json:"associated_data,omitempty"`
	}{Ciphertext: text}
	if blob[0] == labelled {
		request.Associated = base64.StdEncoding.EncodeToString(keysource.LabelOf(ctx).Bytes())
	}
	var answered struct {
		Plaintext string `json:"plaintext"`
	}
	if err := s.call(ctx, http.MethodPost, "decrypt/"+s.key.Name, request, &answered); err != nil {
		return nil, s.explain(ctx, err, ref.Version)
	}
	inner, err := base64.StdEncoding.DecodeString(answered.Plaintext)
	if err != nil || len(inner) == 0 {
		clear(inner)
		return nil, s.failure("unwrap", keysource.ErrUnknown, "", "the answer holds no plaintext")
	}
	return inner, nil
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ctx.Err() != nil {
		return keysource.Description{}, context.Cause(ctx)
	}
	ctx, cancel := timed(ctx)
	defer cancel()
	asked := s.key.Version
	if ref != (keysource.Ref{}) {
		if err := s.mine("get", ref); err != nil {
			return keysource.Description{}, err
		}
		asked = ref.Version
	}
	k, err := s.read(ctx, "get")
	if err != nil {
		return keysource.Description{}, err
	}
	version := cmp.Or(asked, strconv.Itoa(k.Latest))
	number, _ := strconv.Atoi(version)                                 // a version, or a number
	if _, found := k.Versions[version]; !found && !k.revoked(number) { // which has no versions that are revoked
		return keysource.Description{}, s.failure("get", keysource.ErrDenied, keysource.Missing,
			fmt.Sprintf("the key has no version %s", version))
	}
	if err := s.remember(k); err != nil {
		return keysource.Description{}, s.classified("get", err)
	}
	d := keysource.Description{
		Ref:       keysource.Ref{URI: s.key.Unversioned(), Version: version},
		Algorithm: k.algorithm(), KeyType: k.Type, Bits: k.bits(), Unfit: k.unfit(),
		Enabled: !k.revoked(number) && (asked != "" || number >= k.MinEncryption),
	}
	return d, nil
}

// remember notes when the versions of the key were made, and refuses a key with one that was made again since.
func (s *Source) remember(k key) error {
	_, err := s.compare(k)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.made, k.Versions)
	return nil
}

// compare compares when versions were made with what this source has seen before, and reports whether one is the same.
// A key with a version that was made again is another one.
func (s *Source) compare(k key) (same bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, version := range slices.Sorted(maps.Keys(k.Versions)) {
		made := k.Versions[version]
		first, known := s.made[version]
		if known && !first.Equal(made) {
			return false, &keysource.Error{Class: keysource.ErrWrong, Text: fmt.Sprintf("version %s was made on %s "+
				"and is not the one of %s any more: the key was deleted and made anew under its name", version,
				made.UTC().Format(time.RFC3339), first.UTC().Format(time.RFC3339))}
		}
		same = same || known
	}
	return same, nil
}

// explain asks the server about the key that does not open something: the key may be gone, or, if it is newer than what
// was wrapped, be another one under the same name.
func (s *Source) explain(ctx context.Context, err error, version string) error {
	answer, _ := errors.AsType[*refusal](err)
	if answer != nil && answer.tooNew() {
		return s.explainTooNew(ctx, answer, version)
	}
	gone := answer != nil && answer.says("encryption key not found", http.StatusBadRequest)
	failure := s.classified("unwrap", err)
	if !gone && !errors.Is(failure, keysource.ErrWrong) {
		return failure
	}
	k, readErr := s.read(ctx, "unwrap")
	switch made, found := k.Versions[version]; {
	case gone && errors.Is(readErr, keysource.ErrDenied):
		return readErr
	case readErr == nil && found && !gone:
		return s.failure("unwrap", keysource.ErrWrong, "", fmt.Sprintf("%v; version %s was made on %s: a key that "+
			"was deleted and made anew under its name does not open what is older", err, version,
			made.UTC().Format(time.RFC3339)))
	}
	return failure
}

// explainTooNew asks the server about a key that has no such version for it yet, or not any more: it may lag behind
// the server that has rotated the key, and else the key is another one, made anew under the name of a deleted one.
func (s *Source) explainTooNew(ctx context.Context, answer *refusal, version string) error {
	k, err := s.read(ctx, "unwrap")
	if err != nil {
		return err
	}
	same, err := s.compare(k)
	if err != nil {
		return s.classified("unwrap", err)
	}
	if _, shown := k.Versions[version]; shown || same {
		return s.failure("unwrap", keysource.ErrUnknown, "",
			answer.Error()+"; the server seems to lag behind the one that has rotated the key")
	}
	return s.failure("unwrap", keysource.ErrWrong, "", fmt.Sprintf("%v; the newest version is %d: the key was deleted "+
		"and made anew under its name", answer, k.Latest))
}

// mine checks that ref names a version of this key.
func (s *Source) mine(verb string, ref keysource.Ref) error {
	if ref.URI != s.key.Unversioned() || !versionPattern.MatchString(ref.Version) {
		return s.failure(verb, keysource.ErrWrong, "",
			fmt.Sprintf("%s, version %q, is another key", ref.URI, ref.Version))
	}
	return nil
}

// versionOf reads the version of the key out of a ciphertext, vault:vVERSION:BASE64.
func versionOf(ciphertext string) (string, bool) {
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	version, body, found := strings.Cut(rest, ":")
	return version, ok && found && versionPattern.MatchString(version) && body != ""
}

// key is what a server says of a key.
type key struct {
	Type            string
	Latest          int
	MinAvailable    int // earlier ones are gone for good
	MinDecryption   int
	MinEncryption   int
	Derived         bool
	DeletionAllowed bool
	Exportable      bool
	PlainBackup     bool
	Versions        map[string]time.Time // when each was made
}

// read reads the key.
func (s *Source) read(ctx context.Context, verb string) (key, error) {
	var answered struct {
		Name            string                     `json:"name"`
		Type            string                     `json:"type"`
		Latest          int                        `json:"latest_version"`
		MinAvailable    int                        `json:"min_available_version"`
		MinDecryption   int                        `json:"min_decryption_version"`
		MinEncryption   int                        `json:"min_encryption_version"`
		Derived         bool                       `json:"derived"`
		DeletionAllowed bool                       `json:"deletion_allowed"`
		Exportable      bool                       `json:"exportable"`
		PlainBackup     bool                       `json:"allow_plaintext_backup"`
		Keys            map[string]json.RawMessage `json:"keys"`
	}
	if err := s.call(ctx, http.MethodGet, "keys/"+s.key.Name, nil, &answered); err != nil {
		return key{}, s.classified(verb, err)
	}
	if answered.Name == "" {
		return key{}, s.failure(verb, keysource.ErrUnknown, "", "the answer describes no key")
	}
	if answered.Name != s.key.Name {
		return key{}, s.failure(verb, keysource.ErrWrong, "",
			fmt.Sprintf("the server answered for key %.200q", answered.Name))
	}
	k := key{
		answered.Type, answered.Latest, answered.MinAvailable, answered.MinDecryption, answered.MinEncryption,
		answered.Derived, answered.DeletionAllowed, answered.Exportable, answered.PlainBackup, map[string]time.Time{},
	}
	for version, raw := range answered.Keys {
		made, err := madeAt(raw)
		if err != nil || !versionPattern.MatchString(version) {
			return key{}, s.failure(verb, keysource.ErrUnknown, "", "the answer describes no key")
		}
		k.Versions[version] = made
	}
	if _, found := k.Versions[strconv.Itoa(k.Latest)]; !found || k.Type == "" {
		return key{}, s.failure(verb, keysource.ErrUnknown, "", "the answer describes no key")
	}
	return k, nil
}

// madeAt reads when a version was made: a Unix time for AES keys, an object for RSA keys.
func madeAt(raw json.RawMessage) (time.Time, error) {
	var seconds int64
	if json.Unmarshal(raw, &seconds) == nil {
		return time.Unix(seconds, 0), nil
	}
	var version struct {
		Made time.Time `json:"creation_time"`
	}
	err := json.Unmarshal(raw, &version)
	return version.Made, err
}

// choose returns the version that wraps: the one asked for, or the newest.
func (k key) choose(asked string) (string, error) {
	version := cmp.Or(asked, strconv.Itoa(k.Latest))
	number, _ := strconv.Atoi(version) // of ParseKey, or a number
	switch _, found := k.Versions[version]; {
	case k.revoked(number) || number < k.MinEncryption:
		return "", &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Disabled, Text: fmt.Sprintf(
			"version %s is below min_decryption_version %d or min_encryption_version %d", version, k.MinDecryption,
			k.MinEncryption)}
	case !found:
		return "", &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing,
			Text: fmt.Sprintf("the key has no version %s", version)}
	}
	return version, nil
}

// revoked reports whether a version exists but may not be used: this is how one version is revoked.
func (k key) revoked(version int) bool {
	return version >= max(1, k.MinAvailable) && version < k.MinDecryption
}

// bits are the sizes of keys by type. Others cannot protect a resource.
var bits = map[string]int{"aes256-gcm96": 256, "rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}

func (k key) bits() int { return bits[k.Type] }

// aead reports whether the key takes associated data.
func (k key) aead() bool { return !strings.HasPrefix(k.Type, "rsa-") }

func (k key) algorithm() string {
	if k.aead() {
		return "A256GCM"
	}
	return "RSA-OAEP-256"
}

// unfit says why the key may not protect a resource.
func (k key) unfit() map[keysource.Fitness]string {
	why := map[keysource.Fitness]string{}
	switch {
	case k.bits() == 0:
		why[keysource.FitType] = fmt.Sprintf("is of type %.40q: only %s protect resources", k.Type,
			strings.Join(slices.Sorted(maps.Keys(bits)), ", "))
	case k.Derived:
		why[keysource.FitType] = "derives a key from a context for each use: make one without derived"
	}
	switch {
	case k.DeletionAllowed:
		why[keysource.FitProtection] = "may be deleted: set deletion_allowed to false in its configuration"
	case k.Exportable || k.PlainBackup:
		why[keysource.FitProtection] = "may leave the engine in the clear: make one without exportable and " +
			"allow_plaintext_backup, which cannot be taken back"
	}
	return why
}
