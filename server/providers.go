package server

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/env"
	"github.com/visage-face/visage/keysource/file"
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
		return protector{"file", true, func(create bool) (keysource.Source, error) {
			return openKeyFile(at, c.dataDir(), create)
		}}, nil
	case "env":
		return protector{"env", false, opened(env.New(at))}, nil
	case "passphrase-env":
		return protector{"passphrase", false, opened(passphrase.FromEnv(at))}, nil
	case "passphrase-file":
		return protector{"passphrase", false, opened(passphrase.FromFile(at))}, nil
	case "tpm":
		source, err := tpm.New(at)
		if err != nil {
			return protector{}, err
		}
		return protector{"tpm", false, opened(source)}, nil
	}
	if stores.Knows(entry) {
		return c.storedProtector(entry)
	}
	return protector{}, fmt.Errorf("%q is none of file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH, "+
		"tpm:DEVICE, nor the identifier of a key in a key store", entry)
}

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

// engine is the storage engine of the server. The switch over all engines is that of sealed.Open, since nothing else
// can open one.
func (c Config) engine() string { return sealed.Pebble(c.dataDir()) }
