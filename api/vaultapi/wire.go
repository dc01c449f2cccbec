package vaultapi

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// bytes are written as base64url without padding (RFC 4648 §5), as the contract has them everywhere. They are read with
// padding or without.
type bytes []byte

// MarshalText implements encoding.TextMarshaler.
func (b bytes) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. Its error does not quote the text, which may be a key.
func (b *bytes) UnmarshalText(text []byte) error {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(string(text), "="))
	if err != nil {
		return visage.Refuse(visage.Invalid, "BadParameter", "A value of the body is not valid base64url.")
	}
	*b = decoded
	return nil
}

// jsonWebKey is a key of RFC 7517, with the parts of the contract.
type jsonWebKey struct {
	Kid    string   `json:"kid,omitempty"`
	Kty    string   `json:"kty,omitempty"`
	KeyOps []string `json:"key_ops,omitempty"`
	N      bytes    `json:"n,omitempty"`
	E      bytes    `json:"e,omitempty"`
	Crv    string   `json:"crv,omitempty"`
	X      bytes    `json:"x,omitempty"`
	Y      bytes    `json:"y,omitempty"`
}

// privateKey is a key that is imported.
type privateKey struct {
	jsonWebKey
	D      bytes             `json:"d"`
	P      bytes             `json:"p"`
	Q      bytes             `json:"q"`
	DP     bytes             `json:"dp"`
	DQ     bytes             `json:"dq"`
	QI     bytes             `json:"qi"`
	Oth    []json.RawMessage `json:"oth"`
	KeyHSM bytes             `json:"key_hsm"`
}

type attributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
	Exportable      bool   `json:"exportable"`
	HSMPlatform     string `json:"hsmPlatform"`
}

// keyBundle is a key as it is answered (contract §A4).
type keyBundle struct {
	Key        jsonWebKey        `json:"key"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// deletion is what deleted keys have besides.
type deletion struct {
	RecoveryID         string `json:"recoveryId"`
	DeletedDate        int64  `json:"deletedDate"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate"`
}

type deletedBundle struct {
	keyBundle
	deletion
}

