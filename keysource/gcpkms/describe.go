package gcpkms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
)

// The states of a version that decide something.
const (
	enabled          = "ENABLED"
	disabled         = "DISABLED"
	destroyed        = "DESTROYED"
	destroyScheduled = "DESTROY_SCHEDULED"
)

// The algorithms that protect resources.
const (
	symmetric = "GOOGLE_SYMMETRIC_ENCRYPTION"
	rsaPrefix = "RSA_DECRYPT_OAEP_" // and the bits, _SHA256 or _SHA512
)

// minDestroy is how long a version must wait from the order to destroy it until it is gone, at least: the shortest time
// that Azure's vaults keep deleted keys.
const minDestroy = 7 * 24 * time.Hour

// key is what the service says of a key: projects.locations.keyRings.cryptoKeys in the REST definition.
type key struct {
	Name     string   `json:"name"`
	Purpose  string   `json:"purpose"`
	Primary  *version `json:"primary"`                  // only of symmetric keys
	Destroy  string   `json:"destroyScheduledDuration"` // seconds and an "s"
	Template struct {
		Protection string `json:"protectionLevel"`
		Algorithm  string `json:"algorithm"`
	} `json:"versionTemplate"`
}

// version is what the service says of a version: …cryptoKeys.cryptoKeyVersions in the REST definition.
type version struct {
	Name       string `json:"name"`
	State      string `json:"state"`
	Protection string `json:"protectionLevel"`
	Algorithm  string `json:"algorithm"`
}

// number is the last segment of the version's name; empty: there is no version.
func (v version) number() string { return v.Name[strings.LastIndexByte(v.Name, '/')+1:] }

func (v version) rsa() bool { return strings.HasPrefix(v.Algorithm, rsaPrefix) }

// usable returns why a version cannot be used, as a failure that is certain; nil if it can be, or if that is unclear.
func (v version) usable() error {
	switch v.State {
	case disabled:
		return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Disabled,
			Text: fmt.Sprintf("version %s is disabled", v.number())}
	case destroyed, destroyScheduled:
		return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing,
			Text: fmt.Sprintf("version %s is destroyed, or will be (%s)", v.number(), v.State)}
	}
	return nil
}

// isVerdict reports whether an error is the certain one of version.usable.
func isVerdict(err error) bool {
	_, ok := errors.AsType[*keysource.Error](err)
	return ok && errors.Is(err, keysource.ErrDenied)
}

// versionName is the name of a version in requests.
func (o operation) versionName(number string) string { return o.name + "/cryptoKeyVersions/" + number }

// chosen returns the version that wraps: the one in the reference of the key, or the primary one.
func (o operation) chosen(ctx context.Context) (version, error) {
	var v version
	if o.key.Version != "" {
		var err error
		if v, err = o.readVersion(ctx, o.key.Version); err != nil {
			return version{}, err
		}
	} else {
		k, err := o.readKey(ctx)
		if err != nil {
			return version{}, err
		}
		if k.Primary == nil {
			return version{}, errors.New("the key has no primary version, so a version must be named")
		}
		v = *k.Primary
	}
	if err := v.usable(); err != nil {
		return version{}, err
	}
	if v.bits() == 0 {
		return version{}, fmt.Errorf("version %s is for %.60q, which does not wrap", v.number(), v.Algorithm)
	}
	return v, nil
}

// readKey reads the key.
func (o operation) readKey(ctx context.Context) (key, error) {
	var k key
	if err := o.call(ctx, http.MethodGet, o.name, nil, &k); err != nil {
		return key{}, err
	}
	switch {
	case k.Name == "" || k.Purpose == "":
		return key{}, errors.New("the answer describes no key")
	case !sameResource(o.name, k.Name):
		return key{}, otherKey(k.Name)
	}
	if k.Primary != nil {
		if number := k.Primary.number(); !versionPattern.MatchString(number) ||
			!sameResource(o.versionName(number), k.Primary.Name) || k.Primary.State == "" {
			return key{}, errors.New("the answer describes no primary version of the key")
		}
		k.Primary.Name = o.versionName(k.Primary.number())
	}
	return k, nil
}

// readVersion reads a version.
func (o operation) readVersion(ctx context.Context, number string) (version, error) {
	var v version
	if err := o.call(ctx, http.MethodGet, o.versionName(number), nil, &v); err != nil {
		return version{}, err
	}
	switch {
	case v.Name == "" || v.State == "" || v.Algorithm == "":
		return version{}, errors.New("the answer describes no version of a key")
	case !sameResource(o.versionName(number), v.Name):
		return version{}, otherKey(v.Name)
	}
	v.Name = o.versionName(number)
	return v, nil
}

