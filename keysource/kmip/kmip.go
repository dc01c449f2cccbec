// Package kmip wraps under keys of servers of the Key Management Interoperability Protocol, version 1.4.
//
// A key is a symmetric AES key of 256 bits; the server encrypts and decrypts with AES-GCM, and the label of a call is
// bound to the wrapped form as associated data. A version is the unique identifier of a key. Which one has the name is
// the server's to say: re-keying gives it to the new key, so that a reference without a version follows.
//
// The standard lets servers decrypt with a key that was deactivated or compromised. So each call asks for the key's
// state first, and takes a key that is not active for revoked, whatever the server would do with it.
package kmip

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"

	"github.com/visage-face/visage/keysource"
)

// Source is a keysource.Source over one key.
type Source struct {
	server  *Server
	uri     string
	name    string // the attribute Name
	version string // as in references; empty: the key that has the name
}

// Open returns a source over a key: uri is that of its references, name its attribute Name. Nothing is sent yet.
func (s *Server) Open(uri, name, version string) (*Source, error) {
	if name == "" {
		return nil, fmt.Errorf("open key %s: no name", uri)
	}
	return &Source{s, uri, name, version}, nil
}

// The wrapped form: a byte that says whether the label is bound to it, the nonce, the tag, and the ciphertext.
const (
	unlabelled = 1
	labelled   = 2
	nonceSize  = 12 // bytes
	tagSize    = 16 // bytes
	head       = 1 + nonceSize + tagSize
)

// aesGCM is the algorithm.
func aesGCM() *kmip.CryptographicParameters {
	return &kmip.CryptographicParameters{
		BlockCipherMode: kmip.BlockCipherModeGCM, CryptographicAlgorithm: kmip.CryptographicAlgorithmAES,
		IVLength: nonceSize, TagLength: tagSize,
	}
}

// Wrap implements keysource.Source.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if ctx.Err() != nil {
		return nil, keysource.Ref{}, context.Cause(ctx)
	}
	id, k, err := s.find(ctx, s.version)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, keysource.Ref{}, s.classified(ctx, "wrap", err)
	}
	label := keysource.LabelOf(ctx).Bytes()
	form := byte(labelled)
	if label == nil {
		form = unlabelled
	}
	// 96 random bits: the keys of resources are wrapped some thousand times, far from 2^32 (SP 800-38D §8.3).
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails: the runtime ends the process instead
	answer, err := ask[*payloads.EncryptResponsePayload](ctx, s.server, &payloads.EncryptRequestPayload{
		UniqueIdentifier: id, CryptographicParameters: aesGCM(), Data: inner, IVCounterNonce: nonce,
		AuthenticatedEncryptionAdditionalData: label,
	})
	switch {
	case err != nil:
		return nil, keysource.Ref{}, s.explained(ctx, "wrap", id, err)
	case answer.UniqueIdentifier != id:
		return nil, keysource.Ref{}, s.otherKey("wrap", answer.UniqueIdentifier)
	case len(answer.AuthenticatedEncryptionTag) != tagSize || len(answer.Data) != len(inner):
		return nil, keysource.Ref{}, s.failure("wrap", keysource.ErrUnknown, "",
			"the answer has no ciphertext with its tag")
	case len(answer.IVCounterNonce) == nonceSize:
		nonce = answer.IVCounterNonce // the server has chosen its own
	}
	blob := slices.Concat([]byte{form}, nonce, answer.AuthenticatedEncryptionTag, answer.Data)
	return blob, keysource.Ref{URI: s.uri, Version: escape(id)}, nil
}

