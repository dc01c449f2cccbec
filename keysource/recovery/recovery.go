// Package recovery makes and opens recovery kits: the root key of an instance, sealed for people who keep private keys
// offline. A kit opens the instance when all protectors of its root key are lost. It cannot open what is under a
// customer-managed key: that takes the customer's key as well.
//
// A kit holds nothing that opens it. Its key is split into shares, one for each recipient, of which a threshold is
// needed; each share is encrypted with RSA-OAEP-256.
package recovery

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

// Notice is what a kit says of itself.
const Notice = "instance recovery key — cannot open customer-managed resources"

const (
	format  = 1
	minBits = 4096
	maxBits = 8192
)

// MaxRecipients is how many recipients a kit has at most: the numbers of shares are bytes, and 0 is the secret's.
const MaxRecipients = 255

// Kit is a recovery kit, as its file has it in JSON. It holds no secret in the clear.
type Kit struct {
	Notice    string    `json:"notice"`
	Format    int       `json:"format"`
	ID        string    `json:"id"` // random, hexadecimal
	Instance  string    `json:"instance"`
	Version   uint32    `json:"rootVersion"` // of the root key
	Made      time.Time `json:"made"`
	Threshold int       `json:"threshold"` // how many shares open it
	Shares    []Sealed  `json:"shares"`
	Root      []byte    `json:"root"` // the root key, sealed under the key that the shares give
}

// Sealed is a share for one recipient.
type Sealed struct {
	Recipient string `json:"recipient"` // SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal
	Number    byte   `json:"number"`
	Sealed    []byte `json:"sealed"`
}

// Share is an opened share. It is secret: a threshold of them opens the kit.
type Share struct {
	Kit    string `json:"kit"`
	Number byte   `json:"number"`
	Value  []byte `json:"value"`
}

// Recipient is the public key of somebody who keeps the private key offline.
type Recipient = *rsa.PublicKey

// ParseRecipient reads an RSA public key of 4096 to 8192 bits in PEM.
func ParseRecipient(text []byte) (Recipient, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, refuse("a recipient is one PUBLIC KEY in PEM, as \"openssl pkey -pubout\" writes it")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, refuse("the public key of a recipient is damaged: %v", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < minBits || public.N.BitLen() > maxBits {
		return nil, refuse("the key of a recipient must be RSA of %d to %d bits", minBits, maxBits)
	}
	return public, nil
}

// ParsePrivate reads an RSA private key in PEM: PKCS #8 or PKCS #1, not encrypted.
func ParsePrivate(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, refuse("a private key in PEM is needed")
	}
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, refuse("the private key is damaged or encrypted")
		}
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, refuse("the private key is damaged, encrypted, or not an RSA key")
	}
	return private, nil
}

func refuse(text string, args ...any) error {
	return local.Fail(keysource.ErrDenied, nil, text, args...)
}

// Make seals a version of the root key of an instance for recipients, of whom threshold are needed.
func Make(instance string, version uint32, root []byte, recipients []Recipient, threshold int) (Kit, error) {
	if len(recipients) == 0 || len(recipients) > MaxRecipients {
		return Kit{}, refuse("a recovery kit has 1 to %d recipients", MaxRecipients)
	}
	if threshold < 1 || threshold > len(recipients) {
		return Kit{}, refuse("the threshold must be between 1 and %d, the number of recipients", len(recipients))
	}
	id := make([]byte, 16)
	rand.Read(id) // never fails: the runtime ends the process instead
	k := Kit{Notice: Notice, Format: format, ID: hex.EncodeToString(id), Instance: instance, Version: version,
		Made: time.Now().UTC().Truncate(time.Second), Threshold: threshold}
	key := make([]byte, local.KeySize)
	defer clear(key)
	rand.Read(key)
	shares := split(key, len(recipients), threshold)
	for i, to := range recipients {
		name, err := Fingerprint(to)
		if err != nil {
			return Kit{}, err
		}
		if slices.ContainsFunc(k.Shares, func(s Sealed) bool { return s.Recipient == name }) {
			return Kit{}, refuse("a recipient is named twice: %s", name)
		}
		sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, shares[i], k.label(byte(i+1)))
		clear(shares[i])
		if err != nil {
			return Kit{}, refuse("the key of recipient %s cannot be used: %v", name, err)
		}
		k.Shares = append(k.Shares, Sealed{name, byte(i + 1), sealed})
	}
	var err error
	k.Root, err = local.Wrap(local.Recovery, key, nil, k.bound(), root)
	return k, err
}

// label binds a share to its kit and number.
func (k Kit) label(number byte) []byte {
	return fmt.Appendf(nil, "visage/v1/recovery-share %s %d", k.ID, number)
}

// bound is what the root key in a kit is bound to.
func (k Kit) bound() string {
	text := fmt.Sprintf("visage/v1/recovery %s %s %d %s %d", k.ID, k.Instance, k.Version, k.Made.Format(time.RFC3339),
		k.Threshold)
	for _, s := range k.Shares {
		text += fmt.Sprintf(" %d:%s", s.Number, s.Recipient)
	}
	return text
}

// Fingerprint names a recipient in kits: the SHA-256 of the public key (SubjectPublicKeyInfo in DER), hexadecimal.
func Fingerprint(key Recipient) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Parse reads the file of a kit.
func Parse(text []byte) (k Kit, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil || k.Notice != Notice {
		return Kit{}, refuse("the file is no recovery kit, or not all of one")
	}
	if k.Format != format {
		return Kit{}, refuse("the recovery kit has format %d; this version of Visage reads format %d", k.Format, format)
	}
	if k.Threshold < 1 || len(k.Shares) < k.Threshold || len(k.Shares) > MaxRecipients {
		return Kit{}, refuse("the recovery kit is damaged: %d shares, of which %d are needed", len(k.Shares),
			k.Threshold)
	}
	return k, nil
}

// OpenShare opens the share of a recipient.
func (k Kit) OpenShare(key *rsa.PrivateKey) (Share, error) {
	name, err := Fingerprint(&key.PublicKey)
	if err != nil {
		return Share{}, err
	}
	for _, s := range k.Shares {
		if s.Recipient != name {
			continue
		}
		value, err := rsa.DecryptOAEP(sha256.New(), nil, key, s.Sealed, k.label(s.Number))
		if err != nil {
			return Share{}, refuse("the share of recipient %s is damaged, or of another kit", name)
		}
		return Share{k.ID, s.Number, value}, nil
	}
	return Share{}, refuse("the private key %s is of no recipient of this kit", name)
}

// Open returns the root key, which the caller wipes. Shares that are more than needed are used too.
func (k Kit) Open(shares []Share) ([]byte, error) {
	values := map[byte][]byte{}
	for _, s := range shares {
		if s.Kit != k.ID {
			return nil, refuse("share %d is of the kit %s, and this is the kit %s", s.Number, s.Kit, k.ID)
		}
		values[s.Number] = s.Value
	}
	if len(values) < k.Threshold {
		return nil, refuse("the kit needs %d different shares, and has %d", k.Threshold, len(values))
	}
	key, err := combine(values)
	if err != nil {
		return nil, refuse("%v", err)
	}
	defer clear(key)
	w, err := local.Parse(local.Recovery, k.Root)
	if err != nil {
		return nil, err
	}
	if len(key) != local.KeySize {
		return nil, refuse("a share is damaged")
	}
	root, err := w.Open(key, k.bound(), "")
	if err != nil {
		return nil, local.Fail(keysource.ErrWrong, nil,
			"the shares do not open this kit: one of them is damaged, or the kit was changed")
	}
	return root, nil
}
