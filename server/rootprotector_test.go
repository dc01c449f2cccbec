package server_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/keysource/tpm"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/server/registry"
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

// TestRemovedProtectorEndsItsStore: of a protector that was removed, no connections to its key store are kept.
func TestRemovedProtectorEndsItsStore(t *testing.T) {
	cfg := storedRoot(t, keystores.StartVault(t))
	path := filepath.Join(t.TempDir(), "root.key")
	cfg.RootKeys = append(cfg.RootKeys, "file:"+path)
	key := make([]byte, 32)
	rand.Read(key) // never fails: the runtime ends the process instead
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	r := realm{servertest.Start(t, cfg), t}
	if n := r.RootStores(); n != 1 {
		t.Fatalf("connections to %d key stores, want 1", n)
	}
	r.call(http.StatusNoContent, "", r.Token(t, managementPlane), "DELETE",
		"/providers/Visage.Operations/rootKey/protectors/hashivault", "")
	if n := r.RootStores(); n != 0 {
		t.Errorf("connections to %d key stores are kept, want none", n)
	}
}

// TestKeyOfTheRootKeyProtectsNoResource: no resource can name the key of a store that protects the root key.
func TestKeyOfTheRootKeyProtectsNoResource(t *testing.T) {
	vault := keystores.StartVault(t)
	cfg := storedRoot(t, vault)
	cfg.AutoApprove = true
	r := realm{servertest.Start(t, cfg), t}
	token := r.Token(t, managementPlane)
	r.call(http.StatusCreated, "", token, "PUT", groupPath+"/vip",
		`{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	answer := r.call(http.StatusBadRequest, "InvalidKeyVaultProperties", token, "PATCH", groupPath+"/vip",
		fmt.Sprintf(`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":%q,"keyName":"root"}}}}`,
			"hashivault://"+vault.Address+"/transit"))
	if says := fmt.Sprint(answer["error"]); !strings.Contains(says, "protects the root key") {
		t.Errorf("it says %s", says)
	}
}

// TestLockedOutTPMIsNotAskedAgain: a start does not wait for a TPM that is locked out, which asking again may prolong.
func TestLockedOutTPMIsNotAskedAgain(t *testing.T) {
	silent := func(err error) error {
		return &sealed.RootError{Tried: []sealed.ProtectorError{{Name: "tpm", Err: err}}}
	}
	if !server.MayAnswerLater(silent(keysource.ErrUnknown)) {
		t.Error("a TPM that gives no answer is not waited for")
	}
	if server.MayAnswerLater(silent(errors.Join(keysource.ErrUnknown, tpm.ErrLockedOut))) {
		t.Error("a TPM that is locked out is asked again")
	}
}

