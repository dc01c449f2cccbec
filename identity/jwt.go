package identity

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// algorithm is the one way of signing there is: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3). What the header of a
// token asks for is compared with it and never chosen by.
const algorithm = "RS256"

// maxToken bounds tokens, in bytes; those of Entra have two or three thousand.
const maxToken = 16 << 10

// jwt is a token that was taken apart (RFC 7519), and proves nothing before its signature was verified.
type jwt struct {
	keyID     string
	claims    map[string]json.RawMessage
	signed    string
	signature []byte
}

// encoding refuses bits that no encoder sets, so that a token has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// parse takes a token apart. Errors do not repeat it.
func parse(token string) (jwt, error) {
	if len(token) > maxToken {
		return jwt{}, errors.New("it is too long")
	}
	signed, last, found := cutLast(token)
	first, middle, two := strings.Cut(signed, ".")
	if !found || !two || strings.Contains(middle, ".") {
		return jwt{}, errors.New("it does not have three parts")
	}
	header, err := part(first)
	if err != nil {
		return jwt{}, fmt.Errorf("its header %w", err)
	}
	// base64 of the standard library skips line breaks; a token has none
	if strings.ContainsAny(token, "\r\n") {
		return jwt{}, errors.New("it has line breaks")
	}
	t := jwt{signed: signed}
	var alg string
	if err := text(header, "alg", &alg); err != nil || alg != algorithm {
		return jwt{}, errors.New("it is not signed by " + algorithm)
	}
	if _, critical := header["crit"]; critical {
		return jwt{}, errors.New("its header asks for something unknown")
	}
	if err := text(header, "kid", &t.keyID); err != nil {
		return jwt{}, err
	}
	if t.claims, err = part(middle); err != nil {
		return jwt{}, fmt.Errorf("its body %w", err)
	}
	if t.signature, err = encoding.DecodeString(last); err != nil {
		return jwt{}, errors.New("its signature is not base64url")
	}
	return t, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// part decodes an object by the exact names of its fields: encoding/json would take "Sub" for "sub", and an issuer that
// lets its users name claims would be betrayed by that. A field that is there twice is an error.
func part(s string) (map[string]json.RawMessage, error) {
	b, err := encoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("is not base64url")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("is not JSON")
		}
		key, ok := name.(string)
		if _, twice := fields[key]; !ok || twice {
			return nil, errors.New("has a field twice")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("is not JSON")
		}
		fields[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on after its end")
	}
	return fields, nil
}

// text reads a field that must be there and be a string that is not empty.
func text(fields map[string]json.RawMessage, name string, into *string) error {
	if err := json.Unmarshal(fields[name], into); err != nil || *into == "" {
		return fmt.Errorf("it has no %s", name)
	}
	return nil
}

// moment reads a time that must be there (RFC 7519 §2, NumericDate).
func moment(fields map[string]json.RawMessage, name string) (time.Time, error) {
	var seconds *float64
	const most = 1 << 40 // seconds; far from what a time can be made of
	if err := json.Unmarshal(fields[name], &seconds); err != nil || seconds == nil || math.Abs(*seconds) > most {
		return time.Time{}, fmt.Errorf("it has no %s", name)
	}
	return time.Unix(int64(*seconds), 0), nil
}

// audiences reads the claim "aud": one name, or several (RFC 7519 §4.1.3).
func audiences(fields map[string]json.RawMessage) ([]string, error) {
	var one string
	if err := text(fields, "aud", &one); err == nil {
		return []string{one}, nil
	}
	var several []string
	if err := json.Unmarshal(fields["aud"], &several); err != nil || len(several) == 0 {
		return nil, errors.New("it has no aud")
	}
	return several, nil
}

// current checks the times of a token: it must have an end, and may have a beginning.
func (t jwt) current(now time.Time) error {
	end, err := moment(t.claims, "exp")
	if err != nil {
		return err
	}
	if !now.Before(end.Add(leeway)) {
		return errExpired
	}
	if _, given := t.claims["nbf"]; !given {
		return nil
	}
	begin, err := moment(t.claims, "nbf")
	if err != nil {
		return err
	}
	if now.Before(begin.Add(-leeway)) {
		return errors.New("it is not valid yet")
	}
	return nil
}

var errExpired = errors.New("it has expired")

func (t jwt) verify(key *rsa.PublicKey) error {
	digest := sha256.Sum256([]byte(t.signed))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], t.signature) != nil {
		return errors.New("its signature is wrong")
	}
	return nil
}

// sign makes a token of claims.
func sign(claims any, id string, key *rsa.PrivateKey) (string, error) {
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": algorithm, "kid": id})
	if err != nil {
		return "", fmt.Errorf("encode the token's header: %w", err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode the token's claims: %w", err)
	}
	signed := encoding.EncodeToString(header) + "." + encoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed + "." + encoding.EncodeToString(signature), nil
}
