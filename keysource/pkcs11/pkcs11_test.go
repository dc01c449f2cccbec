package pkcs11_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/pkcs11"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/test/keystores"
)

// TestMain is also the helper, in which the libraries run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helper.Argument {
		if err := helper.Serve(open); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tokens opens keys in the helper.
type tokens struct{ *pkcs11.Token }

func (t tokens) Open(key helper.Key) (keysource.Source, error) {
	return t.Token.Open(key.URI, key.Object, key.Version)
}

func open(_ string, settings json.RawMessage, service helper.Service) (helper.Store, error) {
	var cfg pkcs11.Config
	if err := json.Unmarshal(settings, &cfg); err != nil {
		return nil, err
	}
	t, err := pkcs11.Load(cfg, service)
	if err != nil {
		return nil, err
	}
	return tokens{t}, nil
}

// serve runs the library of a token in a helper.
func serve(t testing.TB, h *keystores.HSM, change ...func(*pkcs11.Config)) *helper.Process {
	t.Helper()
	cfg := pkcs11.Config{Address: h.Address, Module: h.Module, Parameters: h.Parameters, Destroyable: true}
	for _, c := range change {
		c(&cfg)
	}
	return serveWith(t, h, cfg, h.PINFile)
}

func serveWith(
	t testing.TB, h *keystores.HSM, cfg pkcs11.Config, pin string, memory ...*helper.Memory,
) *helper.Process {
	t.Helper()
	settings, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	var kept *helper.Memory
	if len(memory) > 0 {
		kept = memory[0]
	}
	p, err := helper.New(helper.Config{
		Memory: kept, Kind: "pkcs11", Settings: settings, Files: map[string]string{pkcs11.PIN: pin}, Log: log,
		Confinement: helper.Confinement{
			Read: []string{h.Module, notModule}, Write: h.Writable, Environment: h.Environment,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// notModule is a file that is no library.
const notModule = "/etc/hosts"

type testLog struct{ testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func key(h *keystores.HSM, label, version string) helper.Key {
	return helper.Key{URI: h.Address + "/keys/" + label, Version: version, Object: label}
}

// libraries are the two that are tested: each does one algorithm well.
var libraries = map[string]struct {
	start func(testing.TB) *keystores.HSM
	make  func(h *keystores.HSM, label, id string)
}{
	"SoftHSM, AES-GCM": {keystores.StartSoftHSM, func(h *keystores.HSM, label, id string) { h.MakeAES(label, id) }},
	"NSS, RSA-OAEP":    {keystores.StartNSS, func(h *keystores.HSM, label, id string) { h.MakeRSA(label, id, 2048) }},
}

func TestConformance(t *testing.T) {
	for name, lib := range libraries {
		t.Run(name, func(t *testing.T) {
			h := lib.start(t)
			lib.make(h, "faces", "\x01")
			lib.make(h, "other", "\x02")
			p := serve(t, h)
			open := func(p *helper.Process) keysource.Source { return p.Open(key(h, "faces", "")) }
			sourcetest.Run(t, sourcetest.Provider{
				Open:   func(testing.TB) keysource.Source { return open(p) },
				Other:  func(testing.TB) keysource.Source { return p.Open(key(h, "other", "")) },
				Stride: 3,
				Faults: []sourcetest.Fault{{
					Name: "no module", Class: keysource.ErrUnknown, Says: "the module of the token",
					Source: func(t testing.TB) keysource.Source {
						return open(serve(t, h, func(c *pkcs11.Config) { c.Module = "/nowhere/module.so" }))
					},
				}, {
					Name: "not a module", Class: keysource.ErrUnknown, Says: "cannot be loaded",
					Source: func(t testing.TB) keysource.Source {
						return open(serve(t, h, func(c *pkcs11.Config) { c.Module = notModule }))
					},
				}, {
					Name: "another token", Class: keysource.ErrUnknown, Says: "0 tokens are there as pkcs11:token=none",
					Source: func(t testing.TB) keysource.Source {
						return open(serve(t, h, func(c *pkcs11.Config) { c.Address = "pkcs11:token=none" }))
					},
				}, {
					Name: "wrong PIN", Class: keysource.ErrDenied, Says: "CKR_PIN_INCORRECT",
					Source: func(t testing.TB) keysource.Source {
						h.WritePIN("not-the-pin")
						t.Cleanup(func() { h.WritePIN(h.PIN()) })
						return eachAnew{func() keysource.Source { return open(serve(t, h)) }}
					},
				}, {
					Name: "no PIN", Class: keysource.ErrUnknown, Says: "read the PIN",
					Source: func(t testing.TB) keysource.Source {
						cfg := pkcs11.Config{Address: h.Address, Module: h.Module, Parameters: h.Parameters}
						return open(serveWith(t, h, cfg, h.PINFile+"-of-nobody"))
					},
				}, {
					Name: "key deleted", Class: keysource.ErrDenied, Says: `no key with the label "faces"`,
					Source: func(t testing.TB) keysource.Source {
						h.Delete("faces")
						t.Cleanup(func() { lib.make(h, "faces", "\x01") })
						return open(p)
					},
				}},
			})
		})
	}
}

// eachAnew opens a source for each call.
type eachAnew struct{ open func() keysource.Source }

func (e eachAnew) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	return e.open().Wrap(ctx, inner)
}

func (e eachAnew) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	return e.open().Unwrap(ctx, ref, blob)
}

func (e eachAnew) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	return e.open().Describe(ctx, ref)
}

var inner = bytes.Repeat([]byte("secret "), 8)

func want(t testing.TB, err, class error, reason keysource.Reason, says string) {
	t.Helper()
	e, ok := errors.AsType[*keysource.Error](err)
	if !ok || !errors.Is(err, class) || e.Reason != reason || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v, %q and %q", err, class, reason, says)
	}
}

// TestTooMany holds that a key is found by its version however many others have its label, and that without a version a
// label with too many keys is no answer about the key.
func TestTooMany(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	const most = 64
	for id := range most + 1 {
		h.MakeAES("faces", string([]byte{byte(id)}))
	}
	p := serve(t, h)
	for id := range most + 1 {
		d, err := p.Open(key(h, "faces", fmt.Sprintf("%02x", id))).Describe(t.Context(), keysource.Ref{})
		if err != nil || !d.Enabled {
			t.Errorf("key %d: %+v, %v", id, d, err)
		}
	}
	_, err := p.Open(key(h, "faces", "")).Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrUnknown, "", "more than 64 keys with the label")
}

