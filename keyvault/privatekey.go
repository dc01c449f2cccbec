package keyvault

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"

	"github.com/visage-face/visage"
)

// maxPrivateKey limits the text of a private key, in bytes: the longest that can be imported, with comments and a chain
// of certificates beside it.
const maxPrivateKey = 64 << 10

// ReadPrivateKey reads a private key in one of the forms in which other programs keep it: a JSON Web Key (RFC 7517);
// PEM or DER of PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) or SEC 1 (RFC 5915). It reads keys that ImportKey may refuse,
// for example weak ones. Its refusals never quote the text: PrivateKeyMissing, PrivateKeyUnreadable,
// PrivateKeyEncrypted, PrivateKeyAmbiguous, PrivateKeyUnsupported. Wipe what it returns.
func ReadPrivateKey(text []byte) (JWK, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	trimmed := bytes.TrimSpace(text)
	switch {
	case len(trimmed) == 0:
		return JWK{}, visage.Refuse(visage.Invalid, "PrivateKeyMissing",
			"There is no private key: paste one or choose a file.")
	case len(text) > maxPrivateKey:
		return JWK{}, visage.Refuse(visage.Invalid, "PrivateKeyUnreadable",
			"The text has more than %d bytes: leave everything but the private key out.", maxPrivateKey)
	case trimmed[0] == '{':
		return readJWK(trimmed)
	case bytes.Contains(trimmed, []byte("-----BEGIN ")):
		return readPEM(trimmed)
	case text[0] == 0x30: // a SEQUENCE of ASN.1
		return readDER(text)
	}
	return JWK{}, unreadableKey()
}

func unreadableKey() error {
	return visage.Refuse(visage.Invalid, "PrivateKeyUnreadable", "This is not a private key in the form of PEM, "+
		"DER or a JSON Web Key, or a part of it is missing: copy all of it, with the lines that begin with \"-----\".")
}

func unsupportedKey(what string) error {
	return visage.Refuse(visage.Invalid, "PrivateKeyUnsupported", "A key of the type %s cannot be imported: use an "+
		"RSA key of 2048, 3072 or 4096 bits, or an EC key on P-256, P-384 or P-521.", what)
}

// Wipe overwrites the private parts of a key.
func (j JWK) Wipe() {
	for _, part := range [][]byte{j.D, j.P, j.Q, j.DP, j.DQ, j.QI} {
		clear(part)
	}
}

// readJWK reads a JSON Web Key. What is not needed to import it, such as its id and operations, is left out.
func readJWK(text []byte) (JWK, error) {
	var given struct {
		Type  string            `json:"kty"`
		Curve string            `json:"crv"`
		N     number64          `json:"n"`
		E     number64          `json:"e"`
		D     number64          `json:"d"`
		P     number64          `json:"p"`
		Q     number64          `json:"q"`
		DP    number64          `json:"dp"`
		DQ    number64          `json:"dq"`
		QI    number64          `json:"qi"`
		X     number64          `json:"x"`
		Y     number64          `json:"y"`
		Oth   []json.RawMessage `json:"oth"`
	}
	if err := json.Unmarshal(text, &given); err != nil { // the error may quote the text
		return JWK{}, unreadableKey()
	}
	key := JWK{
		Type: given.Type, Curve: given.Curve, N: given.N, E: given.E, D: given.D, P: given.P, Q: given.Q, DP: given.DP,
		DQ: given.DQ, QI: given.QI, Others: len(given.Oth) > 0, X: given.X, Y: given.Y,
	}
	kind := strings.TrimSuffix(strings.ToUpper(key.Type), "-HSM")
	switch {
	case kind == "":
		return JWK{}, unreadableKey()
	case kind != "RSA" && kind != "EC":
		key.Wipe()
		return JWK{}, unsupportedKey(visage.Shortened(given.Type))
	case len(key.D) == 0:
		return JWK{}, publicKeyOnly()
	}
	return key, nil
}

func publicKeyOnly() error {
	return visage.Refuse(visage.Invalid, "PrivateKeyMissing", "This is a public key or a certificate: use the file "+
		"that has the private key too.")
}

// number64 is a number of a JSON Web Key: base64url without padding (RFC 7518 §2), also read with padding.
type number64 []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *number64) UnmarshalText(text []byte) error {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	*n = decoded
	return err
}

// readPEM reads the one private key among the blocks of a PEM text.
func readPEM(text []byte) (key JWK, err error) {
	others := false
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			others = others || block.Type != "EC PARAMETERS"
			continue
		}
		another, err := readBlock(block)
		clear(block.Bytes)
		if err == nil && key.Type != "" {
			another.Wipe()
			err = visage.Refuse(visage.Invalid, "PrivateKeyAmbiguous",
				"There is more than one private key: leave all but one out.")
		}
		if err != nil {
			key.Wipe()
			return JWK{}, err
		}
		key = another
	}
	switch {
	case key.Type != "":
		return key, nil
	case others:
		return JWK{}, publicKeyOnly()
	}
	return JWK{}, unreadableKey()
}

