package server

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/env"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/keysource/passphrase"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/keysource/tpm"
	"github.com/visage-face/visage/sealed"
)

// This file says which providers there are: of protectors of the root key, of stores of customers' keys, and of the
// storage engine. Each family has one switch, whose error lists the members. Nothing registers itself when it is
// imported.

// protector is one kind of protector of the root key, for one entry of Config.RootKeys.
type protector struct {
	kind    string // as the store remembers it; where a passphrase is read from is not part of it
	exposed bool   // anyone who copies the disk has the key too
	secret  bool   // somebody may know what it wraps with, such as the one who named it
	spelled string // its entry in the one spelling of its kind, which holds no secret; empty: the entry itself
	// open returns the source. On the first start of an instance, create makes the key where it is missing.
	open func(create bool) (keysource.Source, error)
}

// protector reads an entry of Config.RootKeys. Nothing is opened yet.
func (c Config) protector(entry string) (protector, error) {
	scheme, at, _ := strings.Cut(entry, ":")
	if at == "" {
		scheme = ""
	}
	opened := func(s keysource.Source) func(bool) (keysource.Source, error) {
		return func(bool) (keysource.Source, error) { return s, nil }
	}
	switch scheme {
	case "file":
		return protector{kind: "file", exposed: true, secret: true, open: func(create bool) (keysource.Source, error) {
			return openKeyFile(at, c.dataDir(), create)
		}}, nil
	case "env":
		return protector{kind: "env", secret: true, open: opened(env.New(at))}, nil
	case "passphrase-env":
		return protector{kind: "passphrase", secret: true, open: opened(passphrase.FromEnv(at))}, nil
	case "passphrase-file":
		return protector{kind: "passphrase", secret: true, open: opened(passphrase.FromFile(at))}, nil
	case "tpm":
		source, err := tpm.New(at)
		if err != nil {
			return protector{}, err
		}
		path, _, _ := strings.Cut(at, ",")
		return protector{kind: "tpm", secret: !tpmDevice.MatchString(path), open: opened(source)}, nil
	}
	if stores.Knows(entry) {
		return c.storedProtector(entry)
	}
	// It is not quoted: it may be a passphrase that somebody took for the protector.
	return protector{}, errors.New("the entry is none of file:PATH, env:NAME, passphrase-env:NAME, " +
		"passphrase-file:PATH, tpm:DEVICE, nor the identifier of a key in a key store")
}

// spelled returns how the audit log names an entry of Config.RootKeys. Of one that cannot be read, which may have a PIN
// or a password in it, that is its scheme alone; empty: it has none that is known.
func (c Config) spelled(entry string) string {
	p, err := c.protector(entry)
	switch {
	case err == nil && p.spelled != "":
		return p.spelled
	case err == nil:
		return entry
	case stores.Knows(entry):
		return stores.KindAt(entry) + ":"
	}
	return ""
}

// tpmDevice is what Linux calls TPMs. Any other path, /dev/shm and /dev/../tmp among them, leads to whatever listens
// there.
var tpmDevice = regexp.MustCompile(`^/dev/tpm(rm)?[0-9]{1,5}$`)