// TestPIN holds that a refused PIN is not tried again, by later helpers neither, until its file has another.
func TestPIN(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	h.MakeAES("faces", "\x01")
	p := serve(t, h)
	src := p.Open(key(h, "faces", ""))
	blob, ref, err := src.Wrap(t.Context(), inner)
	if err != nil {
		t.Fatal(err)
	}
	p = serve(t, h) // the first is logged in for good
	src = p.Open(key(h, "faces", ""))
	right := h.PIN()
	h.WritePIN("not-the-pin")
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "CKR_PIN_INCORRECT")
	for range 5 {
		_, err = src.Unwrap(t.Context(), ref, blob)
		want(t, err, keysource.ErrDenied, keysource.NoIdentity, "not tried again")
	}
	h.WritePIN(right)
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("with the right PIN: %v", err)
	}
}

// TestPINOfSeveralHelpers holds that a PIN that one helper of a token was refused is not tried by another either, be it
// one that has run for long.
func TestPINOfSeveralHelpers(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	h.MakeAES("faces", "\x01")
	right, shared := h.PIN(), &helper.Memory{}
	cfg := pkcs11.Config{Address: h.Address, Module: h.Module, Destroyable: true}
	describe := func(p *helper.Process) error {
		_, err := p.Open(key(h, "faces", "")).Describe(t.Context(), keysource.Ref{})
		return err
	}
	h.WritePIN("")
	first, second := serveWith(t, h, cfg, h.PINFile, shared), serveWith(t, h, cfg, h.PINFile, shared)
	for _, p := range []*helper.Process{first, second} { // both run, and neither is logged in
		want(t, describe(p), keysource.ErrUnknown, "", "the file is empty")
	}
	h.WritePIN("not-the-pin")
	want(t, describe(first), keysource.ErrDenied, keysource.NoIdentity, "CKR_PIN_INCORRECT")
	want(t, describe(second), keysource.ErrDenied, keysource.NoIdentity, "not tried again")
	h.WritePIN(right)
	if err := errors.Join(describe(second), describe(first)); err != nil {
		t.Errorf("with the right PIN: %v", err)
	}
}