type keyItem struct {
	Kid        string            `json:"kid"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
}

type deletedItem struct {
	keyItem
	deletion
}

type keyList struct {
	Value    []keyItem `json:"value"`
	NextLink *string   `json:"nextLink"`
}

type deletedList struct {
	Value    []deletedItem `json:"value"`
	NextLink *string       `json:"nextLink"`
}

// wishes are attributes as they are sent; nil is not said.
type wishes struct {
	Enabled    *bool  `json:"enabled"`
	NotBefore  *int64 `json:"nbf"`
	Expires    *int64 `json:"exp"`
	Exportable *bool  `json:"exportable"`
}

type createBody struct {
	Kty            string            `json:"kty" api:"required"`
	KeySize        *int              `json:"key_size"`
	PublicExponent *int              `json:"public_exponent"`
	KeyOps         []string          `json:"key_ops"`
	Attributes     *wishes           `json:"attributes"`
	Tags           map[string]string `json:"tags"`
	Crv            string            `json:"crv"`
	ReleasePolicy  json.RawMessage   `json:"release_policy"`
}

type importBody struct {
	Key           privateKey        `json:"key" api:"required"`
	HSM           bool              `json:"Hsm"`
	Attributes    *wishes           `json:"attributes"`
	Tags          map[string]string `json:"tags"`
	ReleasePolicy json.RawMessage   `json:"release_policy"`
}

type updateBody struct {
	KeyOps        []string          `json:"key_ops"`
	Attributes    *wishes           `json:"attributes"`
	Tags          map[string]string `json:"tags"`
	ReleasePolicy json.RawMessage   `json:"release_policy"`
}

type useBody struct {
	Alg    string `json:"alg" api:"required"`
	Value  bytes  `json:"value" api:"required"`
	Digest bytes  `json:"digest"`
}

type useAnswer struct {
	Kid   string `json:"kid"`
	Value bytes  `json:"value"`
}

type verifyAnswer struct {
	Value bool `json:"value"`
}

type blobBody struct {
	Value bytes `json:"value" api:"required"`
}

type blobAnswer struct {
	Value bytes `json:"value"`
}

type policyBody struct {
	ID              string           `json:"id,omitempty"`
	LifetimeActions []lifetimeAction `json:"lifetimeActions"`
	Attributes      policyAttributes `json:"attributes"`
}

type lifetimeAction struct {
	Trigger trigger `json:"trigger"`
	Action  action  `json:"action"`
}

type trigger struct {
	TimeAfterCreate  *string `json:"timeAfterCreate,omitempty"`
	TimeBeforeExpiry *string `json:"timeBeforeExpiry,omitempty"`
}

type action struct {
	Type string `json:"type" enum:"Rotate Notify"`
}

type policyAttributes struct {
	ExpiryTime *string `json:"expiryTime,omitempty"`
	Created    int64   `json:"created,omitempty"`
	Updated    int64   `json:"updated,omitempty"`
}

func badParameter(format string, args ...any) error {
	return visage.Refuse(visage.Invalid, "BadParameter", format, args...)
}

func (p *plane) kid(ref keyvault.Ref) string { return p.Vaults.KeyID(ref) }

func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.Unix()
	return &n
}

func attributesOf(k keyvault.Key) attributes {
	return attributes{
		Enabled: k.Enabled, NotBefore: seconds(k.NotBefore), Expires: seconds(k.Expires), Created: k.Created.Unix(),
		Updated: k.Updated.Unix(), RecoveryLevel: k.Vault.RecoveryLevel(), RecoverableDays: k.Vault.RetentionDays,
		HSMPlatform: "0", // software, whatever the type is called
	}
}

func (p *plane) bundle(k keyvault.Key) keyBundle {
	ops := make([]string, len(k.Operations))
	for i, op := range k.Operations {
		ops[i] = string(op)
	}
	return keyBundle{
		Key: jsonWebKey{
			Kid: p.kid(k.Ref), Kty: k.Public.Type, KeyOps: ops, N: k.Public.N, E: k.Public.E, Crv: k.Public.Curve,
			X: k.Public.X, Y: k.Public.Y,
		},
		Attributes: attributesOf(k), Tags: k.Tags,
	}
}

func (p *plane) deletion(k keyvault.Key) deletion {
	return deletion{
		RecoveryID:  p.Address(k.Ref.Vault) + "deletedkeys/" + k.Name,
		DeletedDate: k.Deleted.Unix(), ScheduledPurgeDate: k.PurgeAt.Unix(),
	}
}

// item is a key in a list; versioned: with its version.
func (p *plane) item(k keyvault.Key, versioned bool) keyItem {
	ref := k.Ref
	if !versioned {
		ref.Version = ""
	}
	return keyItem{Kid: p.kid(ref), Attributes: attributesOf(k), Tags: k.Tags}
}

// attributes returns what is wished, with the defaults of a new key.
func (w *wishes) attributes() (keyvault.Attributes, error) {
	a := keyvault.Attributes{Enabled: true}
	if w == nil {
		return a, nil
	}
	if err := w.check(); err != nil {
		return a, err
	}
	if w.Enabled != nil {
		a.Enabled = *w.Enabled
	}
	a.NotBefore, a.Expires = date(w.NotBefore), date(w.Expires)
	return a, nil
}

func (w *wishes) check() error {
	if w.Exportable != nil && *w.Exportable {
		return badParameter("Keys of this vault never leave it: the attribute exportable must be false.")
	}
	const latest = 253402300799 // the last second of the year 9999
	for _, n := range []*int64{w.NotBefore, w.Expires} {
		if n != nil && (*n < 0 || *n > latest) {
			return badParameter("The attributes nbf and exp must be in seconds since 1970, at most in the year 9999.")
		}
	}
	return nil
}

// date is zero for what is not said and for 0.
func date(n *int64) time.Time {
	if n == nil || *n == 0 {
		return time.Time{}
	}
	return time.Unix(*n, 0).UTC()
}

func operationsOf(names []string) []keyvault.Operation {
	if names == nil {
		return nil
	}
	ops := make([]keyvault.Operation, len(names))
	for i, n := range names {
		ops[i] = keyvault.Operation(n)
	}
	return ops
}

// releaseBody asks for the release of a key to an attested environment.
type releaseBody struct {
	Target string `json:"target"` // the attestation of the environment, a JSON Web Token
	Nonce  string `json:"nonce"`
	Enc    string `json:"enc"`
}

// noRelease refuses a release policy: keys never leave the vault.
func noRelease(policy json.RawMessage) error {
	if len(policy) > 0 && string(policy) != "null" {
		return badParameter("Secure key release is not supported: leave release_policy out.")
	}
	return nil
}
