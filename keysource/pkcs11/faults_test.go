package pkcs11_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/pkcs11"
	"github.com/visage-face/visage/test/keystores"
)

// The calls that testdata/faulty.c can answer, by their places in CK_FUNCTION_LIST.
const (
	getSlotList     = 4
	openSession     = 12
	getSessionInfo  = 15
	login           = 18
	findObjectsInit = 26
	decryptInit     = 33
	decrypt         = 34
)

// TestFaults holds what each answer of a library means that the tokens of the tests do not give by themselves. The rest
// of the library is SoftHSM.
func TestFaults(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	h.MakeAES("faces", "\x01")
	h.End() // the library belongs to the source now
	module := filepath.Join(t.TempDir(), "faulty.so")
	build := exec.Command("gcc", "-shared", "-fPIC", "-o", module, "testdata/faulty.c", "-ldl")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the module: %v\n%s", err, out)
	}
	t.Setenv("FAULTY_MODULE", h.Module)
	// unwrap asks a token that was loaded anew.
	unwrap := func(t *testing.T, ref keysource.Ref, blob []byte) error {
		token, err := pkcs11.Load(pkcs11.Config{Address: h.Address, Module: module}, &memory{pin: h.PINFile})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := token.Close(); err != nil {
				t.Error(err)
			}
		}()
		src, err := token.Open("uri", "faces", "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := src.Unwrap(t.Context(), ref, blob)
		if err == nil && !bytes.Equal(got, inner) {
			t.Errorf("got %q", got)
		}
		return err
	}
	token, err := pkcs11.Load(pkcs11.Config{Address: h.Address, Module: module}, &memory{pin: h.PINFile})
	if err != nil {
		t.Fatal(err)
	}
	src, err := token.Open("uri", "faces", "")
	if err != nil {
		t.Fatal(err)
	}
	blob, ref, err := src.Wrap(t.Context(), inner)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unwrap(t, ref, blob); err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	denied, wrong, unknown := keysource.ErrDenied, keysource.ErrWrong, keysource.ErrUnknown
	const ended = "session with the token ended"
	const vendor = 0x80000001 // CKR_VENDOR_DEFINED and more
	for name, c := range map[string]struct {
		call   int
		answer api.Error
		class  error
		reason keysource.Reason
		says   string
	}{
		"PIN locked":            {login, api.CKR_PIN_LOCKED, denied, keysource.NoIdentity, "CKR_PIN_LOCKED"},
		"PIN expired":           {login, api.CKR_PIN_EXPIRED, denied, keysource.NoIdentity, "CKR_PIN_EXPIRED"},
		"no PIN":                {login, api.CKR_USER_PIN_NOT_INITIALIZED, denied, keysource.NoIdentity, "NOT_INIT"},
		"PIN too short":         {login, api.CKR_PIN_LEN_RANGE, denied, keysource.NoIdentity, "CKR_PIN_LEN_RANGE"},
		"login, device":         {login, api.CKR_DEVICE_ERROR, unknown, "", "CKR_DEVICE_ERROR"},
		"login, other user":     {login, api.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, unknown, "", "log in to the token"},
		"no slots":              {getSlotList, api.CKR_DEVICE_ERROR, unknown, "", "CKR_DEVICE_ERROR"},
		"token taken out":       {openSession, api.CKR_TOKEN_NOT_PRESENT, unknown, "", "CKR_TOKEN_NOT_PRESENT"},
		"too many sessions":     {openSession, api.CKR_SESSION_COUNT, unknown, "", "CKR_SESSION_COUNT"},
		"no state":              {getSessionInfo, api.CKR_DEVICE_REMOVED, unknown, "", "CKR_DEVICE_REMOVED"},
		"search, device":        {findObjectsInit, api.CKR_DEVICE_REMOVED, unknown, "", "CKR_DEVICE_REMOVED"},
		"search, not logged in": {findObjectsInit, api.CKR_USER_NOT_LOGGED_IN, unknown, "", ended},
		"session closed":        {decryptInit, api.CKR_SESSION_HANDLE_INVALID, unknown, "", ended},
		"object gone":           {decryptInit, api.CKR_OBJECT_HANDLE_INVALID, unknown, "", ended},
		"key gone":              {decryptInit, api.CKR_KEY_HANDLE_INVALID, unknown, "", ended},
		"not permitted": {decryptInit, api.CKR_KEY_FUNCTION_NOT_PERMITTED, denied, keysource.Disabled,
			"CKR_KEY_FUNCTION_NOT_PERMITTED"},
		"altered":          {decrypt, api.CKR_ENCRYPTED_DATA_INVALID, wrong, "", "CKR_ENCRYPTED_DATA_INVALID"},
		"general":          {decrypt, api.CKR_GENERAL_ERROR, unknown, "", "CKR_GENERAL_ERROR"},
		"length":           {decrypt, api.CKR_DATA_LEN_RANGE, unknown, "", "CKR_DATA_LEN_RANGE"},
		"decrypt, device":  {decrypt, api.CKR_DEVICE_ERROR, unknown, "", "CKR_DEVICE_ERROR"},
		"device removed":   {decrypt, api.CKR_DEVICE_REMOVED, unknown, "", "CKR_DEVICE_REMOVED"},
		"memory":           {decrypt, api.CKR_HOST_MEMORY, unknown, "", "CKR_HOST_MEMORY"},
		"function failed":  {decrypt, api.CKR_FUNCTION_FAILED, unknown, "", "CKR_FUNCTION_FAILED"},
		"of a vendor":      {decrypt, vendor, unknown, "", ""},
		"mechanism":        {decryptInit, api.CKR_MECHANISM_INVALID, unknown, "", "CKR_MECHANISM_INVALID"},
		"not now":          {decryptInit, api.CKR_OPERATION_ACTIVE, unknown, "", "CKR_OPERATION_ACTIVE"},
		"general at start": {decryptInit, api.CKR_GENERAL_ERROR, unknown, "", "CKR_GENERAL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FAULTY_CALL", strconv.Itoa(c.call))
			t.Setenv("FAULTY_ANSWER", strconv.FormatUint(uint64(c.answer), 10))
			want(t, unwrap(t, ref, blob), c.class, c.reason, c.says)
		})
	}
}