// Unwrap implements keysource.Source.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.mine("unwrap", ref); err != nil {
		return nil, err
	}
	label := keysource.LabelOf(ctx).Bytes()
	switch {
	case len(blob) <= head || blob[0] != labelled && blob[0] != unlabelled:
		return nil, s.failure("unwrap", keysource.ErrWrong, "", "this source makes no wrapped keys of this form")
	case blob[0] == labelled && label == nil:
		return nil, s.failure("unwrap", keysource.ErrWrong, "", "it was wrapped with a label")
	case blob[0] == unlabelled:
		label = nil
	}
	id := Name(ref.Version)
	k, err := s.read(ctx, id)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, s.classified(ctx, "unwrap", err)
	}
	answer, err := ask[*payloads.DecryptResponsePayload](ctx, s.server, &payloads.DecryptRequestPayload{
		UniqueIdentifier: id, CryptographicParameters: aesGCM(), Data: blob[head:],
		IVCounterNonce: blob[1 : 1+nonceSize], AuthenticatedEncryptionTag: blob[1+nonceSize : head],
		AuthenticatedEncryptionAdditionalData: label,
	})
	switch {
	case err != nil:
		return nil, s.explained(ctx, "unwrap", id, err)
	case answer.UniqueIdentifier != id:
		clear(answer.Data)
		return nil, s.otherKey("unwrap", answer.UniqueIdentifier)
	case len(answer.Data) != len(blob)-head:
		clear(answer.Data)
		return nil, s.failure("unwrap", keysource.ErrUnknown, "", "the answer has no plaintext")
	}
	return answer.Data, nil
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ctx.Err() != nil {
		return keysource.Description{}, context.Cause(ctx)
	}
	var id string
	var k key
	var err error
	if ref == (keysource.Ref{}) {
		id, k, err = s.find(ctx, s.version)
	} else {
		if err := s.mine("get", ref); err != nil {
			return keysource.Description{}, err
		}
		id = Name(ref.Version)
		k, err = s.read(ctx, id)
	}
	if err != nil {
		return keysource.Description{}, s.classified(ctx, "get", err)
	}
	return keysource.Description{
		Ref: keysource.Ref{URI: s.uri, Version: escape(id)}, Algorithm: "A256GCM", KeyType: "oct-HSM",
		Bits: int(k.bits), Enabled: k.state == kmip.StateActive, NotBefore: k.notBefore, Expires: k.expires,
		Unfit: k.unfit(s.server.unmarked),
	}, nil
}

// mine checks that ref names a version of this key.
func (s *Source) mine(verb string, ref keysource.Ref) error {
	if version, err := spelled(ref.Version, maxID); ref.URI != s.uri || err != nil || version != ref.Version {
		return s.failure(verb, keysource.ErrWrong, "", fmt.Sprintf("%s, version %q, is another key", ref.URI,
			ref.Version))
	}
	return nil
}

func (s *Source) otherKey(verb, id string) error {
	return s.failure(verb, keysource.ErrWrong, "", fmt.Sprintf("the server answered for key %.200q", id))
}

// said is an attribute that a server may leave out.
type said int8

const (
	unsaid said = iota
	no
	yes
)

func saidOf(v bool) said {
	if v {
		return yes
	}
	return no
}

// key is what a server says of a key.
type key struct {
	names              []string
	object             kmip.ObjectType
	algorithm          kmip.CryptographicAlgorithm
	bits               int32
	usage              kmip.CryptographicUsageMask
	state              kmip.State
	notBefore, expires time.Time
	extractable        said
	sensitive          said // it may not be read in the clear
	neverExtractable   said
}

// usable refuses a key that is not active.
func (k key) usable() error {
	refused := func(reason keysource.Reason, what string) error {
		return &keysource.Error{Class: keysource.ErrDenied, Reason: reason, Text: what}
	}
	switch k.state {
	case kmip.StateActive:
		return nil
	case kmip.StatePreActive:
		return refused(keysource.NotYetValid, "the key is not active yet")
	case kmip.StateDeactivated:
		return refused(keysource.Disabled, "the key is deactivated")
	case kmip.StateCompromised:
		return refused(keysource.Disabled, "the key is marked as compromised")
	case kmip.StateDestroyed, kmip.StateDestroyedCompromised:
		return refused(keysource.Missing, "the key is destroyed")
	}
	return &keysource.Error{Class: keysource.ErrUnknown, Text: fmt.Sprintf("the key is in state %d", k.state)}
}

const aesBits = 256

