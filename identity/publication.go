package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// CheckPublicIssuer refuses what cannot be the issuer of assertions at another address than that of this instance: an
// https URL without a slash at its end, since services compare issuers byte by byte (OpenID Connect Discovery 1.0 §3).
func CheckPublicIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery ||
		strings.Contains(issuer, "#") || strings.HasSuffix(issuer, "/") || u.String() != issuer {
		return fmt.Errorf("an issuer is https://HOST or https://HOST/PATH, without a slash at the end; got %q",
			short(issuer))
	}
	return nil
}

// PublicKeysURL is the address of the keys of an issuer that Publication describes.
func PublicKeysURL(issuer string) string { return issuer + "/" + publicKeysFile }

const publicKeysFile = "jwks.json"

// Document is a file below the address of an issuer.
type Document struct {
	Path    string // relative to the issuer, with slashes
	Content []byte // JSON
}

// Publication returns the two documents by which services verify the assertions of an issuer: its keys and, last, its
// description, which names them (OpenID Connect Discovery 1.0 §3, RFC 7517 §5). They describe no endpoint: nobody signs
// in there.
func Publication(issuer string, keys []PublicKey) ([]Document, error) {
	set, setErr := json.MarshalIndent(struct {
		Keys []PublicKey `json:"keys"`
	}{keys}, "", "  ")
	about, aboutErr := json.MarshalIndent(struct {
		Issuer        string   `json:"issuer"`
		KeysAddress   string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
		Claims        []string `json:"claims_supported"`
	}{
		issuer, PublicKeysURL(issuer), []string{"id_token"}, []string{"public"}, []string{string(algorithm)},
		[]string{"aud", "exp", "iat", "iss", "nbf", "sub"},
	}, "", "  ")
	if err := errors.Join(setErr, aboutErr); err != nil {
		return nil, fmt.Errorf("encode the documents of an issuer: %w", err)
	}
	return []Document{
		{publicKeysFile, append(set, '\n')}, {".well-known/openid-configuration", append(about, '\n')},
	}, nil
}

// Unpublished returns the ids of those keys that a JSON Web Key Set lacks, or has with other numbers, in their order.
func Unpublished(set []byte, keys []PublicKey) ([]string, error) {
	published, _, err := parseKeys(set) // of a key that cannot be read the id is missing, which says enough
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, k := range keys {
		want, err := publishedKey{Kty: k.Type, Use: k.Use, Alg: k.Algorithm, Kid: k.ID, N: k.Modulus,
			E: k.Exponent}.public()
		if err != nil {
			return nil, fmt.Errorf("key %q of this instance: %w", k.ID, err)
		}
		if got := published[k.ID]; got == nil || !got.Equal(want) {
			missing = append(missing, k.ID)
		}
	}
	return missing, nil
}
