package stores_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/test/keystores"
)

// opened is a source over the key "faces" of a transit engine that one token logs in to, with the files of its store.
type opened struct {
	keysource.Source
	set        *stores.Set
	store      stores.Store
	ca, secret string
	log        *bytes.Buffer
}

func openTransit(t *testing.T, v *keystores.Vault) *opened {
	t.Helper()
	v.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	dir := t.TempDir()
	o := &opened{ca: filepath.Join(dir, "ca.pem"), secret: filepath.Join(dir, "token"), log: &bytes.Buffer{}}
	o.write(t, o.ca, v.CA)
	o.write(t, o.secret, v.Root)
	o.store = stores.Store{Address: "hashivault://" + v.Address + "/transit", CAFile: o.ca,
		Resources: []string{stores.Everybody}, Login: stores.Login{Method: "token", SecretFile: o.secret}}
	var err error
	if o.set, err = stores.NewSet([]stores.Store{o.store}, slog.New(slog.NewTextHandler(o.log, nil)), nil); err != nil {
		t.Fatal(err)
	}
	asker := func(visage.KeyRef, visage.PrincipalID) stores.Asker { return stores.Asker{Path: "/subscriptions/1"} }
	assert := func(context.Context, visage.PrincipalID, string) (token string, _ time.Time, err error) { return }
	key := visage.KeyRef{Vault: o.store.Address, Name: "faces"}
	if o.Source, err = o.set.Connect(assert, asker).Open(key, "p"); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *opened) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (o *opened) describe(t *testing.T) error {
	t.Helper()
	_, err := o.Describe(t.Context(), keysource.Ref{})
	return err
}

// TestAuthoritiesAreReadAgain: when the file with the authorities of a store's certificate changes, an open source goes
// on with the new ones; what cannot be read leaves the former ones.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	v := keystores.StartVault(t)
	other := keystores.StartVault(t)
	o := openTransit(t, v)
	if err := o.describe(t); err != nil {
		t.Fatal(err)
	}
	o.write(t, o.ca, "no certificate")
	if err := o.describe(t); err != nil || !strings.Contains(o.log.String(), "were not read again") {
		t.Errorf("with a file that has no certificate: %v, log %s", err, o.log)
	}
	o.write(t, o.ca, other.CA+"\n")
	if err := o.describe(t); !errors.Is(err, keysource.ErrUnknown) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with the authority of another server: %v", err)
	}
	o.write(t, o.ca, other.CA+v.CA)
	if err := o.describe(t); err != nil {
		t.Errorf("with both authorities: %v", err)
	}
}

