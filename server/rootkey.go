package server

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/env"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/keysource/passphrase"
	"github.com/visage-face/visage/sealed"
)

// rootKey is one entry of Config.RootKeys.
type rootKey struct {
	kind string
	at   string // a path or the name of a variable
}

// The kinds of root keys, as they are written in settings and in the instance document.
const (
	kindFile           = "file"
	kindEnv            = "env"
	kindPassphraseEnv  = "passphrase-env"
	kindPassphraseFile = "passphrase-file"
)

func parseRootKey(s string) (rootKey, error) {
	kind, at, found := strings.Cut(s, ":")
	switch kind {
	case kindFile, kindEnv, kindPassphraseEnv, kindPassphraseFile:
		if found && at != "" {
			return rootKey{kind, at}, nil
		}
	}
	return rootKey{}, fmt.Errorf("%q is none of file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH", s)
}

// protectors turns Config.RootKeys into what seals the instance root. On the first start of an instance a key file that
// does not exist is made; later it is not: a new key would not open the old data, and would hide that the old one is
// gone.
func (c Config) protectors(first bool) ([]sealed.Protector, error) {
	var protectors []sealed.Protector
	for _, text := range c.RootKeys {
		k, err := parseRootKey(text)
		if err != nil {
			return nil, err
		}
		source, err := k.open(c.dataDir(), first)
		if err != nil {
			return nil, fmt.Errorf("root key %s: %w", text, err)
		}
		// A name is the kind, not the place: a key file that was moved is the same protector. A second one of a kind is
		// told apart by its number.
		name, nth := k.protector(), 1
		for slices.ContainsFunc(protectors, func(p sealed.Protector) bool { return p.Name == name }) {
			nth++
			name = fmt.Sprintf("%s %d", k.protector(), nth)
		}
		protectors = append(protectors, sealed.Protector{
			Name:    name,
			Kind:    k.protector(),
			Exposed: k.kind == kindFile, // whoever copies the disk has the key beside what it opens
			Source:  source,
		})
	}
	return protectors, nil
}

// protector is what the instance calls this sort of protector: where a passphrase is read from may change.
func (k rootKey) protector() string {
	if k.kind == kindPassphraseEnv || k.kind == kindPassphraseFile {
		return "passphrase"
	}
	return k.kind
}

func (k rootKey) open(dataDir string, create bool) (keysource.Source, error) {
	switch k.kind {
	case kindFile:
		src, err := file.New(k.at, dataDir)
		if err != nil {
			return nil, err
		}
		if create {
			if err := src.Create(); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		return src, nil
	case kindEnv:
		return env.New(k.at), nil
	case kindPassphraseEnv:
		return passphrase.FromEnv(k.at), nil
	case kindPassphraseFile:
		return passphrase.FromFile(k.at), nil
	}
	return nil, fmt.Errorf("unknown kind %q", k.kind)
}
