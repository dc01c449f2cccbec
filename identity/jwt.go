package identity

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// algorithm is the one way of signing there is: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3). What the header of a
// token asks for is compared with it and never chosen by. Keys that a header carries or points to (jwk, x5c, jku, x5u)
// are never used: keys are found by their id among those that are known.
const algorithm = jose.RS256

// maxToken bounds tokens, in bytes; those of Entra have two or three thousand.
const maxToken = 16 << 10

// parsedToken is a token that was taken apart (RFC 7519). It proves nothing before verify has returned nil.
type parsedToken struct {
	keyID  string
	claims decidingClaims
	jws    *jose.JSONWebSignature
}

// decidingClaims are the claims that decide whether a token is accepted, and for whom.
type decidingClaims struct {
	jwt.Claims
	Tenant   string `json:"tid"`
	ObjectID string `json:"oid"`
}

// encoding refuses bits that no encoder sets, so that a token has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// parse takes a token apart. Errors do not repeat it, so those of go-jose, which may, are replaced.
//
// Its decoder takes names to the letter and refuses a field that is there twice. encoding/json would take "Sub" for
// "sub", and an issuer that lets its users name claims would be betrayed by that.
func parse(text string) (parsedToken, error) {
	none := parsedToken{}
	if len(text) > maxToken {
		return none, errors.New("it is too long")
	}
	if err := checkSpelling(text); err != nil {
		return none, err
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{algorithm})
	if _, other := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); other {
		return none, errors.New("it is not signed by " + string(algorithm))
	}
	if err != nil {
		return none, errors.New("its header is not that of a signed token")
	}
	header := jws.Signatures[0].Protected
	// go-jose knows one extension, b64, by which a body is signed unencoded. No issuer of tokens uses it.
	for _, extension := range []jose.HeaderKey{"crit", "b64"} {
		if _, there := header.ExtraHeaders[extension]; there {
			return none, errors.New("its header asks for something unknown")
		}
	}
	if header.KeyID == "" {
		return none, errors.New("it has no kid")
	}
	t := parsedToken{keyID: header.KeyID, jws: jws}
	if err := josejson.Unmarshal(jws.UnsafePayloadWithoutVerification(), &t.claims); err != nil {
		return none, errors.New("its body is not a JSON object of claims, each of its type and there once")
	}
	return t, nil
}

// checkSpelling refuses what go-jose would read but no encoder writes: line breaks, and bits after the end of a part.
func checkSpelling(text string) error {
	if strings.ContainsAny(text, "\r\n") {
		return errors.New("it has line breaks")
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return errors.New("it does not have three parts")
	}
	for i, name := range []string{"header", "body", "signature"} {
		if _, err := encoding.DecodeString(parts[i]); err != nil {
			return fmt.Errorf("its %s is not base64url", name)
		}
	}
	return nil
}

// audiences returns the claim "aud": one name, or several (RFC 7519 §4.1.3).
func (t parsedToken) audiences() ([]string, error) {
	if len(t.claims.Audience) == 0 || t.claims.Audience[0] == "" {
		return nil, errors.New("it has no aud")
	}
	return t.claims.Audience, nil
}

// current checks the times of a token: it must have an end, and may have a beginning and a time of issue.
func (t parsedToken) current(now time.Time) error {
	if t.claims.Expiry == nil {
		return errors.New("it has no exp")
	}
	switch err := t.claims.ValidateWithLeeway(jwt.Expected{Time: now}, leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return errExpired
	case errors.Is(err, jwt.ErrNotValidYet):
		return errors.New("it is not valid yet")
	case err != nil:
		return errors.New("it was issued in the future")
	}
	return nil
}

var errExpired = errors.New("it has expired")

func (t parsedToken) verify(key *rsa.PublicKey) error {
	if _, err := t.jws.Verify(key); err != nil {
		return errors.New("its signature is wrong")
	}
	return nil
}

// sign makes a token of claims.
func sign(claims any, id string, key *rsa.PrivateKey) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode the token's claims: %w", err)
	}
	return signText(body, id, key)
}

func signText(body []byte, id string, key *rsa.PrivateKey) (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	jws, err := signer.Sign(body)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return jws.CompactSerialize()
}
