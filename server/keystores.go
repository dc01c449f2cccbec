package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
)

// KeyStore is a store of customers' keys that is no key vault, and the way in which the identities of resources log in
// to it.
type KeyStore struct {
	// Address is that of the store, as the keyVaultUri of resources has it:
	// hashivault://HOST[:PORT]/MOUNT[?namespace=NAME].
	Address string `json:"address"`
	// CAFile holds the authorities that may sign the store's certificate, in PEM. Default: the system's.
	CAFile string        `json:"caFile,omitempty"`
	Login  KeyStoreLogin `json:"login"`

	roots *x509.CertPool // of CAFile; set by open
}

// KeyStoreLogin is a way to log in to a store: by federation as the identity of the resource, which needs no secret and
// which the store can tell from the identities of other resources; or as one application for all resources.
type KeyStoreLogin struct {
	Method string `json:"method"` // "jwt", "approle" or "token"
	// Mount is where the method is mounted in the store. Default: the method's name.
	Mount string `json:"mount,omitempty"`
	// Role is the role for jwt; {principal} stands for the object id of the resource's identity. Default:
	// "visage-{principal}".
	Role string `json:"role,omitempty"`
	// Audience is the claim "aud" of the tokens for jwt, which must not be an audience of this instance. Default: the
	// address of the store.
	Audience string `json:"audience,omitempty"`
	// RoleID is that of approle.
	RoleID string `json:"roleId,omitempty"`
	// SecretFile holds the secret id of approle, or the token, in its first line. It is read for each login.
	SecretFile string `json:"secretFile,omitempty"`
}

// principalMark stands for the object id of an identity in KeyStoreLogin.Role.
const principalMark = "{principal}"

