package hashivault_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/test/keystores"
)

// TestLongLists: a folder with the names of many resources is listed, although no other answer is so long.
func TestLongLists(t *testing.T) {
	const names = 100_000
	body := `{"data":{"keys":[` + strings.Repeat(fmt.Sprintf("%q,", strings.Repeat("0", 32)), names-1) + `"end"]}}`
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, block, 0o600), os.WriteFile(token, []byte("token"), 0o600)); err != nil {
		t.Fatal(err)
	}
	kv, err := hashivault.OpenKV("hashivault://"+server.Listener.Addr().String()+"/kv/visage?ca="+ca, token)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := kv.List(t.Context(), "epochs"); err != nil || len(list) != names || list[names-1] != "end" {
		t.Errorf("listed %d names, %v", len(list), err)
	}
}

// TestRefusedLoginRests: a secret that was refused is not sent again and again, since servers count that; another one
// is sent at once.
func TestRefusedLoginRests(t *testing.T) {
	var logins atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		logins.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"errors":["invalid role or secret ID"]}`))
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, block, 0o600), os.WriteFile(secret, []byte("one"), 0o600)); err != nil {
		t.Fatal(err)
	}
	address := "hashivault://" + server.Listener.Addr().String() + "/kv/visage?login=approle&role=role&ca=" + ca
	kv, err := hashivault.OpenKV(address, secret)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(want int64) {
		t.Helper()
		for range 20 {
			_, err := kv.List(t.Context(), "epochs")
			if !errors.Is(err, keysource.ErrDenied) || !strings.Contains(err.Error(), "put a new one into") {
				t.Fatal(err)
			}
		}
		if n := logins.Load(); n != want {
			t.Errorf("%d logins, want %d", n, want)
		}
	}
	ask(1)
	if err := os.WriteFile(secret, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(2)
}

// TestAuthoritiesOfKVAreReadAgain: when the file of ca changes, the engine is reached with the new authorities, without
// a restart; what cannot be read leaves the former ones.
func TestAuthoritiesOfKVAreReadAgain(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":{"keys":["one"]}}`))
	}))
	defer server.Close()
	other := keystores.StartVault(t)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	right := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token, "token")
	write(ca, other.CA)
	kv, err := hashivault.OpenKV("hashivault://"+server.Listener.Addr().String()+"/kv/visage?ca="+ca, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.List(t.Context(), "epochs"); !errors.Is(err, keysource.ErrUnknown) {
		t.Errorf("with the authority of another server: %v", err)
	}
	write(ca, "no certificate")
	if _, err := kv.List(t.Context(), "epochs"); err == nil || !strings.Contains(err.Error(), "was not read again") {
		t.Errorf("with a file that has no certificate: %v", err)
	}
	write(ca, right)
	if _, err := kv.List(t.Context(), "epochs"); err != nil {
		t.Errorf("with its own authority: %v", err)
	}
}

// TestAuthoritiesOfKVAreReadAgainAfterAFault: a file of ca that could not be read is read again after a pause, also
// when its time and its size are still the same.
func TestAuthoritiesOfKVAreReadAgainAfterAFault(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close() // nobody answers: the error says what is known of the file
	right := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	synctest.Test(t, func(t *testing.T) {
		written := time.Now()
		write := func(path, text string) {
			t.Helper()
			err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, written, written))
			if err != nil {
				t.Fatal(err)
			}
		}
		write(token, "token")
		write(ca, right)
		kv, err := hashivault.OpenKV("hashivault://"+server.Listener.Addr().String()+"/kv/visage?ca="+ca, token)
		if err != nil {
			t.Fatal(err)
		}
		faulty := func(want bool) {
			t.Helper()
			_, err := kv.List(t.Context(), "epochs")
			if err == nil || strings.Contains(err.Error(), "was not read again") != want {
				t.Errorf("%v, want the fault of the file: %v", err, want)
			}
		}
		faulty(false)
		written = written.Add(time.Hour)
		write(ca, strings.Replace(right, "BEGIN", "bEGIN", 1))
		faulty(true)
		write(ca, right)
		faulty(true) // not before the pause
		time.Sleep(10 * time.Second)
		faulty(false)
	})
}
