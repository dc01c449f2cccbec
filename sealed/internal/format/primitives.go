package format

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// This file is where the standard library's cryptography meets the formats; nothing else in the program seals.
//
//   - AES-256-GCM (SP 800-38D) through cipher.NewGCMWithRandomNonce, the construction the Go Cryptographic Module
//     approves for encryption (FIPS 140-3 IG C.H, scenario 2). Every key is derived for one message, so a nonce cannot
//     meet its like under the same key.
//   - HKDF-SHA-256 (RFC 5869, SP 800-56C) for every derived key.
//   - HMAC-SHA-256 for commitments, blinding and the instance document.

// KeySize is the length of every key and secret, in bytes.
const KeySize = 32

const (
	saltSize  = 24
	nonceSize = 12
	tagSize   = 16
	// sealSize is what sealing adds to a plaintext.
	sealSize = nonceSize + tagSize
)

// Labels keep the uses of keys apart. They are never shared and never change.
const (
	labelRegistry  = "visage/v1/reg"
	labelInner     = "visage/v1/inner"
	labelEpochs    = "visage/v1/epoch"
	labelInstance  = "visage/v1/instance"
	labelBundle    = "visage/v1/bundle"
	labelPage      = "visage/v1/page"
	labelNursery   = "visage/v1/nursery"
	labelRecord    = "visage/v1/rec"
	labelHedge     = "visage/v1/hedge"
	labelBlind     = "visage/v1/blind"
	labelSlot      = "visage/slot/v1"
	labelLog       = "visage/v1/log"
	labelLogName   = "visage/v1/log-name"
	labelCommit    = "visage/v1/commit"
	labelCommitEWK = "visage/v1/commit-epoch"
	labelCommitIRK = "visage/v1/commit-root"
	labelProbe     = "visage/v1/probe"
	labelHead      = "visage/v1/head"
	labelSet       = "visage/v1/set"
	labelAnchor    = "visage/v1/anchor"
	labelPortable  = "visage/v1/portable"
	labelBackup    = "visage/v1/backup"
	labelFormer    = "visage/v1/former-root"
	labelCarried   = "visage/v1/carried-epoch"
	labelRecovery  = "visage/v1/recovery-proof"
	labelLease     = "visage/v1/lease"
	labelLeaseName = "visage/v1/lease-name"
)

// Context encodes a label and fields so that no two different sequences give the same bytes: their number comes first,
// and each has its length before it. It is the one encoding of everything that is authenticated or derived from.
func Context(label string, fields ...[]byte) []byte {
	n := 4 + 4 + len(label)
	for _, f := range fields {
		n += 4 + len(f)
	}
	return appendContext(make([]byte, 0, n), label, fields...)
}

func appendContext(b []byte, label string, fields ...[]byte) []byte {
	b = appendContextHead(b, label, len(fields))
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// appendContextHead appends what stands before the first field.
func appendContextHead(b []byte, label string, fields int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+fields))
	b = binary.BigEndian.AppendUint32(b, uint32(len(label)))
	return append(b, label...)
}

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// expand derives a key of KeySize bytes from key, which must itself be uniformly random, for the use that label and
// fields name.
func expand(key []byte, label string, fields ...[]byte) []byte {
	var room [384]byte // for most contexts, so that they are copied once
	k, err := hkdf.Expand(sha256.New, key, string(appendContext(room[:0], label, fields...)), KeySize)
	if err != nil {
		panic("format: derive a key: " + err.Error()) // only for lengths that HKDF or the module forbids
	}
	return k
}

// mac returns HMAC-SHA-256 of label and fields.
func mac(key []byte, label string, fields ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(Context(label, fields...))
	return m.Sum(nil)
}

// salted makes a salt that depends on fresh randomness and on what is sealed: should the generator ever repeat itself,
// after a virtual machine was cloned, different messages still get different salts and so different keys.
func salted(hedge []byte, fields ...[]byte) []byte {
	m := hmac.New(sha256.New, hedge) // HKDF-Extract, without a copy of what is sealed
	part := make([]byte, 32, 64)
	rand.Read(part) // never fails: the runtime ends the process instead
	m.Write(part)
	m.Write(appendContextHead(part[:0], labelHedge, len(fields)))
	for _, f := range fields {
		m.Write(binary.BigEndian.AppendUint32(part[:0], uint32(len(f))))
		m.Write(f)
	}
	return m.Sum(part[:0])[:saltSize:saltSize]
}