// loginPath matches mounts and roles of login methods.
var loginPath = regexp.MustCompile(`^[A-Za-z0-9_{][A-Za-z0-9_.{}-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)

// maxKeyStores is the largest file of key stores that is read, in bytes.
const maxKeyStores = 1 << 20

// ReadKeyStores reads and checks the stores in a file with a JSON array of them.
func ReadKeyStores(file string) ([]KeyStore, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the key stores: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyStores))
	if err != nil {
		return nil, fmt.Errorf("read the key stores: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var all []KeyStore
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("read the key stores in %s: %w", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the key stores in %s: there is something behind the list", file)
	}
	for _, store := range all {
		if err := store.check(); err != nil {
			return nil, fmt.Errorf("read the key stores in %s: %w", file, err)
		}
	}
	return all, nil
}

// check refuses an incomplete or contradictory description of a store.
func (k KeyStore) check() error {
	key, err := hashivault.ParseKey(k.Address, "any", "")
	if err != nil {
		return err
	}
	l := k.Login
	unused := func(fields ...string) error {
		for _, f := range fields {
			if f != "" {
				return fmt.Errorf("%s: the login %q does not use %.100q", key.Vault, l.Method, f)
			}
		}
		return nil
	}
	for _, path := range []string{l.Mount, l.Role} {
		if path != "" && !loginPath.MatchString(path) {
			return fmt.Errorf("%s: the mount and the role of a login have letters, digits, points, hyphens and "+
				"underscores; got %.100q", key.Vault, path)
		}
	}
	switch l.Method {
	case "jwt":
		if l.Role != "" && !strings.Contains(l.Role, principalMark) {
			return fmt.Errorf("%s: the role %q is the same for all resources, so that the key of one could be used "+
				"for another: write %s into it", key.Vault, l.Role, principalMark)
		}
		return unused(l.RoleID, l.SecretFile)
	case "approle":
		if l.RoleID == "" || l.SecretFile == "" {
			return fmt.Errorf("%s: the login approle needs roleId and secretFile", key.Vault)
		}
		return unused(l.Role, l.Audience)
	case "token":
		if l.SecretFile == "" {
			return fmt.Errorf("%s: the login token needs secretFile", key.Vault)
		}
		return unused(l.Role, l.Audience, l.RoleID, l.Mount)
	}
	return fmt.Errorf("%s: the login is jwt, approle or token; got %.40q", key.Vault, l.Method)
}

// openKeyStores reads the certificates of the configured stores, and returns the stores by their addresses.
func (c Config) openKeyStores() (map[string]KeyStore, error) {
	stores, all := c.KeyStores, map[string]KeyStore{}
	if c.KeyStoresFile != "" {
		read, err := ReadKeyStores(c.KeyStoresFile)
		if err != nil {
			return nil, err
		}
		stores = slices.Concat(stores, read)
	}
	for _, store := range stores {
		key, err := hashivault.ParseKey(store.Address, "any", "")
		if err != nil {
			return nil, err
		}
		if _, twice := all[key.Vault]; twice {
			return nil, fmt.Errorf("the key store %s is configured twice", key.Vault)
		}
		store.Address = key.Vault
		if store.Login.Method == "jwt" && store.Login.Audience == "" {
			store.Login.Audience = key.Vault
		}
		if store.CAFile != "" {
			raw, err := os.ReadFile(store.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read the authorities of key store %s: %w", key.Vault, err)
			}
			store.roots = x509.NewCertPool()
			if !store.roots.AppendCertsFromPEM(raw) {
				return nil, fmt.Errorf("read the authorities of key store %s: %s has no certificate in PEM", key.Vault,
					store.CAFile)
			}
		}
		all[key.Vault] = store
	}
	return all, nil
}

// checkAudiences refuses audiences of the tokens for key stores with which the operator of a store could use them
// elsewhere: in this instance, or in a store on another host.
func (s *Server) checkAudiences() error {
	hosts := map[string]string{}
	for _, address := range slices.Sorted(maps.Keys(s.keyStores)) {
		login := s.keyStores[address].Login
		if login.Method != "jwt" {
			continue
		}
		_, host, _ := strings.Cut(address, "://")
		host, _, _ = strings.Cut(host, "/")
		audience := strings.TrimSuffix(strings.ToLower(login.Audience), "/")
		if s.isAudience(audience) {
			return fmt.Errorf("key store %s: the audience %q is one of this instance: choose another", address,
				login.Audience)
		}
		if other := hosts[audience]; other != "" && other != host {
			return fmt.Errorf("key store %s: the audience %q is also that of a store on %s: give each its own", address,
				login.Audience, other)
		}
		hosts[audience] = host
	}
	return nil
}

// configuredStore returns the configured store that a key is in.
func (s *Server) configuredStore(key visage.KeyRef) (KeyStore, error) {
	store, found := s.keyStores[key.Vault]
	if !found {
		return KeyStore{}, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
			"This instance cannot use the key store %s: the operator has not configured it.", key.Vault)
	}
	return store, nil
}

// transitOnce returns a function that calls connect once for each store.
func (s *Server) transitOnce(connect func(KeyStore) *hashivault.Servers) func(KeyStore) *hashivault.Servers {
	made := map[string]func() *hashivault.Servers{}
	for address, store := range s.keyStores {
		made[address] = sync.OnceValue(func() *hashivault.Servers { return connect(store) })
	}
	return func(of KeyStore) *hashivault.Servers { return made[of.Address]() }
}

// openTransitKey opens a key in a transit engine, as the identity of a resource.
func (s *Server) openTransitKey(
	l *layers, by connections, key visage.KeyRef, as visage.PrincipalID,
) (keysource.Source, error) {
	store, err := s.configuredStore(key)
	if err != nil {
		return nil, err
	}
	src, err := by.transit(store).Open(key, store.Login.login(l, as))
	if err != nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The key %s cannot be used: %v.", key,
			err)
	}
	return src, nil
}

// login is the login of an identity.
func (k KeyStoreLogin) login(l *layers, as visage.PrincipalID) hashivault.Login {
	mount := cmp.Or(k.Mount, k.Method)
	switch k.Method {
	case "approle":
		return hashivault.AppRole(mount, k.RoleID, k.SecretFile)
	case "token":
		return hashivault.Token(k.SecretFile)
	}
	role := strings.ReplaceAll(cmp.Or(k.Role, "visage-"+principalMark), principalMark, string(as))
	return hashivault.JWT(mount, role, func(ctx context.Context) (string, time.Time, error) {
		token, expires, err := l.identities.Assertion(ctx, string(as), k.Audience)
		if isMissing(err) {
			err = fmt.Errorf("%w: %w", keysource.ErrDenied, err)
		}
		return token, expires, err
	})
}
