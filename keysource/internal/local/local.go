// Package local wraps under a key in the memory of this process: the part that the sources for files, environment
// variables, passphrases, TPMs and recovery kits share.
package local

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/visage-face/visage/keysource"
)

// KeySize is the length of a wrapping key in bytes.
const KeySize = 32

// Algorithm is the Description.Algorithm of these sources: AES-256-GCM with a random nonce, under a key derived for one
// message.
const Algorithm = "A256GCM"

// The wrapped form, integers big endian:
//
//	'W' format=1 suite=1 kind | params len u16, params | salt 32 | commitment 32 | nonce 12, ciphertext, tag 16
//
// The message key and the commitment are HKDF-SHA-256 of the wrapping key with the salt, so each is used once. The
// version of the source's reference and everything before the nonce are associated data.
const (
	magic        = 'W'
	format       = 1
	suite        = 1
	saltSize     = 32
	commitSize   = sha256.Size
	headSize     = 6
	maxParams    = 1 << 10
	overhead     = 12 + 16 // nonce and tag of cipher.NewGCMWithRandomNonce
	maxInnerSize = 4 << 10
)

// Kind distinguishes the wrapped forms of different sources, so that none is opened as another.
type Kind byte

// The kinds. Numbers are on disk.
const (
	File       Kind = 1
	Env        Kind = 2
	Passphrase Kind = 3
	TPM        Kind = 4
	Recovery   Kind = 5
)

// Wrapped is a parsed wrapped form. Its slices alias the bytes it was parsed from.
type Wrapped struct {
	Params []byte // the source's inputs for deriving its key, for example the salt and cost of a passphrase

	head       []byte // everything before salt
	salt       []byte
	commitment []byte
	sealed     []byte
}

// Wrap seals inner under key, of KeySize bytes, bound to params and version.
func Wrap(kind Kind, key, params []byte, version string, inner []byte) ([]byte, error) {
	if len(inner) == 0 || len(inner) > maxInnerSize {
		return nil, Fail(keysource.ErrUnknown, nil, "cannot wrap %d bytes: between 1 and %d can be wrapped", len(inner),
			maxInnerSize)
	}
	blob := []byte{magic, format, suite, byte(kind)}
	blob = binary.BigEndian.AppendUint16(blob, uint16(len(params)))
	blob = append(blob, params...)
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails: the runtime ends the process instead
	messageKey, commitment, err := derive(key, salt)
	if err != nil {
		return nil, err
	}
	defer clear(messageKey)
	blob = append(append(blob, salt...), commitment...)
	aead, err := newAEAD(messageKey)
	if err != nil {
		return nil, err
	}
	return aead.Seal(blob, nil, inner, additional(blob, version)), nil
}

// Parse parses a wrapped form of one kind. It checks the shape only.
func Parse(kind Kind, blob []byte) (Wrapped, error) {
	if len(blob) < headSize || blob[0] != magic {
		return Wrapped{}, Fail(keysource.ErrWrong, nil,
			"the wrapped key is damaged: its header is missing (%d bytes)",
			len(blob))
	}
	if blob[1] != format || blob[2] != suite {
		return Wrapped{}, Fail(keysource.ErrUnknown, nil,
			"the wrapped key has format %d, suite %d; this version of Visage reads format %d, suite %d",
			blob[1], blob[2], format, suite)
	}
	if Kind(blob[3]) != kind {
		return Wrapped{}, Fail(keysource.ErrWrong, nil,
			"the wrapped key was made by another kind of protector (%d, not %d)", blob[3], kind)
	}
	n := int(binary.BigEndian.Uint16(blob[4:]))
	rest := blob[headSize:]
	if n > maxParams || len(rest) < n+saltSize+commitSize+overhead+1 ||
		len(rest) > n+saltSize+commitSize+overhead+maxInnerSize {
		return Wrapped{}, Fail(keysource.ErrWrong, nil, "the wrapped key is damaged: its length is %d bytes", len(blob))
	}
	return Wrapped{
		Params:     rest[:n],
		head:       blob[:headSize+n],
		salt:       rest[n : n+saltSize],
		commitment: rest[n+saltSize : n+saltSize+commitSize],
		sealed:     rest[n+saltSize+commitSize:],
	}, nil
}

// Open reverses Wrap. The commitment is checked first: a key that does not match it is the wrong key; it is not tried,
// and the error has the text wrong.
func (w Wrapped) Open(key []byte, version, wrong string) ([]byte, error) {
	messageKey, commitment, err := derive(key, w.salt)
	if err != nil {
		return nil, err
	}
	defer clear(messageKey)
	if !hmac.Equal(commitment, w.commitment) {
		return nil, Fail(keysource.ErrWrong, nil, "%s", wrong)
	}
	aead, err := newAEAD(messageKey)
	if err != nil {
		return nil, err
	}
	before := append(append(append([]byte(nil), w.head...), w.salt...), w.commitment...)
	inner, err := aead.Open(nil, nil, w.sealed, additional(before, version))
	if err != nil {
		return nil, Fail(keysource.ErrWrong, nil,
			"the key is right, but the wrapped key was changed after it was made: restore the data directory from a "+
				"backup")
	}
	return inner, nil
}

// Fingerprint identifies a random key without revealing it: 16 hexadecimal digits of a one-way derivation. It must not
// be used for a key made from a passphrase, because it would allow guessing offline.
func Fingerprint(key []byte) (string, error) {
	id, err := hkdf.Key(sha256.New, key, nil, "visage/v1/protector/name", 8)
	if err != nil {
		return "", fmt.Errorf("name key: %w", err)
	}
	return hex.EncodeToString(id), nil
}

// derive makes the message key and the commitment of one wrapped form.
func derive(key, salt []byte) (messageKey, commitment []byte, err error) {
	if len(key) != KeySize {
		return nil, nil, fmt.Errorf("wrapping key has %d bytes, not %d", len(key), KeySize)
	}
	messageKey, err = hkdf.Key(sha256.New, key, salt, "visage/v1/protector/wrap", KeySize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive wrapping key: %w", err)
	}
	commitment, err = hkdf.Key(sha256.New, key, salt, "visage/v1/protector/commit", commitSize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive commitment: %w", err)
	}
	return messageKey, commitment, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return aead, nil
}

// additional encodes the associated data of a message: each field with its length, in fixed order.
func additional(before []byte, version string) []byte {
	const label = "visage/v1/protector"
	b := binary.BigEndian.AppendUint32(nil, 3)
	for _, field := range [][]byte{[]byte(label), before, []byte(version)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return b
}
