// Package pkcs11 wraps under keys of PKCS#11 tokens: hardware security modules, and what has the same interface.
//
// A key is an AES key of 256 bits, with AES-GCM, or a pair of RSA keys of 2048 bits or more, with OAEP and SHA-256.
// With an AES key the label of a call is bound to the wrapped form as associated data. The library of the token runs in
// the process that loads it, so this package belongs into a process of its own; see keysource/helper.
//
// PKCS#11 has no versions. A version is one key among those with the same label: its CKA_ID, and behind a hyphen what
// the key is recognised by, the beginning of the digest of an RSA modulus or the check value of an AES key, so that a
// key that was made anew is another version. Nothing orders these versions, so a reference without one means the only
// key with its label.
package pkcs11

import (
	"context"
	"errors"
	"fmt"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage/keysource"
)

// Source is a keysource.Source over the keys with one label in a token. Its calls return when the library has, which
// their context cannot change.
type Source struct {
	token   *Token
	uri     string
	label   string
	version string
}

// Open returns a source over a key: uri is that of its references, label its CKA_LABEL. Nothing is sent yet.
func (t *Token) Open(uri, label, version string) (*Source, error) {
	if label == "" || version != "" && !versionPattern.MatchString(version) {
		return nil, fmt.Errorf("open key %s: no label, or no version of this store", uri)
	}
	return &Source{t, uri, label, version}, nil
}

// The wrapped form: a byte that says how, for AES the length of the nonce and the nonce, and the ciphertext.
const (
	oaep        = 1
	gcm         = 2
	gcmLabelled = 4 // one altered bit makes none of them another
)

const (
	nonceSize = 12  // bytes, unless the token chooses its own
	tagBits   = 128 // of AES-GCM
)

// Wrap implements keysource.Source.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	var blob []byte
	var ref keysource.Ref
	err := s.with(ctx, "wrap", s.version, func(session api.SessionHandle, k key) error {
		var err error
		ref = keysource.Ref{URI: s.uri, Version: k.version()}
		blob, err = s.encrypt(session, k, inner, keysource.LabelOf(ctx).Bytes())
		return err
	})
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	return blob, ref, nil
}

// Unwrap implements keysource.Source.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.mine("unwrap", ref); err != nil {
		return nil, err
	}
	var inner []byte
	err := s.with(ctx, "unwrap", ref.Version, func(session api.SessionHandle, k key) error {
		var err error
		inner, err = s.decrypt(session, k, blob, keysource.LabelOf(ctx).Bytes())
		return err
	})
	return inner, err
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ctx.Err() != nil {
		return keysource.Description{}, context.Cause(ctx)
	}
	version := s.version
	if ref != (keysource.Ref{}) {
		if err := s.mine("get", ref); err != nil {
			return keysource.Description{}, err
		}
		version = ref.Version
	}
	var d keysource.Description
	err := s.with(ctx, "get", version, func(session api.SessionHandle, k key) error {
		var err error
		d, err = s.describe(session, k)
		return err
	})
	return d, err
}

// mine checks that ref names a version of this key.
func (s *Source) mine(verb string, ref keysource.Ref) error {
	if ref.URI != s.uri || !versionPattern.MatchString(ref.Version) {
		return s.failure(verb, keysource.ErrWrong, "", fmt.Sprintf("%s, version %q, is another key", ref.URI,
			ref.Version))
	}
	return nil
}

// with finds a key in a session that is logged in, and does something with it.
func (s *Source) with(ctx context.Context, verb, version string, do func(api.SessionHandle, key) error) error {
	err := s.token.with(ctx, func(session api.SessionHandle) error {
		k, err := s.find(session, version)
		if err != nil {
			return err
		}
		return do(session, k)
	})
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return s.classified(verb, err)
}

