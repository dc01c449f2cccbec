package keystores

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// HSM is a token of a PKCS#11 library, with its administrator. The library of the administrator is in this process, so
// that there is one at a time.
type HSM struct {
	Address     string // pkcs11:token=LABEL
	Module      string // the library
	PINFile     string
	Writable    []string // what the library has to write
	Environment map[string]string
	Parameters  string // of C_Initialize

	pin     string
	label   string // of the token
	joined  bool   // the library is initialised and finalised by something else
	slot    uint
	lib     *pkcs11.Ctx
	session pkcs11.SessionHandle
	tb      testing.TB
}

// library returns the first of some paths that is there, or skips the test with a reason; in CI it fails.
func library(tb testing.TB, of string, paths ...string) string {
	tb.Helper()
	for _, path := range paths {
		for _, dir := range []string{
			"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
		} {
			if _, err := os.Stat(filepath.Join(dir, path)); err == nil {
				return filepath.Join(dir, path)
			}
		}
	}
	reason := "the PKCS#11 library " + paths[0] + " is not installed; Debian has it in " + of
	if os.Getenv("CI") == "true" {
		tb.Fatal(reason)
	}
	tb.Skip(reason)
	return ""
}

// StartSoftHSM makes a token of SoftHSM in a folder of the test.
func StartSoftHSM(tb testing.TB) *HSM {
	tb.Helper()
	h := &HSM{Module: library(tb, "softhsm2", "softhsm/libsofthsm2.so"), tb: tb}
	dir := tb.TempDir()
	tokens := filepath.Join(dir, "tokens")
	h.must(os.Mkdir(tokens, 0o700))
	conf := filepath.Join(dir, "softhsm2.conf")
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	h.must(os.WriteFile(conf, []byte(text), 0o600))
	h.start(map[string]string{"SOFTHSM2_CONF": conf}, dir)
	slots, err := h.lib.GetSlotList(true)
	h.must(err)
	const label, so = "Keys of tests", "so-pin-of-tests"
	h.must(h.lib.InitToken(slots[0], so, label))
	slots, err = h.lib.GetSlotList(true)
	h.must(err)
	h.open(slots, label, so)
	return h
}

// StartNSS makes a token of the softoken of NSS in a folder of the test.
func StartNSS(tb testing.TB) *HSM {
	tb.Helper()
	h := &HSM{Module: library(tb, "libnss3", "libsoftokn3.so", "nss/libsoftokn3.so"), tb: tb}
	dir := tb.TempDir()
	h.Parameters = "configdir='sql:" + dir + "' certPrefix='' keyPrefix='' secmod='secmod.db'"
	h.start(nil, dir)
	slots, err := h.lib.GetSlotList(true)
	h.must(err)
	h.open(slots, "NSS Certificate DB", "")
	return h
}

// start loads the library.
func (h *HSM) start(environment map[string]string, dir string) {
	h.tb.Helper()
	h.Environment, h.Writable = environment, []string{dir}
	for name, value := range environment {
		h.must(os.Setenv(name, value))
	}
	h.lib = pkcs11.New(h.Module)
	if h.lib == nil {
		h.tb.Fatalf("%s cannot be loaded", h.Module)
	}
	var options []pkcs11.InitializeOption
	if h.Parameters != "" {
		text := append([]byte(h.Parameters), 0)
		options = append(options, pkcs11.InitializeWithReserved(unsafe.Pointer(&text[0])))
	}
	h.must(h.lib.Initialize(options...))
	h.tb.Cleanup(func() {
		h.End()
		for name := range environment {
			h.must(os.Unsetenv(name))
		}
	})
}

// End ends the administrator's use of the library, so that something else can use it in this process.
func (h *HSM) End() {
	h.tb.Helper()
	if h.lib != nil {
		if !h.joined {
			h.must(h.lib.Finalize())
		}
		h.lib.Destroy()
		h.lib = nil
	}
}

