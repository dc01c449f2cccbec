// Package tpm keeps a wrapping key inside a TPM 2.0: what it wraps opens on this machine alone, and a copy of its disks
// does not hold the key.
//
// Each wrapped form has a random wrapping key of its own, which the TPM seals under a storage key of its owner
// hierarchy. The storage key never leaves the TPM. What is wrapped is sealed with AES-256-GCM under the wrapping key,
// and the storage key must have AES-256 as well. The wrapping key crosses the bus to the TPM only inside a session that
// is salted for the storage key and encrypts its parameters.
package tpm

import (
	"context"
	"crypto/fips140"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

// ErrLockedOut is the cause of a failure when the TPM is locked out after failed authorizations. It is no verdict on
// the key, but asking again may prolong it.
var ErrLockedOut = errors.New("the TPM is locked out")

// Source wraps with a TPM. It uses the TPM for one call at a time, and is safe for concurrent use.
type Source struct {
	device string
	pcrs   []uint         // sorted; empty: no policy
	parent tpm2.TPMHandle // persistent storage key; zero: one is made anew for each call

	using chan struct{} // holds one, which is taken while the TPM is spoken to
}

// New returns a source over a TPM:
//
//	PATH[,pcrs=N+N…][,parent=0xHANDLE]
//
// PATH is the TPM's device, best that of the kernel's resource manager (/dev/tpmrm0), or the Unix socket of an
// emulator. With pcrs, what is wrapped opens only while these registers of the SHA-256 bank are as they were. With
// parent, the storage key is the persistent one at that handle, for a TPM whose owner hierarchy has a password. Nothing
// is opened yet.
func New(spec string) (*Source, error) {
	if fips140.Enforced() {
		return nil, local.Fail(keysource.ErrDenied, nil,
			"a TPM cannot protect the root key while fips140=only is set: sessions with a TPM are encrypted with "+
				"AES-CFB, which the cryptographic module does not offer in that mode; use fips140=on, or another "+
				"protector")
	}
	path, rest, more := strings.Cut(spec, ",")
	if !filepath.IsAbs(path) {
		return nil, invalid("%q is not an absolute path, such as /dev/tpmrm0", path)
	}
	s := &Source{device: path, using: make(chan struct{}, 1)}
	s.using <- struct{}{}
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "pcrs":
			for _, text := range strings.Split(value, "+") {
				n, err := strconv.ParseUint(text, 10, 8)
				if err != nil || n > 23 || slices.Contains(s.pcrs, uint(n)) {
					return nil, invalid("pcrs=%s: different numbers from 0 to 23 with + between them are needed", value)
				}
				s.pcrs = append(s.pcrs, uint(n))
			}
			slices.Sort(s.pcrs)
		case "parent":
			const first, last = 0x81000000, 0x817fffff // persistent handles of the owner (TCG registry of handles)
			n, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 32)
			if err != nil || n < first || n > last {
				return nil, invalid("parent=%s: a handle from 0x%x to 0x%x is needed", value, first, last)
			}
			s.parent = tpm2.TPMHandle(n)
		default:
			return nil, invalid("%q is neither pcrs=N+N nor parent=0xHANDLE", option)
		}
	}
	return s, nil
}

func invalid(format string, args ...any) error {
	return local.Fail(keysource.ErrUnknown, nil, "TPM "+format, args...)
}

// Wrap implements keysource.Source. The version of the reference is the name of the storage key.
func (s *Source) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	key := make([]byte, local.KeySize)
	defer clear(key)
	rand.Read(key) // never fails: the runtime ends the process instead
	err = s.speak(ctx, func(c *conversation) error {
		ref = s.ref(c)
		params, err := c.seal(key, s.pcrs)
		if err != nil {
			return err
		}
		blob, err = local.Wrap(local.TPM, key, params, ref.Version, inner)
		return err
	})
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	return blob, ref, nil
}