// TestRefusedEntriesAreNotRecorded: what somebody pastes in place of a protector or of a key store, such as a URI with
// a PIN, gets neither into the audit log nor into the log.
func TestRefusedEntriesAreNotRecorded(t *testing.T) {
	const canary = "c4n4ry"
	var log bytes.Buffer // read after the server has stopped
	r := realm{servertest.Start(t, server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}), t}
	token := r.Token(t, managementPlane)
	for _, entry := range []string{
		"pkcs11:token=HSM;object=main?pin-value=" + canary, "pkcs11:pin-" + canary,
		"hashivault://user:" + canary + "@vault.example.com/transit/keys/root", "correct horse " + canary,
		"correct:" + canary, canary, "kmip://user:" + canary + "@kms.example.com/keys/root",
	} {
		r.call(http.StatusBadRequest, "InvalidRootProtector", token, "POST",
			"/providers/Visage.Operations/rootKey/protectors", fmt.Sprintf(`{"entry":%q}`, entry))
	}
	for _, address := range []string{
		"hashivault://user:" + canary + "@vault.example.com/transit", canary,
		"kmip://user:" + canary + "@kms.example.com",
		"awskms://user:" + canary + "@eu-central-1/111122223333", "https://user:" + canary + "@v1.vault.azure.net",
	} {
		r.call(http.StatusBadRequest, "InvalidKeyStore", token, "POST", "/providers/Visage.Operations/keyStores",
			fmt.Sprintf(`{"address":%q,"login":{"method":"token","secretFile":"/x"}}`, address))
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, e := range entries(t, r.Dir()) {
		if strings.Contains(fmt.Sprintf("%+v", e), canary) {
			t.Errorf("recorded: %+v", e)
		}
		if e.Outcome == audit.Refused && (e.Kind == audit.RootProtect || e.Kind == audit.OperatorAction) {
			refused++
		}
	}
	if refused != 12 {
		t.Errorf("%d refusals are recorded, want 12", refused)
	}
	if strings.Contains(log.String(), canary) {
		t.Error("the log has what was refused")
	}
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

// TestStartTriesAPINOnce: while a start waits for another protector, a PIN that a token has refused is not tried again.
// Two keys in the token are not two attempts either.
func TestStartTriesAPINOnce(t *testing.T) {
	vault := keystores.StartVault(t)
	cfg := storedRoot(t, vault)
	token := &hsm{HSM: keystores.StartSoftHSM(t)}
	token.makeKey(t, "visage-root-main")
	token.makeKey(t, "visage-root-other")
	cfg.KeyStores = append(cfg.KeyStores, token.describe(t))
	cfg.RootKeys = append(cfg.RootKeys, token.Address+";object=main", token.Address+";object=other")
	runOnce(t, cfg)
	token.WritePIN("wrong-pin")
	vault.Seal(true)
	defer vault.Seal(false)
	said := make(chan string, 100)
	cfg.Logger = slog.New(heard{slog.DiscardHandler, "no protector opens the root key", said})
	_, ended, stop := starting(t, cfg)
	defer stop()
	attempts := 0
	for round := range 3 {
		select {
		case text := <-said:
			attempts += strings.Count(text, "the token refuses the PIN")
			if round > 0 && !strings.Contains(text, "not tried again") {
				t.Errorf("round %d says: %s", round, text)
			}
		case err := <-ended:
			t.Fatalf("the start ended: %v", err)
		}
	}
	if attempts != 1 {
		t.Errorf("%d attempts with a wrong PIN, want 1", attempts)
	}
	stop()
	<-ended
	cfg.RootKeyWait = time.Nanosecond
	_, ended, stop = starting(t, cfg)
	defer stop()
	err := <-ended
	if _, refused := errors.AsType[*server.PINError](err); !refused {
		t.Errorf("at the bound: %v, want a *server.PINError", err)
	}
}

// TestRefusedPINIsTriedOnce: a PIN that a token has refused is not tried again by commands that add protectors, nor by
// the copies of rehearsals, whoever has tried it first.
func TestRefusedPINIsTriedOnce(t *testing.T) {
	token := &hsm{HSM: keystores.StartSoftHSM(t)}
	w := newStoreWalk(t, token)
	token.makeKey(t, "visage-root-main")
	faces := token.makeKey(t, "faces")
	token.grant(t, w.who, faces)
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	token.WritePIN("wrong-pin")
	r := realm{w.Server, t}
	manage := r.Token(t, managementPlane)
	add := func(want string) {
		t.Helper()
		answer := r.call(http.StatusConflict, "RootProtectorUnavailable", manage, "POST",
			"/providers/Visage.Operations/rootKey/protectors",
			fmt.Sprintf(`{"entry":%q}`, token.Address+";object=main"))
		if says := fmt.Sprint(answer["error"]); !strings.Contains(says, want) {
			t.Errorf("it says %s, want %q", says, want)
		}
	}
	add("the token refuses the PIN")
	add("not tried again")

	describes := func(s *server.Server) string {
		trial, err := s.KeyStores().Try(t.Context(), visage.Caller{}, registry.IDOf(w.address),
			registry.Trial{Resource: "vip", Key: faces})
		return fmt.Sprint(trial.Findings, err)
	}
	var copied string
	rehearsing, end := context.WithCancel(t.Context())
	defer end()
	room, source, err := w.Rehearsals(visage.Caller{}, func(s *server.Server) {
		copied = describes(s)
		end() // without the key, it would wait for the copy
	})
	if err != nil {
		t.Fatal(err)
	}
	if report, err := room.Run(rehearsing, source, drill.Plan{Resource: "vip"}, nil); err == nil && report.Passed {
		t.Error("a rehearsal without the key has passed")
	}
	if !strings.Contains(copied, "not tried again") {
		t.Errorf("a copy says %q", copied)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}

	w = startStoreWalk(t, token, w.Dir()) // which tries it once, for whoever asks first
	r, manage = realm{w.Server, t}, realm{w.Server, t}.Token(t, managementPlane)
	if says := describes(w.Server.Server); !strings.Contains(says, "PIN") {
		t.Errorf("after a start: %s", says)
	}
	add("not tried again")
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
