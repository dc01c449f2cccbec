package server_test

import (
	"context"
	"crypto/fips140"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// heard is a log that hands on the messages that begin in a way.
type heard struct {
	slog.Handler
	begins string
	to     chan<- string
}

func (h heard) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, h.begins) {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		select {
		case h.to <- text:
		default: // nobody waits for more
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }

// starting runs a server until ready or its end.
func starting(t *testing.T, cfg server.Config) (s *server.Server, ended <-chan error, stop func()) {
	t.Helper()
	cfg.Listen, cfg.Recogniser = "127.0.0.1:0", servertest.Faces{}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, done, cancel
}

// runOnce starts a server and stops it again.
func runOnce(t *testing.T, cfg server.Config) {
	t.Helper()
	if err := servertest.Start(t, cfg).Stop(); err != nil {
		t.Fatal(err)
	}
}

// storedRoot is a server whose root key is protected by a key in a transit engine alone.
func storedRoot(t *testing.T, vault *keystores.Vault) server.Config {
	t.Helper()
	vault.Post("transit/keys/root", map[string]any{"type": "aes256-gcm96"})
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	if err := errors.Join(os.WriteFile(ca, []byte(vault.CA), 0o600),
		os.WriteFile(secret, []byte(vault.Root), 0o600)); err != nil {
		t.Fatal(err)
	}
	address := "hashivault://" + vault.Address + "/transit"
	cfg := server.Config{
		Dir: filepath.Join(dir, "visage"), RootKeys: []string{address + "/keys/root"},
		KeyStores: []stores.Store{{Address: address, CAFile: ca,
			Login: stores.Login{Method: "token", SecretFile: secret}}},
	}
	runOnce(t, cfg)
	return cfg
}

// TestStartWaitsForAProtector: while the only protector does not answer, the start says so and tries again; it goes on
// when the protector answers, and ends at its bound.
func TestStartWaitsForAProtector(t *testing.T) {
	vault := keystores.StartVault(t)
	cfg := storedRoot(t, vault)
	vault.Seal(true)
	said := make(chan string, 1)
	cfg.Logger = slog.New(heard{slog.DiscardHandler, "no protector opens the root key", said})
	s, ended, stop := starting(t, cfg)
	select {
	case text := <-said:
		if !strings.Contains(text, "hashivault") || !strings.Contains(text, "until=") {
			t.Errorf("said %q, want which protector, and until when", text)
		}
	case err := <-ended:
		t.Fatalf("the start has ended: %v", err)
	case <-s.Ready():
		t.Fatal("the server is ready without its root key")
	}
	vault.Seal(false)
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatalf("after the protector answers again: %v", err)
	}
	if n := s.RootStores(); n != 1 {
		t.Errorf("connections to %d key stores are kept, want those of the last try alone", n)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	vault.Seal(true)
	cfg.RootKeyWait = time.Nanosecond
	_, ended, stop = starting(t, cfg)
	defer stop()
	if err := <-ended; !errors.Is(err, keysource.ErrUnknown) || !strings.Contains(err.Error(), "root-key-wait") {
		t.Errorf("at the bound: %v", err)
	}
	vault.Seal(false)
}

// TestRootKeyInAToken: a key in a token of PKCS#11 protects the root key, under a label that no key of a resource has.
func TestRootKeyInAToken(t *testing.T) {
	token := &hsm{HSM: keystores.StartSoftHSM(t)}
	token.makeKey(t, "visage-root-main")
	cfg := server.Config{Dir: filepath.Join(t.TempDir(), "visage"), RootKeys: []string{token.Address + ";object=main"},
		KeyStores: []stores.Store{token.describe(t)}}
	runOnce(t, cfg)
	runOnce(t, cfg) // the data opens again
	token.Set("visage-root-main", api.NewAttribute(api.CKA_DECRYPT, false))
	_, ended, stop := starting(t, cfg)
	defer stop()
	if err := <-ended; !errors.Is(err, keysource.ErrDenied) {
		t.Errorf("with a key that may not unwrap: %v", err)
	}
}

// TestStartEndsAtARefusal: a protector that refuses is not waited for.
func TestStartEndsAtARefusal(t *testing.T) {
	vault := keystores.StartVault(t)
	cfg := storedRoot(t, vault)
	said := make(chan string, 1)
	cfg.Logger = slog.New(heard{slog.DiscardHandler, "no protector opens the root key", said})
	vault.Post("transit/keys/root/config", map[string]any{"deletion_allowed": true})
	vault.Do("DELETE", "transit/keys/root", nil)
	_, ended, stop := starting(t, cfg)
	defer stop()
	if err := <-ended; !errors.Is(err, keysource.ErrDenied) {
		t.Errorf("got %v, want class %v", err, keysource.ErrDenied)
	}
	select {
	case text := <-said:
		t.Errorf("it was waited for: %s", text)
	default:
	}
}

// TestRootKeyInAStoreOfOthers: a login that needs the root key, and a store that is not in the settings, are refused in
// a sentence.
func TestRootKeyInAStoreOfOthers(t *testing.T) {
	const address = "hashivault://vault.example.com/transit"
	for says, all := range map[string][]stores.Store{
		"by federation (jwt)":    {{Address: address, Login: stores.Login{Method: "jwt", Audience: "vault.example"}}},
		"is not in the settings": nil,
	} {
		_, ended, stop := starting(t, server.Config{Dir: filepath.Join(t.TempDir(), "visage"), KeyStores: all,
			RootKeys: []string{address + "/keys/root"}})
		if err := <-ended; err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want it to say %q", err, says)
		}
		stop()
	}
}

// TestTPMProtectsTheRootKey: a TPM opens the data at each start, and nothing opens without it.
func TestTPMProtectsTheRootKey(t *testing.T) {
	if fips140.Enforced() {
		t.Skip("a TPM is refused while fips140=only is set")
	}
	device := keystores.StartTPM(t)
	dir := filepath.Join(t.TempDir(), "visage")
	cfg := server.Config{Dir: dir, RootKeys: []string{"tpm:" + device.Socket}}
	runOnce(t, cfg)
	runOnce(t, cfg)
	device.Stop()
	cfg.RootKeyWait = time.Nanosecond
	_, ended, stop := starting(t, cfg)
	defer stop()
	if err := <-ended; !errors.Is(err, keysource.ErrUnknown) {
		t.Errorf("without the TPM: %v", err)
	}
}