// readBlock reads a block of PEM whose type ends in PRIVATE KEY.
func readBlock(block *pem.Block) (JWK, error) {
	// the header is that of the encryption of old (RFC 1421 §4.6.1.1)
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return JWK{}, visage.Refuse(visage.Invalid, "PrivateKeyEncrypted", "The private key is encrypted with a "+
			"passphrase: decrypt it first, with \"openssl pkey -in key.pem -out plain.pem\", and remove that file "+
			"afterwards.")
	}
	switch block.Type {
	case "PRIVATE KEY":
		return readPKCS8(block.Bytes)
	case "RSA PRIVATE KEY":
		return readPKCS1(block.Bytes)
	case "EC PRIVATE KEY":
		return readSEC1(block.Bytes, nil)
	case "OPENSSH PRIVATE KEY":
		return JWK{}, visage.Refuse(visage.Invalid, "PrivateKeyUnsupported", "The private key is in the form of "+
			"OpenSSH: convert a copy of it with \"ssh-keygen -p -m PKCS8 -f copy\" and import that.")
	}
	return JWK{}, unsupportedKey(visage.Shortened(block.Type))
}

// readDER reads a private key without the wrapping of PEM.
func readDER(der []byte) (JWK, error) {
	for _, read := range []func([]byte) (JWK, error){
		readPKCS8, readPKCS1, func(der []byte) (JWK, error) { return readSEC1(der, nil) },
	} {
		key, err := read(der)
		if refusal, ok := errors.AsType[*visage.Refusal](err); !ok || refusal.Code != "PrivateKeyUnreadable" {
			return key, err
		}
	}
	return JWK{}, visage.Refuse(visage.Invalid, "PrivateKeyUnreadable", "The file is binary and no private key. If it "+
		"is a PKCS #12 file (.p12, .pfx), take the key out of it first, with \"openssl pkcs12 -in file.p12 -nocerts "+
		"-noenc -out key.pem\".")
}

// The algorithms of PKCS #8 and the curves that are read.
var (
	oidRSA    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}  // rsaEncryption, RFC 8017 appendix A.1
	oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10} // RSASSA-PSS, likewise
	oidEC     = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}      // ecPublicKey, RFC 5480 §2.1.1
	curveOIDs = []struct {
		oid  asn1.ObjectIdentifier
		name string
	}{
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, "P-256"},
		{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, "P-384"},
		{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, "P-521"},
	}
)

// unmarshal decodes all of der.
func unmarshal(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}

func readPKCS8(der []byte) (JWK, error) {
	var given struct {
		Version   int
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Key []byte
		// attributes and a public key may follow
	}
	if !unmarshal(der, &given) {
		return JWK{}, unreadableKey()
	}
	defer clear(given.Key)
	switch {
	case given.Algorithm.ID.Equal(oidRSA):
		return readPKCS1(given.Key)
	case given.Algorithm.ID.Equal(oidEC):
		var curve asn1.ObjectIdentifier
		if !unmarshal(given.Algorithm.Parameters.FullBytes, &curve) {
			return JWK{}, unsupportedKey("EC with parameters of its own")
		}
		return readSEC1(given.Key, curve)
	case given.Algorithm.ID.Equal(oidRSAPSS):
		return JWK{}, unsupportedKey("RSASSA-PSS")
	}
	return JWK{}, unsupportedKey(given.Algorithm.ID.String())
}

func readPKCS1(der []byte) (JWK, error) {
	var given struct {
		Version          int
		N, E, D          *big.Int
		P, Q, DP, DQ, QI *big.Int
		Others           asn1.RawValue `asn1:"optional"`
	}
	if !unmarshal(der, &given) {
		return JWK{}, unreadableKey()
	}
	key := JWK{Type: "RSA", Others: given.Version != 0 || len(given.Others.FullBytes) > 0}
	for _, part := range []struct {
		from *big.Int
		to   *[]byte
	}{
		{given.N, &key.N}, {given.E, &key.E}, {given.D, &key.D}, {given.P, &key.P}, {given.Q, &key.Q},
		{given.DP, &key.DP}, {given.DQ, &key.DQ}, {given.QI, &key.QI},
	} {
		if part.from.Sign() < 0 {
			key.Wipe()
			return JWK{}, unreadableKey()
		}
		*part.to = part.from.Bytes()
		clear(part.from.Bits())
	}
	return key, nil
}

// readSEC1 reads a key on a curve; the curve of PKCS #8 takes the place of the one that is left out here. The point is
// computed, since it may be left out too.
func readSEC1(der []byte, curve asn1.ObjectIdentifier) (JWK, error) {
	var given struct {
		Version int
		Scalar  []byte
		Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		Point   asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
	if !unmarshal(der, &given) {
		return JWK{}, unreadableKey()
	}
	defer clear(given.Scalar)
	if len(curve) == 0 {
		curve = given.Curve
	}
	name := ""
	for _, known := range curveOIDs {
		if known.oid.Equal(curve) {
			name = known.name
		}
	}
	if name == "" {
		return JWK{}, unsupportedKey("EC on the curve " + curve.String())
	}
	on, err := curveOf(name)
	if err != nil {
		return JWK{}, err
	}
	scalar, fits := fixed(given.Scalar, (on.Params().BitSize+7)/8)
	defer clear(scalar)
	key, err := ecdsa.ParseRawPrivateKey(on, scalar)
	if !fits || err != nil {
		return JWK{}, unreadableKey()
	}
	m, err := fromPrivate("EC", key)
	if err != nil {
		return JWK{}, err
	}
	defer m.wipe()
	return JWK{Type: "EC", Curve: name, D: bytes.Clone(scalar), X: m.public.X, Y: m.public.Y}, nil
}
