package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

var (
	errWeak     = errors.New("the storage key has no AES-256")
	errNoParent = errors.New("it is no storage key")
	errPassword = errors.New("it has a password")
)

// nonceSize is the length of the nonces of sessions, as the hash has it.
const nonceSize = 32

// storageKey is the template of the storage key: the TCG's reference for ECC P-256, with AES-256 in place of AES-128
// for what is stored under it. The same template always makes the same key, until the TPM is cleared.
func storageKey() tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		CurveID: tpm2.TPMECCNistP256,
	})
	return t
}

// conversation is a TPM with its storage key at hand.
type conversation struct {
	tpm    *link
	parent tpm2.AuthHandle
	name   []byte // of the storage key: its hash with everything that it may do
	public tpm2.TPMTPublic
	flush  bool // the storage key was made for this conversation
}

// begin makes the storage key, or looks at the persistent one at a handle.
func begin(l *link, persistent tpm2.TPMHandle) (*conversation, error) {
	if persistent != 0 {
		rsp, err := tpm2.ReadPublic{ObjectHandle: persistent}.Execute(l)
		if err != nil {
			return nil, fmt.Errorf("read the storage key: %w", err)
		}
		return newConversation(l, persistent, rsp.Name, rsp.OutPublic, false)
	}
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(storageKey()),
	}.Execute(l)
	if err != nil {
		if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
			err = fmt.Errorf("%w: %w", errPassword, err)
		}
		return nil, fmt.Errorf("make the storage key: %w", err)
	}
	c, err := newConversation(l, rsp.ObjectHandle, rsp.Name, rsp.OutPublic, true)
	if err != nil {
		return nil, errors.Join(err, flush(l, rsp.ObjectHandle))
	}
	return c, nil
}

func newConversation(
	l *link, handle tpm2.TPMHandle, name tpm2.TPM2BName, public tpm2.TPM2BPublic, made bool,
) (*conversation, error) {
	p, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("read the storage key: %w", err)
	}
	// The name is computed here: sessions are salted for the public key that the name stands for.
	own, err := tpm2.ObjectName(p)
	if err != nil || string(own.Buffer) != string(name.Buffer) {
		return nil, fmt.Errorf("read the storage key: it has not the name that the TPM gives it (%v)", err)
	}
	if err := checkStorage(p); err != nil {
		return nil, err
	}
	return &conversation{
		tpm: l, name: own.Buffer, public: *p, flush: made,
		parent: tpm2.AuthHandle{Handle: handle, Name: *own, Auth: tpm2.PasswordAuth(nil)},
	}, nil
}

// checkStorage refuses a key that is none for storage, or that would protect with less than AES-256.
func checkStorage(p *tpm2.TPMTPublic) error {
	if a := p.ObjectAttributes; !a.Restricted || !a.Decrypt || !a.FixedTPM || !a.FixedParent {
		return errNoParent
	}
	var symmetric tpm2.TPMTSymDefObject
	switch p.Type {
	case tpm2.TPMAlgECC:
		d, err := p.Parameters.ECCDetail()
		if err != nil {
			return err
		}
		symmetric = d.Symmetric
	case tpm2.TPMAlgRSA:
		d, err := p.Parameters.RSADetail()
		if err != nil {
			return err
		}
		symmetric = d.Symmetric
	default:
		return errNoParent
	}
	bits, err := symmetric.KeyBits.AES()
	if symmetric.Algorithm != tpm2.TPMAlgAES || err != nil || *bits < 256 {
		return errWeak
	}
	return nil
}

// end removes from the TPM what was made for the conversation.
func (c *conversation) end() error {
	if !c.flush {
		return nil
	}
	return flush(c.tpm, c.parent.Handle)
}

func flush(l *link, handle tpm2.TPMHandle) error {
	_, err := tpm2.FlushContext{FlushHandle: handle}.Execute(l)
	if err != nil {
		return fmt.Errorf("remove from the TPM: %w", err)
	}
	return nil
}

// options are those of a session for one command, which only the TPM with the storage key can follow: it encrypts what
// goes in, where the command has something, and what comes out.
func (c *conversation) options(in bool) []tpm2.AuthOption {
	direction := tpm2.EncryptOut
	if in {
		direction = tpm2.EncryptInOut
	}
	return []tpm2.AuthOption{tpm2.Salted(c.parent.Handle, c.public), tpm2.AESEncryption(256, direction)}
}

