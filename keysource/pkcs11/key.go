package pkcs11

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage/internal/weakkey"
	"github.com/visage-face/visage/keysource"
)

// maxObjects bounds the objects of one class with one label, or one id.
const maxObjects = 64

// The sizes of keys, in bits.
const (
	aesBits = 256
	minRSA  = 2048
)

// key is a key in a token, as one session has it.
type key struct {
	handle, public api.ObjectHandle // public: of RSA
	class          uint
	kind           uint // CKA_KEY_TYPE
	bits           int
	id             string // in hexadecimal
	mark           string // what it is recognised by, in hexadecimal; empty: the token has nothing
	modulus        *big.Int
	exponent       *big.Int
}

// version returns the key's version.
func (k key) version() string {
	if k.mark == "" {
		return k.id
	}
	return k.id + "-" + k.mark
}

// find returns the key of a version; of none, the only key. With a version, no object with another CKA_ID is read, so
// that one that somebody makes without an id does not take a key away that is in use.
func (s *Source) find(session api.SessionHandle, version string) (key, error) {
	id, mark, marked := strings.Cut(version, "-")
	raw, err := hex.DecodeString(id)
	if err != nil {
		return key{}, fmt.Errorf("read the version %q: %w", version, err)
	}
	var found, others []key
	for _, class := range []uint{api.CKO_SECRET_KEY, api.CKO_PRIVATE_KEY} {
		handles, err := s.objects(session, class, raw)
		if err != nil {
			return key{}, err
		}
		for _, handle := range handles {
			k, err := s.read(session, class, handle)
			if err != nil {
				return key{}, err
			}
			switch {
			case version != "" && k.id != id:
			case marked && k.mark != mark:
				others = append(others, k)
			default:
				found = append(found, k)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return key{}, &keysource.Error{Class: keysource.ErrUnknown, Text: fmt.Sprintf("the token has %d keys with the "+
			"label %q, and nothing says which is meant: give one of the versions %s", len(found), s.label,
			versions(found))}
	case len(others) > 0 && others[0].mark == "":
		return key{}, &keysource.Error{Class: keysource.ErrUnknown,
			Text: "the token does not say any more what its key is recognised by"}
	case len(others) > 0:
		return key{}, &keysource.Error{Class: keysource.ErrWrong, Text: fmt.Sprintf("the key with the label %q and "+
			"the CKA_ID %s is another one, version %s: it was made anew under its name", s.label, id, versions(others))}
	}
	text := fmt.Sprintf("the token has no key with the label %q", s.label)
	if version != "" {
		text += " and the CKA_ID " + id
	}
	return key{}, &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing, Text: text}
}

func versions(keys []key) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.version())
	}
	return strings.Join(all, ", ")
}

// objects returns the objects of a class with the label and, if it is not empty, an id.
func (s *Source) objects(session api.SessionHandle, class uint, id []byte) ([]api.ObjectHandle, error) {
	want := []*api.Attribute{api.NewAttribute(api.CKA_CLASS, class), api.NewAttribute(api.CKA_LABEL, s.label)}
	if class == api.CKO_PUBLIC_KEY { // whose label nobody sees
		want = want[:1]
	}
	if len(id) > 0 {
		want = append(want, api.NewAttribute(api.CKA_ID, id))
	}
	lib := s.token.lib
	if err := lib.FindObjectsInit(session, want); err != nil {
		return nil, err
	}
	var all []api.ObjectHandle
	var err error
	for len(all) <= maxObjects { // a library may return fewer at a time than are asked for
		var next []api.ObjectHandle
		if next, _, err = lib.FindObjects(session, maxObjects+1-len(all)); err != nil || len(next) == 0 {
			break
		}
		all = append(all, next...)
	}
	err = errors.Join(err, lib.FindObjectsFinal(session))
	if err == nil && len(all) > maxObjects { // the one that is meant may be behind them
		err = &keysource.Error{Class: keysource.ErrUnknown,
			Text: fmt.Sprintf("the token has more than %d keys with the label %q, too many to tell them apart",
				maxObjects, s.label)}
	}
	return all, err
}

// read reads what identifies a key.
func (s *Source) read(session api.SessionHandle, class uint, handle api.ObjectHandle) (key, error) {
	k := key{handle: handle, class: class}
	id, err := s.attribute(session, handle, api.CKA_ID)
	if err != nil {
		return key{}, err
	}
	kind, err := s.attribute(session, handle, api.CKA_KEY_TYPE)
	if err != nil {
		return key{}, err
	}
	k.id, k.kind = hex.EncodeToString(id), number(kind)
	if len(id) == 0 || len(id) > maxID {
		return key{}, &keysource.Error{Class: keysource.ErrUnknown, Text: fmt.Sprintf("a key with the label %q has no "+
			"CKA_ID, or one of more than %d bytes: set it", s.label, maxID)}
	}
	if class == api.CKO_SECRET_KEY {
		size, err := s.optional(session, handle, api.CKA_VALUE_LEN)
		if err != nil {
			return key{}, err
		}
		k.bits = int(number(size)) * 8
		check, err := s.optional(session, handle, api.CKA_CHECK_VALUE)
		if len(check) == 3 {
			k.mark = hex.EncodeToString(check)
		}
		return k, err
	}
	modulus, err := s.optional(session, handle, api.CKA_MODULUS)
	if err != nil || modulus == nil {
		return k, err // a key of another type
	}
	modulus = bytes.TrimLeft(modulus, "\x00")
	sum := sha256.Sum256(modulus)
	k.modulus, k.mark = new(big.Int).SetBytes(modulus), hex.EncodeToString(sum[:8])
	k.bits = k.modulus.BitLen()
	exponent, err := s.optional(session, handle, api.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return key{}, err
	}
	k.exponent = new(big.Int).SetBytes(exponent)
	public, err := s.objects(session, api.CKO_PUBLIC_KEY, id)
	for _, handle := range public {
		other, otherErr := s.optional(session, handle, api.CKA_MODULUS)
		err = errors.Join(err, otherErr)
		if bytes.Equal(bytes.TrimLeft(other, "\x00"), modulus) {
			k.public = handle
		}
	}
	return k, err
}