// Join goes on after End with the library that something else in this process has loaded since, and logs in to it for
// both. It ends with that.
func (h *HSM) Join() {
	h.tb.Helper()
	h.lib, h.joined = pkcs11.New(h.Module), true
	slots, err := h.lib.GetSlotList(true)
	h.must(err)
	h.findSlot(slots)
	h.session, err = h.lib.OpenSession(h.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	h.must(err)
	h.must(h.lib.Login(h.session, pkcs11.CKU_USER, h.pin))
}

// findSlot finds the slot of the token.
func (h *HSM) findSlot(slots []uint) {
	h.tb.Helper()
	i := slices.IndexFunc(slots, func(slot uint) bool {
		info, err := h.lib.GetTokenInfo(slot)
		h.must(err)
		return info.Label == h.label
	})
	if i < 0 {
		h.tb.Fatalf("no token has the label %q", h.label)
	}
	h.slot = slots[i]
}

// open sets the user's PIN and logs in.
func (h *HSM) open(slots []uint, label, so string) {
	h.tb.Helper()
	h.label = label
	h.findSlot(slots)
	h.Address = "pkcs11:token=" + escaped(label)
	session, err := h.lib.OpenSession(h.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	h.must(err)
	h.must(h.lib.Login(session, pkcs11.CKU_SO, so))
	random := make([]byte, 8)
	rand.Read(random) // never fails: the runtime ends the process instead
	h.pin = "pin-" + hex.EncodeToString(random)
	h.must(h.lib.InitPIN(session, h.pin))
	h.must(h.lib.Logout(session))
	h.must(h.lib.Login(session, pkcs11.CKU_USER, h.pin))
	h.session = session
	h.PINFile = filepath.Join(h.tb.TempDir(), "pin")
	h.WritePIN(h.pin)
}

func escaped(label string) string {
	var s []byte
	for _, c := range []byte(label) {
		if c == ' ' {
			s = append(s, "%20"...)
		} else {
			s = append(s, c)
		}
	}
	return string(s)
}

func (h *HSM) must(err error) {
	h.tb.Helper()
	if err != nil {
		h.tb.Fatal(err)
	}
}

// PIN returns the user's PIN.
func (h *HSM) PIN() string { return h.pin }

// WritePIN writes a PIN to the file of the PIN.
func (h *HSM) WritePIN(pin string) {
	h.tb.Helper()
	h.must(os.WriteFile(h.PINFile, []byte(pin+"\n"), 0o600))
}

// MakeAES makes an AES key of 256 bits that is fit to protect a resource, but for what change says.
func (h *HSM) MakeAES(label, id string, change ...*pkcs11.Attribute) {
	h.tb.Helper()
	template := with(change, attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), attribute(pkcs11.CKA_TOKEN, true),
		attribute(pkcs11.CKA_PRIVATE, true), attribute(pkcs11.CKA_LABEL, label), attribute(pkcs11.CKA_ID, []byte(id)),
		attribute(pkcs11.CKA_SENSITIVE, true), attribute(pkcs11.CKA_EXTRACTABLE, false),
		attribute(pkcs11.CKA_ENCRYPT, true), attribute(pkcs11.CKA_DECRYPT, true), attribute(pkcs11.CKA_VALUE_LEN, 32))
	_, err := h.lib.GenerateKey(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		template)
	h.must(err)
}

// MakeRSA makes a pair of RSA keys that is fit to protect a resource.
func (h *HSM) MakeRSA(label, id string, bits int) {
	h.tb.Helper()
	common := []*pkcs11.Attribute{attribute(pkcs11.CKA_TOKEN, true), attribute(pkcs11.CKA_LABEL, label),
		attribute(pkcs11.CKA_ID, []byte(id))}
	public := with(common, attribute(pkcs11.CKA_ENCRYPT, true), attribute(pkcs11.CKA_MODULUS_BITS, bits),
		attribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	private := with(common, attribute(pkcs11.CKA_PRIVATE, true), attribute(pkcs11.CKA_SENSITIVE, true),
		attribute(pkcs11.CKA_EXTRACTABLE, false), attribute(pkcs11.CKA_DECRYPT, true))
	_, _, err := h.lib.GenerateKeyPair(h.session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}, public, private)
	h.must(err)
}

// Set changes attributes of all objects with a label.
func (h *HSM) Set(label string, attributes ...*pkcs11.Attribute) {
	h.tb.Helper()
	for _, object := range h.objects(label) {
		h.must(h.lib.SetAttributeValue(h.session, object, attributes))
	}
}

// Labels returns the labels of all objects.
func (h *HSM) Labels() []string {
	h.tb.Helper()
	var all []string
	for _, object := range h.find() {
		got, err := h.lib.GetAttributeValue(h.session, object, []*pkcs11.Attribute{attribute(pkcs11.CKA_LABEL, nil)})
		h.must(err)
		all = append(all, string(got[0].Value))
	}
	return all
}

// Delete destroys all objects with a label.
func (h *HSM) Delete(label string) {
	h.tb.Helper()
	for _, object := range h.objects(label) {
		h.must(h.lib.DestroyObject(h.session, object))
	}
}

func (h *HSM) objects(label string) []pkcs11.ObjectHandle {
	h.tb.Helper()
	return h.find(attribute(pkcs11.CKA_LABEL, label))
}

func (h *HSM) find(with ...*pkcs11.Attribute) []pkcs11.ObjectHandle {
	h.tb.Helper()
	h.must(h.lib.FindObjectsInit(h.session, with))
	found, _, err := h.lib.FindObjects(h.session, 100)
	h.must(err)
	h.must(h.lib.FindObjectsFinal(h.session))
	return found
}

func attribute(which uint, value any) *pkcs11.Attribute { return pkcs11.NewAttribute(which, value) }

// with returns attributes, where those of change are in the place of others of the same kind.
func with(change []*pkcs11.Attribute, all ...*pkcs11.Attribute) []*pkcs11.Attribute {
	changed := func(a *pkcs11.Attribute) bool {
		return slices.ContainsFunc(change, func(c *pkcs11.Attribute) bool { return c.Type == a.Type })
	}
	return append(slices.DeleteFunc(all, changed), change...)
}
