package server_test

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/ovh/kmip-go"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// rootStore is a running store with a key that protects the root key.
type rootStore struct {
	entry    string         // of the setting root-key
	describe []stores.Store // what the settings say of it
	// refuse makes it refuse the key to everybody, or not answer at all, and consent ends that.
	refuse, consent func()
	// swap puts another key in the place of the key, and returns what ends that; nil: another store is started.
	swap func() (back func())
}

// rootStores start a store of each kind that can protect the root key.
var rootStores = map[string]func(t *testing.T) rootStore{
	"transit": func(t *testing.T) rootStore {
		vault := keystores.StartVault(t)
		vault.Post("transit/keys/root", map[string]any{"type": "aes256-gcm96"})
		about := oneToken(t, vault, t.TempDir())
		return rootStore{entry: about.Address + "/keys/root", describe: []stores.Store{about},
			refuse:  func() { keep(t, about.Login.SecretFile, "no token") },
			consent: func() { keep(t, about.Login.SecretFile, vault.Root) }}
	},
	"AWS KMS": func(t *testing.T) rootStore {
		kms := keystores.StartKMS(t)
		key, dir := kms.CreateKey(map[string]any{}), t.TempDir()
		const id, secret = "AKIAVISAGEROOT", "the secret of the access key"
		kms.User("visage", id, secret)
		permit := func(keys ...string) func() {
			return func() { kms.PermitUser("visage", keystores.KMSUse, keys...) }
		}
		permit(key)()
		about := stores.Store{Address: keystores.KMSStore, Endpoint: "https://" + kms.Address,
			LoginEndpoint: "https://" + kms.Address, CAFile: filepath.Join(dir, "ca.pem"),
			Login: stores.Login{Method: "static", AccessKeyID: id, SecretFile: filepath.Join(dir, "secret")}}
		keep(t, about.CAFile, kms.CA)
		keep(t, about.Login.SecretFile, secret)
		return rootStore{entry: keystores.KMSStore + "/keys/" + key, describe: []stores.Store{about}, refuse: permit(),
			consent: permit(key)}
	},
	"Cloud KMS": func(t *testing.T) rootStore {
		cloud, dir := keystores.StartCloudKMS(t), t.TempDir()
		cloud.Key("root", "", nil)
		about := stores.Store{Address: "gcpkms://" + keystores.CloudRing, Endpoint: "https://" + cloud.Address,
			CAFile: filepath.Join(dir, "ca.pem"),
			Login:  stores.Login{Method: "service-account", SecretFile: filepath.Join(dir, "account.json")}}
		keep(t, about.CAFile, cloud.CA)
		keep(t, about.Login.SecretFile, string(cloud.Account(false)))
		consent := func() { cloud.Permit("root", keystores.CloudRoles, "serviceAccount:"+keystores.CloudAccount) }
		consent()
		return rootStore{entry: about.Address + "/cryptoKeys/root", describe: []stores.Store{about},
			refuse: func() { cloud.Permit("root", nil) }, consent: consent}
	},
	"SoftHSM": func(t *testing.T) rootStore {
		token := &hsm{HSM: keystores.StartSoftHSM(t)}
		token.makeKey(t, "visage-root-main")
		decrypts := func(may bool) func() {
			return func() { token.Set("visage-root-main", pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, may)) }
		}
		label := func(from, to string) { token.Set(from, pkcs11.NewAttribute(pkcs11.CKA_LABEL, to)) }
		return rootStore{entry: token.Address + ";object=main", describe: []stores.Store{token.describe(t)},
			refuse: decrypts(false), consent: decrypts(true),
			swap: func() func() { // a process uses one SoftHSM alone
				label("visage-root-main", "before")
				token.makeKey(t, "visage-root-main")
				return func() {
					label("visage-root-main", "after")
					label("before", "visage-root-main")
				}
			}}
	},
	"KMIP": func(t *testing.T) rootStore {
		manager := keyManager{keystores.StartKMIP(t)}
		manager.MakeKey("visage-root-main")
		state := func(to kmip.State) func() {
			return func() {
				manager.Change("visage-root-main", func(key *keystores.KMIPKey) { key.State = to })
			}
		}
		return rootStore{entry: manager.Address + "/keys/main", describe: []stores.Store{manager.describe(t)},
			refuse: state(kmip.StateDeactivated), consent: state(kmip.StateActive)}
	},
	"TPM": func(t *testing.T) rootStore {
		if fips140.Enforced() {
			t.Skip("a TPM is refused while fips140=only is set")
		}
		device := keystores.StartTPM(t)
		return rootStore{entry: "tpm:" + device.Socket, refuse: device.Stop, consent: device.Start}
	},
}