// memory is the service of a token in this process.
type memory struct {
	pin  string // the file
	kept []byte
}

func (m *memory) File(context.Context, string) ([]byte, error) { return os.ReadFile(m.pin) }

func (m *memory) Kept() []byte { return m.kept }

func (m *memory) Keep(what []byte) { m.kept = what }

// TestMemory holds that the next helper does not try a refused PIN either, and that what is kept of it is no PIN.
func TestMemory(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	h.MakeAES("faces", "\x01")
	h.WritePIN("not-the-pin")
	h.End()
	m := memory{pin: h.PINFile}
	for _, says := range []string{"CKR_PIN_INCORRECT", "not tried again"} {
		token, err := pkcs11.Load(pkcs11.Config{Address: h.Address, Module: h.Module}, &m)
		if err != nil {
			t.Fatal(err)
		}
		src, err := token.Open("uri", "faces", "")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = src.Wrap(t.Context(), inner)
		want(t, err, keysource.ErrDenied, keysource.NoIdentity, says)
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.kept) == 0 || bytes.Contains(m.kept, []byte("not-the-pin")) {
		t.Errorf("what is kept of the PIN: %q", m.kept)
	}
}

// TestVersions makes keys with one label: each is a version of its own.
func TestVersions(t *testing.T) {
	for name, lib := range libraries {
		t.Run(name, func(t *testing.T) {
			h := lib.start(t)
			lib.make(h, "faces", "\x01")
			p := serve(t, h)
			src := p.Open(key(h, "faces", ""))
			blob, ref, err := src.Wrap(t.Context(), inner)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(ref.Version, "01-") {
				t.Errorf("the version is %q", ref.Version)
			}
			lib.make(h, "faces", "\x02")
			_, err = src.Describe(t.Context(), keysource.Ref{})
			want(t, err, keysource.ErrUnknown, "", "2 keys with the label")
			if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
				t.Errorf("the first of two: %v", err)
			}
			second := p.Open(key(h, "faces", "02"))
			if _, ref2, err := second.Wrap(t.Context(), inner); err != nil || !strings.HasPrefix(ref2.Version, "02-") {
				t.Errorf("the second of two: %+v, %v", ref2, err)
			}
			_, _, err = p.Open(key(h, "faces", "03")).Wrap(t.Context(), inner)
			want(t, err, keysource.ErrDenied, keysource.Missing, "CKA_ID 03")

			h.Delete("faces")
			_, err = src.Unwrap(t.Context(), ref, blob)
			want(t, err, keysource.ErrDenied, keysource.Missing, "no key with the label")
			lib.make(h, "faces", "\x01")
			_, err = src.Unwrap(t.Context(), ref, blob)
			want(t, err, keysource.ErrWrong, "", "made anew under its name")
		})
	}
}