// TestAuthoritiesAreReadAgainAfterAFault: a file that could not be read is read again after a pause, also when its time
// and its size are still the same, as those of a file to which the service was given the right later.
func TestAuthoritiesAreReadAgainAfterAFault(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	o := opened{ca: filepath.Join(t.TempDir(), "ca.pem"), log: &bytes.Buffer{}}
	o.write(t, o.ca, ca)
	synctest.Test(t, func(t *testing.T) {
		set, err := stores.NewSet([]stores.Store{{Address: "hashivault://vault.example/transit", CAFile: o.ca,
			Login: stores.Login{Method: "jwt"}}}, slog.New(slog.NewTextHandler(o.log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		key := visage.KeyRef{Vault: "hashivault://vault.example/transit", Name: "faces"}
		written := time.Now().Add(time.Hour)
		uses := func(text, want string) {
			t.Helper()
			o.write(t, o.ca, text)
			if err := os.Chtimes(o.ca, written, written); err != nil {
				t.Fatal(err)
			}
			o.log.Reset()
			for range 2 {
				if err := set.Require(key); err != nil {
					t.Fatal(err)
				}
			}
			if got := o.log.String(); strings.Count(got, "\n") != min(len(want), 1) || !strings.Contains(got, want) {
				t.Errorf("log %q, want one line with %q", got, want)
			}
		}
		unreadable := strings.Replace(ca, "BEGIN", "bEGIN", 1)
		uses(unreadable, "were not read again")
		uses(ca, "") // not before the pause
		time.Sleep(10 * time.Second)
		uses(ca, "were read again")
		time.Sleep(time.Hour)
		uses(ca, "")
	})
}

// TestAuthoritiesAreReadWhileResourcesChange: authorities that were being read while the resources of a store changed
// are used for the changed store too, and not taken for read.
func TestAuthoritiesAreReadWhileResourcesChange(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	o := opened{ca: filepath.Join(t.TempDir(), "ca.pem"), log: &bytes.Buffer{}}
	o.write(t, o.ca, ca)
	synctest.Test(t, func(t *testing.T) {
		key := visage.KeyRef{Vault: "hashivault://vault.example/transit", Name: "faces"}
		set, err := stores.NewSet([]stores.Store{{Address: key.Vault, CAFile: o.ca,
			Login: stores.Login{Method: "jwt"}}}, slog.New(slog.NewTextHandler(o.log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		// a pipe, so that the test holds the read up
		written := time.Now().Add(time.Hour)
		stamp := func() error { return os.Chtimes(o.ca, written, written) }
		if err := errors.Join(os.Remove(o.ca), syscall.Mkfifo(o.ca, 0o600), stamp()); err != nil {
			t.Fatal(err)
		}
		read := func(during func()) {
			t.Helper()
			used, opened := make(chan error), make(chan *os.File)
			go func() { used <- set.Require(key) }()
			go func() {
				pipe, _ := os.OpenFile(o.ca, os.O_WRONLY, 0) // waits for the reader; nil fails below
				opened <- pipe
			}()
			select {
			case pipe := <-opened:
				during()
				_, err := pipe.WriteString(ca)
				if err := errors.Join(err, pipe.Close(), <-used, stamp()); err != nil {
					t.Fatal(err)
				}
			case err := <-used:
				reader, _ := os.OpenFile(o.ca, os.O_RDONLY|syscall.O_NONBLOCK, 0) // ends the wait
				_, _ = (<-opened).Close(), reader.Close()
				t.Fatalf("the authorities were not read: %v", err)
			}
		}
		read(func() { set.SetResources(key.Vault, []string{stores.Everybody}) })
		if o.log.Len() > 0 {
			t.Errorf("the authorities of the former description: log %q", o.log)
		}
		time.Sleep(10 * time.Second)
		read(func() {})
		if !strings.Contains(o.log.String(), "were read again") || len(set.All()[0].Resources) != 1 {
			t.Errorf("log %q, stores %v", o.log, set.All())
		}
	})
}

// TestChangedDescriptionIsUsed: a source that is open goes on with the login of a description that was changed, and a
// change that cannot be used changes nothing.
func TestChangedDescriptionIsUsed(t *testing.T) {
	v := keystores.StartVault(t)
	o := openTransit(t, v)
	ours := func(audience string) bool { return audience == "ours" }
	wrong := o.store
	wrong.CAFile = filepath.Join(t.TempDir(), "missing")
	federated := o.store
	federated.Login = stores.Login{Method: "jwt", Audience: "ours"}
	for name, bad := range map[string]stores.Store{"a missing file": wrong, "our own audience": federated} {
		if o.set.CheckChange(bad, ours) == nil || o.set.Change(bad, ours) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := o.describe(t); err != nil {
		t.Errorf("after changes that were refused: %v", err)
	}
	changed := o.store
	changed.Login.SecretFile = filepath.Join(t.TempDir(), "next")
	o.write(t, changed.Login.SecretFile, "not-a-token")
	if err := o.set.CheckChange(changed, ours); err != nil {
		t.Fatal(err)
	}
	if err := o.describe(t); err != nil {
		t.Errorf("after a change was checked: %v", err)
	}
	if err := o.set.Change(changed, ours); err != nil {
		t.Fatal(err)
	}
	if err := o.describe(t); err == nil {
		t.Error("the former token is used")
	}
	o.write(t, changed.Login.SecretFile, v.Root)
	o.write(t, o.secret, "revoked")
	if err := o.set.Change(changed, ours); err != nil {
		t.Fatal(err)
	}
	if err := o.describe(t); err != nil {
		t.Errorf("with the next token: %v", err)
	}
}