func otherKey(name string) error {
	return &keysource.Error{Class: keysource.ErrWrong, Text: fmt.Sprintf("the service answered for %.300q", name)}
}

// bits is the size of a key that can wrap; else 0.
func (v version) bits() int {
	if v.Algorithm == symmetric {
		return 256
	}
	size, digest, _ := strings.Cut(strings.TrimPrefix(v.Algorithm, rsaPrefix), "_")
	bits, err := strconv.Atoi(size)
	if !v.rsa() || err != nil || bits < 2048 || digest != "SHA256" && digest != "SHA512" {
		return 0
	}
	return bits
}

func (v version) algorithm() string {
	switch {
	case v.Algorithm == symmetric:
		return "A256GCM"
	case v.bits() == 0:
		return v.Algorithm
	case strings.HasSuffix(v.Algorithm, "SHA512"):
		return "RSA-OAEP-512"
	}
	return "RSA-OAEP-256"
}

// unfit says why a version of the key may not protect a resource. v is zero if the key has no version that would wrap.
func (k key) unfit(v version) map[keysource.Fitness]string {
	why := map[keysource.Fitness]string{}
	if k.Purpose != "ENCRYPT_DECRYPT" && k.Purpose != "ASYMMETRIC_DECRYPT" {
		why[keysource.FitOperations] = fmt.Sprintf("has the purpose %.40q: make one for ENCRYPT_DECRYPT or "+
			"ASYMMETRIC_DECRYPT", k.Purpose)
	}
	external := strings.HasPrefix(v.Protection, "EXTERNAL") || strings.HasPrefix(k.Template.Protection, "EXTERNAL")
	wait, err := time.ParseDuration(k.Destroy)
	switch {
	case external:
		why[keysource.FitProtection] = "is held by an external key manager, so that Cloud KMS knows neither whether " +
			"it can be deleted there nor whether it still exists: make one with the protection level HSM or SOFTWARE"
	case err != nil || wait < minDestroy:
		why[keysource.FitProtection] = fmt.Sprintf("is destroyed %.20q after the order, too soon to undo a mistake: "+
			"make one with --destroy-scheduled-duration of %d days or more, which cannot be changed later", k.Destroy,
			int(minDestroy.Hours()/24))
	}
	switch {
	case v == (version{}) && k.Purpose == "ASYMMETRIC_DECRYPT":
		why[keysource.FitType] = "is asymmetric and so has no primary version that could be followed: name a version"
	case v == (version{}):
		why[keysource.FitType] = "has no primary version: set one, or name a version"
	case v.bits() == 0 && !external:
		why[keysource.FitType] = fmt.Sprintf("is for %.60q: only %s and %s of 2048 bits or more with SHA-256 or "+
			"SHA-512 protect resources", v.Algorithm, symmetric, strings.TrimSuffix(rsaPrefix, "_"))
	}
	return why
}

// publicKey is the public half of a version: …cryptoKeyVersions.getPublicKey in the REST definition.
type publicKey struct {
	Name      string    `json:"name"`
	PEM       string    `json:"pem"`
	PEMCRC    *checksum `json:"pemCrc32c"`
	Algorithm string    `json:"algorithm"`
}

// encrypt encrypts with the public key of a version (RFC 8017 §7.1, no label).
func (p publicKey) encrypt(v version, inner []byte) ([]byte, error) {
	switch {
	case p.PEM == "" || !p.PEMCRC.matches([]byte(p.PEM)):
		return nil, errCorrupted
	case !sameResource(v.Name, p.Name) || p.Algorithm != v.Algorithm:
		return nil, otherKey(p.Name + " " + p.Algorithm)
	}
	block, _ := pem.Decode([]byte(p.PEM))
	if block == nil {
		return nil, errors.New("the answer holds no public key")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok || public.N.BitLen() != v.bits() {
		return nil, errors.New("the answer holds no public key of the version's size")
	}
	digest := sha256.New()
	if strings.HasSuffix(v.Algorithm, "SHA512") {
		digest = sha512.New()
	}
	ciphertext, err := rsa.EncryptOAEP(digest, rand.Reader, public, inner, nil)
	if err != nil {
		return nil, fmt.Errorf("wrap with the public key: %w", err)
	}
	return ciphertext, nil
}