// TestKeyWithoutID makes a second key with the label and without a CKA_ID: the key in use goes on, and calls that must
// find out which key is meant say what to do.
func TestKeyWithoutID(t *testing.T) {
	for name, id := range map[string]string{"none": "", "too long": strings.Repeat("i", 65)} {
		t.Run(name, func(t *testing.T) {
			h := keystores.StartSoftHSM(t)
			h.MakeAES("faces", "\x01")
			p := serve(t, h)
			src := p.Open(key(h, "faces", ""))
			blob, ref, err := src.Wrap(t.Context(), inner)
			if err != nil {
				t.Fatal(err)
			}
			h.MakeAES("faces", id)
			if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
				t.Errorf("unwrap with the version in use: %v", err)
			}
			if d, err := src.Describe(t.Context(), ref); err != nil || !d.Enabled {
				t.Errorf("describe the version in use: %+v, %v", d, err)
			}
			_, err = src.Describe(t.Context(), keysource.Ref{})
			want(t, err, keysource.ErrUnknown, "", "no CKA_ID, or one of more than 64 bytes")
			_, _, err = src.Wrap(t.Context(), inner)
			want(t, err, keysource.ErrUnknown, "", "no CKA_ID, or one of more than 64 bytes")
		})
	}
}

// TestLabel holds that the token itself refuses a wrapped key in the place of another.
func TestLabel(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	h.MakeAES("faces", "\x01")
	src := serve(t, h).Open(key(h, "faces", ""))
	ctx := keysource.WithLabel(t.Context(), keysource.Label{Instance: [16]byte{1}, Generation: 1})
	blob, ref, err := src.Wrap(ctx, inner)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := src.Unwrap(ctx, ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("with its label: %v", err)
	}
	other := keysource.WithLabel(t.Context(), keysource.Label{Instance: [16]byte{1}, Generation: 2})
	_, err = src.Unwrap(other, ref, blob)
	want(t, err, keysource.ErrUnknown, "", "CKR_GENERAL_ERROR") // it says no more
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrWrong, "", "wrapped with a label")
}

// TestFitness says of each key why it may not protect a resource.
func TestFitness(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	attribute := func(which uint, value any) *api.Attribute { return api.NewAttribute(which, value) }
	for id, c := range []struct {
		name   string
		change []*api.Attribute
		of     keysource.Fitness
		says   string
	}{
		{"fit", []*api.Attribute{attribute(api.CKA_DESTROYABLE, false)}, "", ""},
		{"destroyable", nil, keysource.FitProtection, "CKA_DESTROYABLE"},
		{"small", []*api.Attribute{attribute(api.CKA_VALUE_LEN, 16)}, keysource.FitType, "128 bits"},
		{"extractable", []*api.Attribute{attribute(api.CKA_EXTRACTABLE, true)}, keysource.FitProtection,
			"CKA_EXTRACTABLE"},
		{"plain", []*api.Attribute{attribute(api.CKA_SENSITIVE, false)}, keysource.FitProtection, "CKA_SENSITIVE"},
		{"encrypting", []*api.Attribute{attribute(api.CKA_DECRYPT, false)}, keysource.FitOperations, "CKA_DECRYPT"},
		{"generic", []*api.Attribute{attribute(api.CKA_ENCRYPT, false)}, keysource.FitOperations, "CKA_ENCRYPT"},
	} {
		h.MakeAES(c.name, string(rune(id+1)), c.change...)
		p := serve(t, h, func(cfg *pkcs11.Config) { cfg.Destroyable = false })
		d, err := p.Open(key(h, c.name, "")).Describe(t.Context(), keysource.Ref{})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.of == "" && len(d.Unfit) > 0 || c.of != "" && !strings.Contains(d.Unfit[c.of], c.says) {
			t.Errorf("%s: unfit %v, want %q to say %q", c.name, d.Unfit, c.of, c.says)
		}
	}
}

