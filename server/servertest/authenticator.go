package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// Authenticator is a WebAuthn authenticator in software, with one passkey: ES256, without attestation, with a person in
// front of it who agrees to everything. Its fields may be changed, to lie.
type Authenticator struct {
	Origin   string // of the page that asks
	RPID     string // that the page names; empty: as the options say
	ID       []byte // of the passkey
	Handle   []byte // of the person, as the site gave it
	Counter  uint32 // of the next use
	Unproved bool   // the person is not asked who they are

	key *ecdsa.PrivateKey
	rp  string
}

// flags of authenticator data (Web Authentication Level 3 §6.1).
const (
	userPresent  = 0x01
	userVerified = 0x04
	attested     = 0x40
)

// Create makes the passkey that options ask for, and returns what navigator.credentials.create would, as JSON.
func (a *Authenticator) Create(t testing.TB, options string) string {
	t.Helper()
	var asked struct {
		PublicKey struct {
			Challenge string              `json:"challenge"`
			RP        struct{ ID string } `json:"rp"`
			User      struct{ ID string } `json:"user"`
		} `json:"publicKey"`
	}
	if err := json.Unmarshal([]byte(options), &asked); err != nil || asked.PublicKey.Challenge == "" {
		t.Fatalf("options to create a passkey: %s (%v)", options, err)
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if a.Handle, err = base64.RawURLEncoding.DecodeString(asked.PublicKey.User.ID); err != nil {
		t.Fatal(err)
	}
	a.rp, a.ID = asked.PublicKey.RP.ID, make([]byte, 16)
	_, _ = rand.Read(a.ID) // never fails
	data := append(a.data(attested), make([]byte, 16)...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.ID)))
	data = append(append(data, a.ID...), a.coseKey(t)...)
	// {"fmt": "none", "attStmt": {}, "authData": data} in CBOR.
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(append(object, 0x64), "none"...)
	object = append(append(object, 0x67), "attStmt"...)
	object = append(append(object, 0xa0, 0x68), "authData"...)
	object = append(binary.BigEndian.AppendUint16(append(object, 0x59), uint16(len(data))), data...)
	return a.credential(t, map[string]string{
		"clientDataJSON":    encode(a.clientData(t, "webauthn.create", asked.PublicKey.Challenge)),
		"attestationObject": encode(object),
	})
}

// Get shows the passkey as options ask, and returns what navigator.credentials.get would, as JSON.
func (a *Authenticator) Get(t testing.TB, options string) string {
	t.Helper()
	var asked struct {
		PublicKey struct {
			Challenge string `json:"challenge"`
		} `json:"publicKey"`
	}
	if err := json.Unmarshal([]byte(options), &asked); err != nil || asked.PublicKey.Challenge == "" {
		t.Fatalf("options to show a passkey: %s (%v)", options, err)
	}
	data, client := a.data(0), a.clientData(t, "webauthn.get", asked.PublicKey.Challenge)
	a.Counter++
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(data, hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return a.credential(t, map[string]string{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature),
		"userHandle": encode(a.Handle),
	})
}

// data is the beginning of authenticator data, with further flags.
func (a *Authenticator) data(flags byte) []byte {
	id := a.rp
	if a.RPID != "" {
		id = a.RPID
	}
	if flags |= userPresent; !a.Unproved {
		flags |= userVerified
	}
	hash := sha256.Sum256([]byte(id))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.Counter)
}

// coseKey is the public key (RFC 9053 §2.1, §7.1.1).
func (a *Authenticator) coseKey(t testing.TB) []byte {
	point, err := a.key.PublicKey.Bytes() // 0x04, x, y
	if err != nil {
		t.Fatal(err)
	}
	key := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20}
	key = append(key, point[1:33]...)
	return append(append(key, 0x22, 0x58, 0x20), point[33:]...)
}

func (a *Authenticator) clientData(t testing.TB, what, challenge string) []byte {
	b, err := json.Marshal(map[string]any{
		"type": what, "challenge": challenge, "origin": a.Origin, "crossOrigin": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a *Authenticator) credential(t testing.TB, response map[string]string) string {
	b, err := json.Marshal(map[string]any{
		"id": encode(a.ID), "rawId": encode(a.ID), "type": "public-key", "response": response,
		"clientExtensionResults": map[string]any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