// Unwrap implements keysource.Source. The registers that the wrapped form is bound to are those of Wrap, whatever this
// source would bind to now.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	w, err := local.Parse(local.TPM, blob)
	if err != nil {
		return nil, err
	}
	object, err := parseObject(w.Params)
	if err != nil {
		return nil, err
	}
	err = s.speak(ctx, func(c *conversation) error {
		if err := s.same(c, ref); err != nil {
			return err
		}
		key, err := c.unseal(object)
		if err != nil {
			return err
		}
		defer clear(key)
		inner, err = w.Open(key, ref.Version,
			"the TPM opened another key than the one that wrapped: restore the data directory from a backup")
		return err
	})
	return inner, err
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	err = s.speak(ctx, func(c *conversation) error {
		if ref != (keysource.Ref{}) {
			if err := s.same(c, ref); err != nil {
				return err
			}
		}
		d = keysource.Description{Ref: s.ref(c), Algorithm: "TPM2+" + local.Algorithm, Enabled: true}
		return nil
	})
	return d, err
}

func (s *Source) ref(c *conversation) keysource.Ref {
	return keysource.Ref{URI: "tpm:" + s.device, Version: hex.EncodeToString(c.name)}
}

// same refuses a storage key that is not the one of a reference. It is asked before anything is encrypted for the key:
// a device on the bus that puts its own key in place of the TPM's learns nothing.
func (s *Source) same(c *conversation, ref keysource.Ref) error {
	if hex.EncodeToString(c.name) == ref.Version {
		return nil
	}
	return local.Fail(keysource.ErrWrong, nil,
		"the storage key of the TPM at %s is not the one that wrapped: this is another TPM, or it was cleared since; "+
			"open the instance with another protector, or with the recovery kit", s.device)
}

// speak opens the TPM and its storage key for one call, and sorts the errors of what is done with them.
func (s *Source) speak(ctx context.Context, do func(*conversation) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-s.using:
		defer func() { s.using <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l, err := dial(ctx, s.device)
	if err != nil {
		return s.classify(ctx, err)
	}
	defer l.Close() // nothing is written that could be lost
	c, err := begin(l, s.parent)
	if err != nil {
		return s.classify(ctx, err)
	}
	return s.classify(ctx, errors.Join(do(c), c.end()))
}

// classify gives an error of the TPM its class. Only what the TPM says of a key or a policy is an answer; everything
// else is no answer.
func (s *Source) classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, class := range []error{keysource.ErrDenied, keysource.ErrWrong, keysource.ErrUnknown} {
		if errors.Is(err, class) {
			return err
		}
	}
	class, sentence := keysource.ErrUnknown, "cannot be used: check that it is enabled and that this user may open it"
	var cause error
	switch {
	case errors.Is(err, errSilent):
	case errors.Is(err, tpm2.TPMRCLockout):
		cause = ErrLockedOut
		sentence = "is locked out after failed authorizations: wait for the time that its lockout recovery needs, or " +
			"reset it as its owner; Visage does not try again by itself, since each failure may prolong it"
	case errors.Is(err, tpm2.TPMRCPolicyFail), errors.Is(err, tpm2.TPMRCPCRChanged):
		class = keysource.ErrDenied
		sentence = "refuses: the registers (PCRs) that the root key is bound to have other values than when it was " +
			"wrapped, as after an update of firmware or boot loader; open the instance with another protector or the " +
			"recovery kit, and add the TPM again"
	case errors.Is(err, tpm2.TPMRCIntegrity):
		class, sentence = keysource.ErrWrong, "did not make this wrapped key, or the key was changed: restore the "+
			"data directory from a backup"
	case errors.Is(err, errPassword):
		class, sentence = keysource.ErrDenied, "refuses: its owner hierarchy has a password; make a persistent "+
			"storage key without one, and name it with parent=0xHANDLE"
	case errors.Is(err, tpm2.TPMRCSymmetric), errors.Is(err, tpm2.TPMRCKeySize), errors.Is(err, errWeak):
		class = keysource.ErrDenied
		sentence = "has no storage key with AES-256, which is needed here: use another protector"
	case errors.Is(err, tpm2.TPMRCHandle), errors.Is(err, errNoParent):
		sentence = "has no usable storage key at this handle: check parent="
	}
	return local.Fail(class, cause, "the TPM at %s %s (%v)", s.device, sentence, err)
}