// object is a sealed wrapping key, as the TPM wrote it, with the registers that it is bound to.
type object struct {
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
	pcrs    []uint
}

// seal seals a wrapping key and returns the object's bytes:
//
//	PCRs u24, bit n for register n | length u16, public part | length u16, private part
func (c *conversation) seal(key []byte, pcrs []uint) ([]byte, error) {
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, UserWithAuth: len(pcrs) == 0,
			NoDA: true, // it has no password that could be guessed, so a lockout must not close it
		},
	}
	if len(pcrs) > 0 {
		digest, err := c.policy(pcrs)
		if err != nil {
			return nil, err
		}
		template.AuthPolicy = *digest
	}
	parent := c.parent
	parent.Auth = tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, c.options(true)...)
	rsp, err := tpm2.Create{
		ParentHandle: parent,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key}),
		}},
		InPublic: tpm2.New2B(template),
	}.Execute(c.tpm)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	var mask uint32
	for _, n := range pcrs {
		mask |= 1 << n
	}
	b := binary.BigEndian.AppendUint32(nil, mask)[1:]
	public := rsp.OutPublic.Bytes()
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(public))), public...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rsp.OutPrivate.Buffer))), rsp.OutPrivate.Buffer...), nil
}

// parseObject reads what seal returned.
func parseObject(b []byte) (o object, err error) {
	damaged := func() (object, error) {
		return object{}, local.Fail(keysource.ErrWrong, nil,
			"the wrapped key is damaged: %d bytes of a TPM's object", len(b))
	}
	if len(b) < 3 {
		return damaged()
	}
	mask := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	for n := range uint(24) {
		if mask>>n&1 == 1 {
			o.pcrs = append(o.pcrs, n)
		}
	}
	var parts [2][]byte
	rest := b[3:]
	for i := range parts {
		if len(rest) < 2 {
			return damaged()
		}
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n {
			return damaged()
		}
		parts[i], rest = rest[2:2+n], rest[2+n:]
	}
	if len(rest) > 0 {
		return damaged()
	}
	o.public = tpm2.BytesAs2B[tpm2.TPMTPublic](parts[0])
	o.private = tpm2.TPM2BPrivate{Buffer: parts[1]}
	if p, err := o.public.Contents(); err != nil || p.Type != tpm2.TPMAlgKeyedHash {
		return damaged()
	}
	return o, nil
}

// unseal returns the wrapping key of an object.
func (c *conversation) unseal(o object) (key []byte, err error) {
	parent := c.parent
	parent.Auth = tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, c.options(true)...)
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: o.private, InPublic: o.public}.Execute(c.tpm)
	if err != nil {
		return nil, damagedObject(err)
	}
	defer func() { err = errors.Join(err, flush(c.tpm, loaded.ObjectHandle)) }()
	auth := tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, c.options(false)...)
	if len(o.pcrs) > 0 {
		auth = tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize,
			func(t transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
				_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(o.pcrs)}.Execute(t)
				return err
			}, c.options(false)...)
	}
	rsp, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth},
	}.Execute(c.tpm)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return rsp.OutData.Buffer, nil
}

// damagedObject is the error of a TPM that did not load an object. What it says of the object's own bytes means that
// they are not what it made; the storage key was compared before.
func damagedObject(err error) error {
	var of tpm2.TPMFmt1Error
	isParameter := false
	if errors.As(err, &of) {
		isParameter, _ = of.Parameter()
	}
	if isParameter {
		return fmt.Errorf("load: %w (%w)", tpm2.TPMRCIntegrity, err)
	}
	return fmt.Errorf("load: %w", err)
}

func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
}

// policy returns the digest of the policy that the registers have the values that they have now.
func (c *conversation) policy(pcrs []uint) (digest *tpm2.TPM2BDigest, err error) {
	session, end, err := tpm2.PolicySession(c.tpm, tpm2.TPMAlgSHA256, nonceSize, tpm2.Trial())
	if err != nil {
		return nil, fmt.Errorf("begin a policy: %w", err)
	}
	defer func() { err = errors.Join(err, end()) }()
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection(pcrs)}).Execute(c.tpm); err != nil {
		return nil, fmt.Errorf("bind to registers: %w", err)
	}
	rsp, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(c.tpm)
	if err != nil {
		return nil, fmt.Errorf("bind to registers: %w", err)
	}
	return &rsp.PolicyDigest, nil
}