func (s *Source) encrypt(session api.SessionHandle, k key, inner, label []byte) ([]byte, error) {
	lib := s.token.lib
	if k.class == api.CKO_PRIVATE_KEY {
		if k.public == 0 {
			return nil, &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing,
				Text: "the token has no public key with the same CKA_ID and modulus"}
		}
		if err := lib.EncryptInit(session, oaepSHA256(), k.public); err != nil {
			return nil, err
		}
		sealed, err := lib.Encrypt(session, inner)
		return append([]byte{oaep}, sealed...), err
	}
	form := byte(gcmLabelled)
	if label == nil {
		form = gcm
	}
	// The nonce is 96 random bits: the keys of resources are wrapped some thousand times, far from 2^32 (SP 800-38D
	// §8.3). A token that chooses its own returns it.
	params := api.NewGCMParams(nonce(), label, tagBits)
	defer params.Free()
	how := []*api.Mechanism{api.NewMechanism(api.CKM_AES_GCM, params)}
	if err := lib.EncryptInit(session, how, k.handle); err != nil {
		return nil, err
	}
	sealed, err := lib.Encrypt(session, inner)
	if err != nil {
		return nil, err
	}
	iv := params.IV()
	if len(iv) < nonceSize || len(iv) > 255 {
		return nil, &keysource.Error{Class: keysource.ErrUnknown, Text: "the token returned no nonce"}
	}
	return append(append([]byte{form, byte(len(iv))}, iv...), sealed...), nil
}

func (s *Source) decrypt(session api.SessionHandle, k key, blob, label []byte) ([]byte, error) {
	wrong := &keysource.Error{Class: keysource.ErrWrong, Text: "this key makes no wrapped keys of this form"}
	lib := s.token.lib
	if len(blob) == 0 {
		return nil, wrong
	}
	form, rest := blob[0], blob[1:]
	var how []*api.Mechanism
	switch {
	case form == oaep && k.class == api.CKO_PRIVATE_KEY:
		if len(rest) != (k.bits+7)/8 {
			return nil, wrong
		}
		how = oaepSHA256()
	case (form == gcm || form == gcmLabelled) && k.class == api.CKO_SECRET_KEY:
		if len(rest) == 0 || int(rest[0]) < nonceSize || len(rest) < 1+int(rest[0])+tagBits/8 {
			return nil, wrong
		}
		iv := rest[1 : 1+int(rest[0])]
		rest = rest[1+int(rest[0]):]
		if form == gcm {
			label = nil
		} else if label == nil {
			return nil, &keysource.Error{Class: keysource.ErrWrong, Text: "it was wrapped with a label"}
		}
		params := api.NewGCMParams(iv, label, tagBits)
		defer params.Free()
		how = []*api.Mechanism{api.NewMechanism(api.CKM_AES_GCM, params)}
	default:
		return nil, wrong
	}
	if err := lib.DecryptInit(session, how, k.handle); err != nil {
		return nil, err
	}
	inner, err := lib.Decrypt(session, rest)
	if err == nil && len(inner) == 0 {
		err = &keysource.Error{Class: keysource.ErrUnknown, Text: "the token returned nothing"}
	}
	if err != nil {
		clear(inner)
		return nil, err
	}
	return inner, nil
}

func oaepSHA256() []*api.Mechanism {
	return []*api.Mechanism{api.NewMechanism(api.CKM_RSA_PKCS_OAEP,
		api.NewOAEPParams(api.CKM_SHA256, api.CKG_MGF1_SHA256, api.CKZ_DATA_SPECIFIED, nil))}
}

// classified gives an error its class. It is called for what happened in a session that was logged in all the time; for
// others, Token.with gives ErrUnknown.
func (s *Source) classified(verb string, err error) error {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return s.failure(verb, e.Class, e.Reason, e.Text)
	}
	code, ok := errors.AsType[api.Error](err)
	switch {
	case ok && code == api.CKR_KEY_FUNCTION_NOT_PERMITTED:
		return s.failure(verb, keysource.ErrDenied, keysource.Disabled,
			"the key may not be used for this: "+code.Error())
	case ok && code == api.CKR_ENCRYPTED_DATA_INVALID:
		return s.failure(verb, keysource.ErrWrong, "", code.Error())
	}
	return s.failure(verb, keysource.ErrUnknown, "", err.Error())
}

func (s *Source) failure(verb string, class error, reason keysource.Reason, what string) error {
	of := s.uri
	if s.version != "" {
		of += ", version " + s.version
	}
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", verb, of, what)}
}