func openKeyFile(path, dataDir string, create bool) (keysource.Source, error) {
	src, err := file.New(path, dataDir)
	if err != nil {
		return nil, err
	}
	if create {
		if err := src.Create(); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return src, nil
}

// The kinds of stores at https addresses, as metrics name them.
const (
	ownVaultKind = "vault"
	azureKind    = "azure"
)

// kindOf returns the kind of the store that a key is in, as metrics name it: the scheme, where it tells the kind.
func (s *Server) kindOf(key visage.KeyRef) string {
	if key.Scheme() != "https" {
		return key.Scheme()
	}
	if _, ours := s.ownVault(s.today(key)); ours {
		return ownVaultKind
	}
	return azureKind
}

// keyStore is one kind of store of customers' keys.
type keyStore struct {
	// parse returns the reference of a key in the store's one spelling. Without a name, address is the identifier of
	// the key.
	parse func(address, name, version string) (visage.KeyRef, error)
	// open returns a source over a key, as one principal sees it, over the given connections. Its keysource.Ref has the
	// key's Unversioned as URI.
	open func(l *layers, by connections, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
}

// keyStore returns the kind of store at an address of a customer's key.
func (s *Server) keyStore(address string) (keyStore, error) {
	scheme, _, _ := strings.Cut(address, ":")
	switch strings.ToLower(scheme) {
	case "https":
		return keyStore{azure.ParseKey, s.openVaultKey}, nil
	}
	if stores.Knows(address) {
		return keyStore{stores.ParseKey, s.openStoreKey}, nil
	}
	return keyStore{}, fmt.Errorf("no key store is known at %.200q; the known ones are %s", address, stores.Known())
}

// parseKey reads which key a customer means, whatever store it is in.
func (s *Server) parseKey(address, name, version string) (visage.KeyRef, error) {
	store, err := s.keyStore(address)
	if err != nil {
		return visage.KeyRef{}, err
	}
	key, err := store.parse(address, name, version)
	if err == nil {
		err = key.Check()
	}
	if err != nil {
		return visage.KeyRef{}, err
	}
	return key, nil
}

// openKey opens a customer's key, whatever store it is in, as one principal.
func (s *Server) openKey(
	l *layers, by connections, key visage.KeyRef, as visage.PrincipalID,
) (keysource.Source, error) {
	store, err := s.keyStore(key.Vault)
	if err != nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The key %s cannot be used: %v.", key,
			err)
	}
	src, err := store.open(l, by, key, as)
	if err != nil {
		return nil, err
	}
	return s.calls.Observe(s.kindOf(key), key, s.keyStores.Set().Require(key) == nil, src), nil
}

// place is where the server's store lies. The switch over all engines is that of sealed.Open, since nothing else can
// open one.
func (c Config) place() (sealed.Config, error) {
	return c.epochKeys(sealed.Config{
		Engine: cmp.Or(c.Engine, sealed.Pebble(c.dataDir())), PasswordFile: c.StorePasswordFile,
		KeyDir: c.keysDir(), AnchorDir: c.anchorDir(), Logger: c.Logger, Reserve: uint64(c.DiskReserve),
	})
}

// The forms of Config.EpochKeys.
const (
	epochKeysFolder = "file://"
	epochKeysForms  = "file:///FOLDER, " + hashivault.KVForm + ", or postgres://role@host/database"
)

// epochKeys says in cfg where the epoch keys lie. The address was checked before.
func (c Config) epochKeys(cfg sealed.Config) (sealed.Config, error) {
	dir, local := strings.CutPrefix(c.EpochKeys, epochKeysFolder)
	switch {
	case local:
		cfg.KeyDir = dir
	case isDatabase(c.EpochKeys):
		cfg.EpochKeys, cfg.EpochKeysPasswordFile = c.EpochKeys, c.EpochKeysSecretFile
	case c.EpochKeys != "":
		vault, err := hashivault.OpenKV(c.EpochKeys, c.EpochKeysSecretFile)
		if err != nil {
			return cfg, err
		}
		cfg.EpochVault = vault
	}
	return cfg, nil
}

// checkEpochKeys reports what is wrong with the place of the epoch keys. Nothing is connected to.
func (c Config) checkEpochKeys() error {
	dir, local := strings.CutPrefix(c.EpochKeys, epochKeysFolder)
	switch {
	case c.EpochKeys == "":
		return nil
	case local && !filepath.IsAbs(dir):
		return errors.New("after file:// an absolute path is needed, such as file:///srv/visage-keys")
	case local:
		return nil
	case isDatabase(c.EpochKeys):
		return sealed.CheckDatabase(c.EpochKeys)
	case !strings.HasPrefix(strings.ToLower(c.EpochKeys), hashivault.Scheme+"://"):
		return errors.New("must be one of " + epochKeysForms) // it is not quoted: it may hold a secret
	case c.EpochKeysSecretFile == "":
		return errors.New("a KV engine needs epoch-keys-secret-file, with the secret of the login")
	}
	return hashivault.CheckKV(c.EpochKeys)
}

func isDatabase(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// onDatabase reports whether the store lies in a PostgreSQL database.
func (c Config) onDatabase() bool {
	return isDatabase(c.Engine)
}

// isNew reports whether no server has used the folder of data yet. A store that lies elsewhere is never known to be
// new before it is open.
func (c Config) isNew() (bool, error) {
	if c.Engine != "" {
		return false, nil
	}
	return isEmpty(c.dataDir())
}