// TestDates reads the last day of a key.
func TestDates(t *testing.T) {
	h := keystores.StartNSS(t)
	day := time.Date(2031, 3, 4, 0, 0, 0, 0, time.UTC)
	h.MakeAES("dated", "\x01", api.NewAttribute(api.CKA_START_DATE, day.AddDate(-1, 0, 0)),
		api.NewAttribute(api.CKA_END_DATE, day))
	d, err := serve(t, h).Open(key(h, "dated", "")).Describe(t.Context(), keysource.Ref{})
	if err != nil || !d.Expires.Equal(day.AddDate(0, 0, 1)) || !d.NotBefore.Equal(day.AddDate(-1, 0, 0)) ||
		!d.Enabled || d.Bits != 256 {
		t.Errorf("got %+v, %v", d, err)
	}
}

// TestDisabled revokes by taking the use away, and restores.
func TestDisabled(t *testing.T) {
	h := keystores.StartSoftHSM(t)
	h.MakeAES("faces", "\x01")
	src := serve(t, h).Open(key(h, "faces", ""))
	blob, ref, err := src.Wrap(t.Context(), inner)
	if err != nil {
		t.Fatal(err)
	}
	h.Set("faces", api.NewAttribute(api.CKA_DECRYPT, false))
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.Disabled, "CKR_KEY_FUNCTION_NOT_PERMITTED")
	h.Set("faces", api.NewAttribute(api.CKA_DECRYPT, true))
	if _, err = src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Errorf("after the restoration: %v", err)
	}
}

// TestSessions ends sessions and logins behind the back of the source, in this process, which shares both with it.
func TestSessions(t *testing.T) {
	for name, lib := range libraries {
		t.Run(name, func(t *testing.T) {
			h := lib.start(t)
			lib.make(h, "faces", "\x01")
			h.End() // the library belongs to the source now
			token, err := pkcs11.Load(pkcs11.Config{Address: h.Address, Module: h.Module,
				Parameters: h.Parameters}, &memory{pin: h.PINFile})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := token.Close(); err != nil {
					t.Error(err)
				}
			})
			src, err := token.Open("uri", "faces", "")
			if err != nil {
				t.Fatal(err)
			}
			blob, ref, err := src.Wrap(t.Context(), inner)
			if err != nil {
				t.Fatal(err)
			}
			disturb := api.New(h.Module) // the same library: it is loaded once
			slots, err := disturb.GetSlotList(true)
			if err != nil {
				t.Fatal(err)
			}
			works := func(when string) {
				t.Helper()
				if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
					t.Errorf("%s: %v", when, err)
				}
			}
			for _, slot := range slots {
				if err := disturb.CloseAllSessions(slot); err != nil {
					t.Fatal(err)
				}
			}
			works("after all sessions ended")
			logOut := func() {
				for _, slot := range slots {
					if s, err := disturb.OpenSession(slot, api.CKF_SERIAL_SESSION); err == nil {
						_ = disturb.Logout(s) // nobody may be logged in
						_ = disturb.CloseSession(s)
					}
				}
			}
			logOut()
			works("after a logout")
			if h.Parameters != "" { // NSS itself is no longer sure, if one thread logs in while another logs out
				return
			}
			var stop sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			stop.Go(func() {
				for ctx.Err() == nil {
					logOut()
				}
			})
			for range 100 {
				if _, err := src.Unwrap(t.Context(), ref, blob); err != nil && !errors.Is(err, keysource.ErrUnknown) {
					t.Errorf("while something logs out: %v", err)
				}
			}
			cancel()
			stop.Wait()
			works("when nothing logs out any more")
		})
	}
}

// TestLoad refuses descriptions that cannot be used.
func TestLoad(t *testing.T) {
	for _, c := range []pkcs11.Config{
		{Address: "pkcs11:token=a", Module: "module.so"},
		{Address: "pkcs11:token=a", Module: "/nowhere.so"},
		{Address: "pkcs11:object=a", Module: "/nowhere.so"},
	} {
		if _, err := pkcs11.Load(c, &memory{}); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	missing := pkcs11.Config{Address: "pkcs11:token=a", Module: filepath.Join(t.TempDir(), "m.so")}
	_, err := pkcs11.Load(missing, &memory{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