// unfit says why the key may not protect a resource. unmarked permits keys of whose protection the server says nothing;
// what it says counts all the same.
func (k key) unfit(unmarked bool) map[keysource.Fitness]string {
	why := map[keysource.Fitness]string{}
	if k.object != kmip.ObjectTypeSymmetricKey || k.algorithm != kmip.CryptographicAlgorithmAES || k.bits != aesBits {
		why[keysource.FitType] = fmt.Sprintf("has object type %d, algorithm %d and %d bits: only symmetric AES keys "+
			"of %d bits protect resources", k.object, k.algorithm, k.bits, aesBits)
	}
	switch {
	case k.extractable == yes:
		why[keysource.FitProtection] = "may leave the server: make one with Extractable false"
	case k.sensitive == no:
		why[keysource.FitProtection] = "may be read in the clear: make one with Sensitive true"
	case k.neverExtractable == no:
		why[keysource.FitProtection] = "could leave the server in the past (Never Extractable is false): make a new one"
	case !unmarked && (k.extractable == unsaid || k.sensitive == unsaid):
		why[keysource.FitProtection] = "may leave the server for all that it says (Sensitive or Extractable is " +
			"missing): make one with Sensitive true and Extractable false, or set helper.allowUnmarked for this store"
	}
	if need := kmip.CryptographicUsageEncrypt | kmip.CryptographicUsageDecrypt; k.usage&need != need {
		why[keysource.FitOperations] = "may not encrypt and decrypt: its Cryptographic Usage Mask must have both"
	}
	return why
}

// find returns a version, or the key that has the name now. A version must have the name, too: which keys a resource
// may use is told by the name.
func (s *Source) find(ctx context.Context, version string) (string, key, error) {
	id := Name(version)
	if id == "" {
		located, err := ask[*payloads.LocateResponsePayload](ctx, s.server, &payloads.LocateRequestPayload{
			Attribute: []kmip.Attribute{{AttributeName: kmip.AttributeNameName, AttributeValue: kmip.Name{
				NameValue: s.name, NameType: kmip.NameTypeUninterpretedTextString,
			}}},
		})
		if err != nil {
			return "", key{}, err
		}
		switch n := len(located.UniqueIdentifier); {
		case n == 0:
			return "", key{}, s.missing("")
		case n > 1:
			return "", key{}, &keysource.Error{Class: keysource.ErrUnknown, Text: fmt.Sprintf("%d objects have the "+
				"name %q, and nothing says which is meant: give one as version", n, s.name)}
		}
		id = located.UniqueIdentifier[0]
		if _, err := spelled(escape(id), maxID); err != nil {
			return "", key{}, fmt.Errorf("the unique identifier %.200q cannot be used", id)
		}
	}
	k, err := s.read(ctx, id)
	if err == nil && !slices.Contains(k.names, s.name) {
		err = s.missing(id)
	}
	return id, k, err
}

func (s *Source) missing(id string) error {
	text := fmt.Sprintf("the server has no key with the name %q", s.name)
	if id != "" {
		text += " and the unique identifier " + id
	}
	return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing, Text: text}
}

// wanted are the attributes that are read.
var wanted = []kmip.AttributeName{
	kmip.AttributeNameName, kmip.AttributeNameObjectType, kmip.AttributeNameCryptographicAlgorithm,
	kmip.AttributeNameCryptographicLength, kmip.AttributeNameCryptographicUsageMask, kmip.AttributeNameState,
	kmip.AttributeNameActivationDate, kmip.AttributeNameDeactivationDate, kmip.AttributeNameExtractable,
	kmip.AttributeNameSensitive, kmip.AttributeNameNeverExtractable,
}

