package tpm_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keysource/tpm"
	"github.com/visage-face/visage/test/keystores"
)

func start(t testing.TB) *keystores.TPM {
	t.Helper()
	if fips140.Enforced() {
		t.Skip("a TPM is refused while fips140=only is set; TestEnforced has it")
	}
	return keystores.StartTPM(t)
}

func open(t testing.TB, spec string) *tpm.Source {
	t.Helper()
	src, err := tpm.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// command asks a TPM something beside the source.
func command(t testing.TB, socket string, do func(transport.TPM) error) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := do(transport.FromReadWriter(conn)); err != nil {
		t.Fatal(err)
	}
}

// relay passes commands on to a TPM, keeps everything that passes, and answers by itself where answer says so.
type relay struct {
	Socket string

	mu     sync.Mutex // guards all below
	passed [][]byte
	asked  map[tpm2.TPMCC]int
	answer func(command tpm2.TPMCC, nth int) []byte // nil: passed on
}

func newRelay(t testing.TB, to string, answer func(tpm2.TPMCC, int) []byte) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Socket: filepath.Join(dir, "s"), asked: map[tpm2.TPMCC]int{}, answer: answer}
	l, err := net.Listen("unix", r.Socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			r.serve(t, from, to)
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *relay) serve(t testing.TB, from net.Conn, to string) {
	defer from.Close()
	var out net.Conn
	if to != "" {
		var err error
		if out, err = net.Dial("unix", to); err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
	}
	for {
		command, err := message(from)
		if err != nil {
			return
		}
		code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
		r.mu.Lock()
		r.asked[code]++
		response := r.answer(code, r.asked[code])
		r.mu.Unlock()
		if response == nil {
			if _, err := out.Write(command); err != nil {
				return
			}
			if response, err = message(out); err != nil {
				return
			}
		}
		r.mu.Lock()
		r.passed = append(r.passed, command, response)
		r.mu.Unlock()
		if _, err := from.Write(response); err != nil {
			return
		}
	}
}

func message(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	b := append(head, make([]byte, binary.BigEndian.Uint32(head[2:])-10)...)
	_, err := io.ReadFull(r, b[10:])
	return b, err
}

// code is a response that has a code and nothing else.
func code(rc tpm2.TPMRC) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(rc))
}

func pass(tpm2.TPMCC, int) []byte { return nil }

// saying answers every command of a kind with a code.
func saying(which tpm2.TPMCC, rc tpm2.TPMRC) func(tpm2.TPMCC, int) []byte {
	return func(asked tpm2.TPMCC, _ int) []byte {
		if asked == which {
			return code(rc)
		}
		return nil
	}
}

func TestSource(t *testing.T) {
	one, other := start(t), start(t)
	fault := func(name string, class error, says string, answer func(tpm2.TPMCC, int) []byte) sourcetest.Fault {
		return sourcetest.Fault{Name: name, Class: class, Says: says, Source: func(t testing.TB) keysource.Source {
			return open(t, newRelay(t, one.Socket, answer).Socket)
		}}
	}
	sourcetest.Run(t, sourcetest.Provider{
		Open:   func(t testing.TB) keysource.Source { return open(t, one.Socket) },
		Other:  func(t testing.TB) keysource.Source { return open(t, other.Socket) },
		Stride: 5,
		Faults: []sourcetest.Fault{
			{Name: "gone", Class: keysource.ErrUnknown, Says: "check that it is enabled",
				Source: func(t testing.TB) keysource.Source { return open(t, filepath.Join(t.TempDir(), "tpmrm0")) }},
			{Name: "no device", Class: keysource.ErrUnknown, Says: "neither a device nor a socket",
				Source: func(t testing.TB) keysource.Source { return open(t, t.TempDir()) }},
			fault("locked out", keysource.ErrUnknown, "lockout recovery",
				saying(tpm2.TPMCCCreatePrimary, tpm2.TPMRCLockout)),
			fault("always busy", keysource.ErrUnknown, "TPM_RC_RETRY",
				saying(tpm2.TPMCCCreatePrimary, tpm2.TPMRCRetry)),
			fault("failed", keysource.ErrUnknown, "TPM_RC_FAILURE",
				saying(tpm2.TPMCCStartAuthSession, tpm2.TPMRCFailure)),
			fault("no AES-256", keysource.ErrDenied, "AES-256, which is needed",
				saying(tpm2.TPMCCCreatePrimary, tpm2.TPMRCSymmetric|0x2c0)),
			fault("owner's password", keysource.ErrDenied, "parent=0xHANDLE",
				saying(tpm2.TPMCCCreatePrimary, tpm2.TPMRCBadAuth|0x900)),
			fault("nonsense", keysource.ErrUnknown, "cannot be used", func(tpm2.TPMCC, int) []byte {
				return []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
			}),
		},
	})
}

