package identity

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// Sign signs claims with the directory's own key, as nobody outside can, and returns the token.
func (d *Directory) Sign(claims map[string]any) (string, error) {
	key, _ := d.signer(time.Now())
	return sign(claims, key.id, key.private)
}

// SignText signs a body that need not be JSON.
func (d *Directory) SignText(body []byte) (string, error) {
	key, _ := d.signer(time.Now())
	return signText(body, key.id, key.private)
}

// Key returns the id of the key that signs, and its public half as a careless verifier would use it for an HMAC.
func (d *Directory) Key() (id string, public []byte) {
	key, _ := d.signer(time.Now())
	return key.id, x509.MarshalPKCS1PublicKey(&key.private.PublicKey)
}

// With returns claims with some of them changed; a nil value removes one.
func With(claims map[string]any, changes map[string]any) map[string]any {
	all := maps.Clone(claims)
	for name, value := range changes {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// KeysOf returns the ids of the keys of a set that count.
func KeysOf(document []byte) ([]string, error) {
	keys, _, err := parseKeys(document)
	return slices.Sorted(maps.Keys(keys)), err
}