func aead(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("format: key of wrong length: " + err.Error())
	}
	g, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("format: AES-GCM is not available: " + err.Error())
	}
	return g
}

// seal appends nonce, ciphertext and tag of plaintext under a key that the caller uses for this one message.
func seal(dst, key, plaintext, associated []byte) []byte {
	return aead(key).Seal(dst, nil, plaintext, associated)
}

// open appends the plaintext of what seal made.
func open(dst, key, sealed, associated []byte) ([]byte, error) {
	if len(sealed) < sealSize {
		return nil, fmt.Errorf("%w: %d bytes are too few to be sealed", ErrMalformed, len(sealed))
	}
	out, err := aead(key).Open(dst, nil, sealed, associated)
	if err != nil {
		return nil, ErrNotAuthentic
	}
	return out, nil
}

// RandomID returns a random id.
func RandomID() (id ID) {
	rand.Read(id[:])
	return id
}

// DataKeyCommitment binds a resource data key to its space and generation. It is public and compared after every
// unwrap.
func DataKeyCommitment(key []byte, space ID, generation uint32) []byte {
	return mac(key, labelCommit, space[:], u32(generation))
}

// EpochKeyCommitment does the same for an epoch key.
func EpochKeyCommitment(key []byte, space ID, epoch uint32) []byte {
	return mac(key, labelCommitEWK, space[:], u32(epoch))
}

// RootKeyCommitment does the same for the instance root key.
func RootKeyCommitment(key []byte, instance ID) []byte {
	return mac(key, labelCommitIRK, instance[:])
}

// RecoveryProof proves that its maker has the root key, for a recovery kit and a moment in seconds since 1970.
func RecoveryProof(key []byte, instance ID, kit string, at int64) []byte {
	proof := expand(key, labelRecovery, instance[:])
	defer clear(proof)
	return mac(proof, labelRecovery, []byte(kit), u64(uint64(at)))
}

// ProbeSum says what a slot's probe must unwrap to, without saying it.
func ProbeSum(probe []byte, space ID, generation uint32) []byte {
	sum := sha256.Sum256(Context(labelProbe, probe, space[:], u32(generation)))
	return sum[:]
}

// RootKey derives the key that the head of a space's root container is sealed under, for one pair of data key and epoch
// key: with either of them alone it cannot be had. Every other key of the space lies below that head.
func RootKey(dataKey, epochKey []byte) (key []byte) {
	arena.Do(func() {
		k, err := hkdf.Extract(sha256.New, dataKey, epochKey)
		if err != nil {
			panic("format: extract a root key: " + err.Error())
		}
		key = k
	})
	return key
}

// SetKey derives, from the blinding key, the key of the set hashes in heads.
func SetKey(blind []byte) []byte { return expand(blind, labelSet) }

// HedgeKey derives the key that salts of a space are hedged with.
func HedgeKey(dataKey []byte, space ID) []byte { return expand(dataKey, labelHedge, space[:]) }

// BlindContainer returns the blinded id of a container: a table under parents.
func BlindContainer(blind []byte, table string, parents []string) ID {
	return ID(mac(blind, labelBlind, blinded("container", table, parents, "", false)...)[:16])
}

// BlindRecord returns the blinded id of a record of that container.
func BlindRecord(blind []byte, table string, parents []string, id string) ID {
	return ID(mac(blind, labelBlind, blinded("record", table, parents, id, true)...)[:16])
}

func blinded(kind, table string, parents []string, id string, record bool) [][]byte {
	fields := make([][]byte, 0, 3+len(parents))
	fields = append(fields, []byte(kind), []byte(table))
	for _, p := range parents {
		fields = append(fields, []byte(p))
	}
	if record {
		fields = append(fields, []byte(id))
	}
	return fields
}