func (s *Source) attribute(session api.SessionHandle, handle api.ObjectHandle, which uint) ([]byte, error) {
	got, err := s.token.lib.GetAttributeValue(session, handle, []*api.Attribute{api.NewAttribute(which, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

// optional is attribute for what a key or a token need not have; nil: it has none.
func (s *Source) optional(session api.SessionHandle, handle api.ObjectHandle, which uint) ([]byte, error) {
	value, err := s.attribute(session, handle, which)
	code, _ := errors.AsType[api.Error](err)
	if code == api.CKR_ATTRIBUTE_TYPE_INVALID || code == api.CKR_ATTRIBUTE_SENSITIVE {
		return nil, nil
	}
	return value, err
}

// number reads a CK_ULONG, which is as long as the processor's words and in their order.
func number(raw []byte) uint {
	switch len(raw) {
	case 4:
		return uint(binary.NativeEndian.Uint32(raw))
	case 8:
		return uint(binary.NativeEndian.Uint64(raw))
	}
	return 0
}

// describe reads the properties of a key.
func (s *Source) describe(session api.SessionHandle, k key) (keysource.Description, error) {
	flags := map[uint]*bool{}
	for _, which := range []uint{
		api.CKA_ENCRYPT, api.CKA_DECRYPT, api.CKA_SENSITIVE, api.CKA_EXTRACTABLE, api.CKA_NEVER_EXTRACTABLE,
		api.CKA_ALWAYS_SENSITIVE, api.CKA_DESTROYABLE, api.CKA_TOKEN,
	} {
		of := k.handle
		if which == api.CKA_ENCRYPT && k.class == api.CKO_PRIVATE_KEY {
			if of = k.public; of == 0 {
				continue
			}
		}
		value, err := s.optional(session, of, which)
		if err != nil {
			return keysource.Description{}, err
		}
		if len(value) == 1 {
			flags[which] = new(value[0] != 0)
		}
	}
	is := func(which uint, want bool) bool { return flags[which] != nil && *flags[which] == want }
	d := keysource.Description{
		Ref: keysource.Ref{URI: s.uri, Version: k.version()}, Algorithm: "A256GCM", KeyType: "oct-HSM", Bits: k.bits,
		Enabled: is(api.CKA_DECRYPT, true), Unfit: map[keysource.Fitness]string{},
	}
	if k.class == api.CKO_PRIVATE_KEY {
		d.Algorithm, d.KeyType = "RSA-OAEP-256", "RSA-HSM"
		if k.modulus != nil && k.exponent.Sign() > 0 {
			if weak := weakkey.Public(k.modulus, k.exponent); weak != nil {
				d.Weak = weak.Error()
			}
		}
	}
	for which, into := range map[uint]*time.Time{api.CKA_START_DATE: &d.NotBefore, api.CKA_END_DATE: &d.Expires} {
		value, err := s.optional(session, k.handle, which)
		if gone(err) {
			return keysource.Description{}, err
		}
		// SoftHSM fails to return a date that it has.
		if day, err := time.Parse("20060102", string(value)); err == nil {
			*into = day
		}
	}
	if !d.Expires.IsZero() {
		d.Expires = d.Expires.AddDate(0, 0, 1) // the last day is one of use
	}
	aes := k.class == api.CKO_SECRET_KEY && k.kind == api.CKK_AES
	rsa := k.class == api.CKO_PRIVATE_KEY && k.kind == api.CKK_RSA
	switch {
	case !aes && !rsa || aes && k.bits != aesBits || rsa && k.bits < minRSA:
		d.Unfit[keysource.FitType] = fmt.Sprintf("has %d bits and CKA_KEY_TYPE 0x%x: only AES keys of %d bits and RSA "+
			"keys of at least %d protect resources", k.bits, k.kind, aesBits, minRSA)
	}
	switch {
	case !is(api.CKA_TOKEN, true):
		d.Unfit[keysource.FitProtection] = "lives in a session alone: make it with CKA_TOKEN true"
	case !is(api.CKA_EXTRACTABLE, false):
		d.Unfit[keysource.FitProtection] = "may leave the token: make one with CKA_EXTRACTABLE false"
	case !is(api.CKA_SENSITIVE, true):
		d.Unfit[keysource.FitProtection] = "may be read in the clear: make one with CKA_SENSITIVE true"
	case !is(api.CKA_NEVER_EXTRACTABLE, true):
		d.Unfit[keysource.FitProtection] = "could leave the token in the past (CKA_NEVER_EXTRACTABLE is false): make " +
			"one in the token"
	case is(api.CKA_DESTROYABLE, true) && !s.token.cfg.Destroyable:
		d.Unfit[keysource.FitProtection] = "may be destroyed by applications: make one with CKA_DESTROYABLE false, " +
			"or have the operator permit such keys, if the token is backed up"
	}
	if !is(api.CKA_DECRYPT, true) || !is(api.CKA_ENCRYPT, true) {
		d.Unfit[keysource.FitOperations] = "may not encrypt and decrypt: CKA_DECRYPT must be true, and CKA_ENCRYPT " +
			"of it, or of the public key with the same CKA_ID"
	}
	return d, nil
}
