package stores

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/pkcs11"
)

// hsm is a token of a PKCS#11 library, such as a hardware security module.
var hsm = kind{
	scheme:  pkcs11.Scheme,
	about:   "pkcs11:token=LABEL, for hardware security modules",
	address: pkcs11.ParseAddress,
	parse:   pkcs11.ParseKey,
	check:   checkToken,
	methods: tokenMethods,
	library: true,
	remedy:  tokenRemedy,
	revoke:  tokenRevocation,
	connect: func(s Store, _ Assert) opener { return helped(s, pkcs11.Label) },
	helped:  tokenHelper,
}

var tokenMethods = []Method{{Name: "pin", Needs: []string{"secretFile"}, May: []string{"object"}}}

func checkToken(s Store) error {
	if s.CAFile != "" || s.Endpoint != "" || s.LoginEndpoint != "" {
		return fmt.Errorf("a token has no certificates and no endpoints: leave out caFile, endpoint and loginEndpoint")
	}
	if s.Helper.AllowUnmarked {
		return errors.New("helper.allowUnmarked is for KMIP servers: a token has the attributes of its keys")
	}
	if !filepath.IsAbs(s.Helper.Module) {
		return fmt.Errorf("helper.module is the PKCS#11 library, by its absolute path; got %q", s.Helper.Module)
	}
	if _, err := s.Helper.confinement(); err != nil {
		return err
	}
	if err := s.Login.checkObject(); err != nil {
		return err
	}
	return s.Login.usesOf(tokenMethods)
}

func tokenHelper(s Store) (helper.Config, error) {
	confinement, err := s.Helper.confinement()
	if err != nil {
		return helper.Config{}, err
	}
	confinement.Read = append([]string{s.Helper.Module}, confinement.Read...)
	settings, err := json.Marshal(pkcs11.Config{
		Address: s.Address, Module: s.Helper.Module, Parameters: s.Helper.Parameters,
		Destroyable: s.Helper.AllowDestroyable,
	})
	return helper.Config{
		Kind: pkcs11.Scheme, Settings: settings, Confinement: confinement,
		Files:  map[string]string{pkcs11.PIN: s.Login.SecretFile},
		Hidden: []string{s.Helper.Parameters},
	}, err
}

// token is one in the helper.
type token struct{ *pkcs11.Token }

// Open implements helper.Store.
func (t token) Open(key helper.Key) (keysource.Source, error) {
	return t.Token.Open(key.URI, key.Object, key.Version)
}

func openToken(settings json.RawMessage, service helper.Service) (helper.Store, error) {
	var cfg pkcs11.Config
	if err := json.Unmarshal(settings, &cfg); err != nil {
		return nil, fmt.Errorf("read the settings of the token: %w", err)
	}
	t, err := pkcs11.Load(cfg, service)
	if err != nil {
		return nil, err
	}
	return token{t}, nil
}