// TestBusy: a TPM that asks for another try gets one; one that is locked out is left alone.
func TestBusy(t *testing.T) {
	device := start(t)
	busy := newRelay(t, device.Socket, func(asked tpm2.TPMCC, nth int) []byte {
		if asked == tpm2.TPMCCCreate && nth == 1 {
			return code(tpm2.TPMRCRetry)
		}
		return nil
	})
	if _, _, err := open(t, busy.Socket).Wrap(t.Context(), []byte("secret")); err != nil {
		t.Errorf("a TPM that was busy once: %v", err)
	}
	locked := newRelay(t, device.Socket, saying(tpm2.TPMCCCreate, tpm2.TPMRCLockout))
	if _, _, err := open(t, locked.Socket).Wrap(t.Context(), []byte("secret")); !errors.Is(err, keysource.ErrUnknown) ||
		!errors.Is(err, tpm.ErrLockedOut) {
		t.Errorf("locked out: got %v, want class %v and the cause %v", err, keysource.ErrUnknown, tpm.ErrLockedOut)
	}
	locked.mu.Lock()
	defer locked.mu.Unlock()
	if n := locked.asked[tpm2.TPMCCCreate]; n != 1 {
		t.Errorf("a TPM that is locked out was asked %d times, want once", n)
	}
}

// TestWaitsNoLongerThanItsContext: a call that waits for its turn, while the TPM hangs in another one, ends with its
// context.
func TestWaitsNoLongerThanItsContext(t *testing.T) {
	device := start(t)
	hangs, goOn := make(chan struct{}), make(chan struct{})
	slow := newRelay(t, device.Socket, func(asked tpm2.TPMCC, nth int) []byte {
		if asked == tpm2.TPMCCCreate && nth == 1 {
			close(hangs)
			<-goOn
		}
		return nil
	})
	src := open(t, slow.Socket)
	first := make(chan error, 1)
	go func() {
		_, _, err := src.Wrap(t.Context(), []byte("secret"))
		first <- err
	}()
	<-hangs
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() {
		_, _, err := src.Wrap(ctx, []byte("secret"))
		second <- err
	}()
	select {
	case err := <-second:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second call: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second call waits for the first one, although its context has ended")
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Errorf("the first call: %v", err)
	}
}

// TestRestart: what was wrapped opens after the machine was restarted, and not after its TPM was cleared.
func TestRestart(t *testing.T) {
	device := start(t)
	blob, ref, err := open(t, device.Socket).Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	device.Stop()
	if _, err := open(t, device.Socket).Unwrap(t.Context(), ref, blob); !errors.Is(err, keysource.ErrUnknown) {
		t.Errorf("while it is off: got %v, want class %v", err, keysource.ErrUnknown)
	}
	device.Start()
	if got, err := open(t, device.Socket).Unwrap(t.Context(), ref, blob); err != nil || string(got) != "secret" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	command(t, device.Socket, func(dev transport.TPM) error {
		_, err := tpm2.Clear{AuthHandle: tpm2.TPMRHLockout}.Execute(dev)
		return err
	})
	_, err = open(t, device.Socket).Unwrap(t.Context(), ref, blob)
	if !errors.Is(err, keysource.ErrWrong) || !strings.Contains(err.Error(), "it was cleared since") {
		t.Errorf("after the TPM was cleared: got %v, want class %v", err, keysource.ErrWrong)
	}
}

// TestRegisters: what is bound to registers opens until one of them changes.
func TestRegisters(t *testing.T) {
	device := start(t)
	bound := open(t, device.Socket+",pcrs=7+16")
	blob, ref, err := bound.Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, device.Socket).Unwrap(t.Context(), ref, blob); err != nil || string(got) != "secret" {
		t.Errorf("before: %q, %v", got, err)
	}
	command(t, device.Socket, func(dev transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
				{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)},
			}},
		}.Execute(dev)
		return err
	})
	if _, err := bound.Unwrap(t.Context(), ref, blob); !errors.Is(err, keysource.ErrDenied) ||
		!strings.Contains(err.Error(), "add the TPM again") {
		t.Errorf("after a register changed: got %v, want class %v", err, keysource.ErrDenied)
	}
}