func keep(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTheftOfARootKeyInAStore takes copies of everything that a server keeps, its data, keyring and the wrapped root
// key, and holds that nothing opens without the store that protects the root key: neither with other keys, nor with
// another store of the kind, nor while the store refuses. With the store, the copy opens.
func TestTheftOfARootKeyInAStore(t *testing.T) {
	for kind, start := range rootStores {
		t.Run(kind, func(t *testing.T) {
			store := start(t)
			dir := filepath.Join(t.TempDir(), "visage")
			settings := func(dir string, of rootStore) server.Config {
				return server.Config{Dir: dir, RootKeys: []string{of.entry}, KeyStores: of.describe}
			}
			o := &officer{Server: servertest.Start(t, settings(dir, store))}
			if status, body, _ := o.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
				`{"name":"canary"}`); status != http.StatusOK {
				t.Fatalf("make a group: %d %s", status, body)
			}
			if err := o.Stop(); err != nil {
				t.Fatal(err)
			}
			loot := func() string { return copied(t, dir) }
			if file := holding(t, loot(), "canary"); file != "" {
				t.Errorf("%s has the name of the group in the clear", file)
			}

			for name, source := range otherRoots(t) {
				taken := loot()
				opened, err := sealed.Open(t.Context(), sealed.Config{KeyDir: filepath.Join(taken, "keys"),
					Engine:     sealed.Pebble(filepath.Join(taken, "data")),
					Protectors: []sealed.Protector{{Name: name, Kind: name, Source: source}}})
				if _, isRoot := errors.AsType[*sealed.RootError](err); err == nil || !isRoot {
					t.Errorf("with %s: %v", name, errors.Join(err, closed(opened)))
				}
			}
			refused := func(what string, of rootStore) {
				t.Helper()
				cfg := settings(loot(), of)
				cfg.RootKeyWait = time.Nanosecond
				_, ended, stop := starting(t, cfg)
				defer stop()
				if err := <-ended; !isNoOrSilence(err) {
					t.Errorf("%s: %v", what, err)
				}
			}
			store.refuse()
			refused("while the store refuses", store)
			store.consent()
			if store.swap == nil {
				refused("with another store of the kind", start(t))
			} else {
				back := store.swap()
				refused("with another key", store)
				back()
			}

			thief := &officer{Server: servertest.Start(t, settings(loot(), store))}
			if status, body, _ := thief.groups(t); status != http.StatusOK || !strings.Contains(body, "canary") {
				t.Errorf("with the store: %d %s", status, body)
			}
		})
	}
}

// isNoOrSilence reports whether an error says that a protector has refused, has another key, or has not answered.
func isNoOrSilence(err error) bool {
	return errors.Is(err, keysource.ErrDenied) || errors.Is(err, keysource.ErrWrong) ||
		errors.Is(err, keysource.ErrUnknown)
}

func closed(s *sealed.Store) error {
	if s == nil {
		return nil
	}
	return s.Close()
}

// otherRoots are keys that a thief may have.
func otherRoots(t *testing.T) map[string]keysource.Source {
	t.Helper()
	own, err := file.New(filepath.Join(t.TempDir(), "root.key"), t.TempDir())
	if err == nil {
		err = own.Create()
	}
	if err != nil {
		t.Fatal(err)
	}
	return map[string]keysource.Source{"file": own, "another": sourcetest.NewFake("another")}
}

// copied returns a copy of a server's folder, which its user alone can read.
func copied(t *testing.T, dir string) string {
	t.Helper()
	loot := filepath.Join(t.TempDir(), "loot")
	if err := os.CopyFS(loot, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(loot, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600) // the service refuses keys that others can read
	})
	if err != nil {
		t.Fatal(err)
	}
	return loot
}

// holding returns a file of a folder that has a text in it; empty: there is none.
func holding(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(text)) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