// read reads the attributes of a key.
func (s *Source) read(ctx context.Context, id string) (key, error) {
	answer, err := ask[*payloads.GetAttributesResponsePayload](ctx, s.server, &payloads.GetAttributesRequestPayload{
		UniqueIdentifier: id, AttributeName: wanted,
	})
	if err != nil {
		return key{}, err
	}
	if answer.UniqueIdentifier != id {
		return key{}, &keysource.Error{Class: keysource.ErrWrong,
			Text: fmt.Sprintf("the server answered for key %.200q", answer.UniqueIdentifier)}
	}
	var k key
	for _, a := range answer.Attribute {
		switch v := a.AttributeValue.(type) {
		case kmip.Name:
			k.names = append(k.names, v.NameValue)
		case kmip.ObjectType:
			k.object = v
		case kmip.CryptographicAlgorithm:
			k.algorithm = v
		case int32:
			if a.AttributeName == kmip.AttributeNameCryptographicLength {
				k.bits = v
			}
		case kmip.CryptographicUsageMask:
			k.usage = v
		case kmip.State:
			k.state = v
		case time.Time:
			switch a.AttributeName {
			case kmip.AttributeNameActivationDate:
				k.notBefore = v
			case kmip.AttributeNameDeactivationDate:
				k.expires = v
			}
		case bool:
			switch a.AttributeName {
			case kmip.AttributeNameExtractable:
				k.extractable = saidOf(v)
			case kmip.AttributeNameSensitive:
				k.sensitive = saidOf(v)
			case kmip.AttributeNameNeverExtractable:
				k.neverExtractable = saidOf(v)
			}
		}
	}
	return k, nil
}

// explained asks for the state of a key that a server does not use: its own words for that differ.
func (s *Source) explained(ctx context.Context, verb, id string, err error) error {
	r, _ := errors.AsType[*refusal](err)
	if r != nil && r.reason == kmip.ResultReasonIllegalOperation {
		if k, readErr := s.read(ctx, id); readErr == nil {
			if state := k.usable(); state != nil {
				err = state
			}
		}
	}
	return s.classified(ctx, verb, err)
}

// classified gives an error its class. Only a reason that the server gives is an answer.
func (s *Source) classified(ctx context.Context, verb string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return s.failure(verb, e.Class, e.Reason, e.Text)
	}
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return s.failure(verb, keysource.ErrUnknown, "", err.Error())
	}
	switch r.reason {
	case kmip.ResultReasonPermissionDenied:
		return s.failure(verb, keysource.ErrDenied, keysource.Permission, r.Error())
	case kmip.ResultReasonItemNotFound:
		return s.failure(verb, keysource.ErrDenied, keysource.Missing, r.Error())
	case kmip.ResultReasonAuthenticationNotSuccessful:
		return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, r.Error())
	case kmip.ResultReasonCryptographicFailure: // of the tag
		if verb == "unwrap" {
			return s.failure(verb, keysource.ErrWrong, "", r.Error())
		}
	case kmip.ResultReasonInvalidField:
		if r.operation == kmip.OperationDecrypt && refusesTag(r.message) {
			return s.failure(verb, keysource.ErrWrong, "", r.Error())
		}
	}
	return s.failure(verb, keysource.ErrUnknown, "", r.Error())
}

// What an invalid field is, by the words of the server. The encoding calls the number of every field a tag, so the tag
// of the ciphertext must be named in full.
var (
	namesTag  = regexp.MustCompile(`(?i)authenticated ?encryption ?tag|authentication tag|\b(gcm|aead|mac) tag\b`)
	namesForm = regexp.MustCompile(`(?i)\b0x|\b42[0-9a-f]{4}\b|length|size|bytes?\b|bits?\b|support|missing|required|` +
		`unknown|ttlv|type|expected|encod|pars|allowed|permitted|recogni`)
)

// refusesTag reports whether the message of an invalid field says that the value of the tag is wrong: the key is
// another one, or what it has wrapped was changed. A complaint about the form of the question, the length of its tag
// included, would be the same for every key, and a server that was updated must not lock all resources.
func refusesTag(message string) bool {
	return namesTag.MatchString(message) && !namesForm.MatchString(message)
}

func (s *Source) failure(verb string, class error, reason keysource.Reason, what string) error {
	of := s.uri
	if s.version != "" {
		of += ", version " + s.version
	}
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", verb, of,
		bytes.ToValidUTF8([]byte(what), []byte("?")))}
}