// TestParent: a persistent storage key is used where the owner hierarchy has a password, and a weaker one is refused.
func TestParent(t *testing.T) {
	device := start(t)
	persist := func(template tpm2.TPMTPublic, at tpm2.TPMHandle) {
		command(t, device.Socket, func(dev transport.TPM) error {
			made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(dev)
			if err != nil {
				return err
			}
			_, err = tpm2.EvictControl{
				Auth:             tpm2.TPMRHOwner,
				ObjectHandle:     &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
				PersistentHandle: at,
			}.Execute(dev)
			_, flushed := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(dev)
			return errors.Join(err, flushed)
		})
	}
	persist(tpm2.ECCSRKTemplate, 0x81000001)
	persist(tpm.StorageKey(), 0x81000002)
	command(t, device.Socket, func(dev transport.TPM) error {
		_, err := tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("the owner's")},
		}.Execute(dev)
		return err
	})
	for spec, want := range map[string]struct {
		class error
		says  string
	}{
		device.Socket:                        {keysource.ErrDenied, "its owner hierarchy has a password"},
		device.Socket + ",parent=0x81000001": {keysource.ErrDenied, "AES-256, which is needed"},
		device.Socket + ",parent=0x81000003": {keysource.ErrUnknown, "check parent="},
	} {
		if _, _, err := open(t, spec).Wrap(t.Context(), []byte("secret")); !errors.Is(err, want.class) ||
			!strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: got %v, want class %v and %q", spec, err, want.class, want.says)
		}
	}
	src := open(t, device.Socket+",parent=0x81000002")
	blob, ref, err := src.Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || string(got) != "secret" {
		t.Errorf("under a persistent storage key: %q, %v", got, err)
	}
}

// TestBus: the wrapping key is not among what passes between the machine and the TPM, as it would be without a session
// that encrypts.
func TestBus(t *testing.T) {
	bus := newRelay(t, start(t).Socket, pass)
	src := open(t, bus.Socket)
	blob, ref, err := src.Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Fatal(err)
	}
	wrapped, err := local.Parse(local.TPM, blob)
	if err != nil {
		t.Fatal(err)
	}
	seen := func() bool {
		bus.mu.Lock()
		defer bus.mu.Unlock()
		for _, b := range bus.passed {
			for i := range max(0, len(b)-local.KeySize+1) {
				if _, err := wrapped.Open(b[i:i+local.KeySize], ref.Version, ""); err == nil {
					return true
				}
			}
		}
		return false
	}
	if seen() {
		t.Error("the wrapping key passed in the clear")
	}
	if err := tpm.UnsealInTheClear(t.Context(), bus.Socket, wrapped.Params); err != nil {
		t.Fatal(err)
	}
	if !seen() {
		t.Error("the wrapping key is not found where it passed in the clear, so this test sees nothing")
	}
}

func TestSpec(t *testing.T) {
	if fips140.Enforced() {
		t.Skip("a TPM is refused while fips140=only is set; TestEnforced has it")
	}
	for spec, says := range map[string]string{
		"":                              "not an absolute path",
		"tpmrm0":                        "not an absolute path",
		"/dev/tpmrm0,pcrs=":             "from 0 to 23",
		"/dev/tpmrm0,pcrs=24":           "from 0 to 23",
		"/dev/tpmrm0,pcrs=7+7":          "from 0 to 23",
		"/dev/tpmrm0,parent=0x80000000": "a handle from 0x81000000",
		"/dev/tpmrm0,parent=":           "a handle from 0x81000000",
		"/dev/tpmrm0,owner=x":           "neither pcrs=",
	} {
		if _, err := tpm.New(spec); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want it to say %q", spec, err, says)
		}
	}
	for _, spec := range []string{"/dev/tpmrm0", "/dev/tpmrm0,pcrs=0+7", "/dev/tpmrm0,parent=0x81000001,pcrs=23"} {
		if _, err := tpm.New(spec); err != nil {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

// TestEnforced: where the cryptographic module would refuse what sessions need, the TPM is refused before it is used.
func TestEnforced(t *testing.T) {
	_, err := tpm.New("/dev/tpmrm0")
	if fips140.Enforced() != errors.Is(err, keysource.ErrDenied) {
		t.Errorf("with enforced=%v: got %v", fips140.Enforced(), err)
	}
}

// FuzzObject: no bytes make the parser of objects fail otherwise than with a class, or read what it does not write.
func FuzzObject(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 0, 2, 0, 8, 0, 1, 7})
	f.Add(bytes.Repeat([]byte{0}, 7))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := tpm.ParseObject(b); err != nil && !errors.Is(err, keysource.ErrWrong) {
			t.Errorf("got %v, want class %v", err, keysource.ErrWrong)
		}
	})
}
