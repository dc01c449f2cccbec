// Package stores is the stores of customers' keys, beside key vaults, that an operator has configured. It reads their
// descriptions, and opens keys in them as the identities of resources. It alone knows all kinds of them.
package stores

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// Store is a store of customers' keys outside this instance, and the way in which the identities of resources log in to
// it.
type Store struct {
	// Address is that of the store, as the keyVaultUri of resources has it:
	// hashivault://HOST[:PORT]/MOUNT[?namespace=NAME], awskms://REGION/ACCOUNT,
	// gcpkms://projects/PROJECT/locations/LOCATION/keyRings/KEYRING, pkcs11:token=LABEL,
	// or kmip://HOST[:PORT].
	Address string `json:"address"`
	// Endpoint and LoginEndpoint are the URLs of the services of a cloud, for use of the store and for logins,
	// https://HOST[:PORT]. Default: the public ones. For gcpkms, Endpoint is that of both, and {service} in it stands
	// for the name of each service.
	Endpoint      string `json:"endpoint,omitempty"`
	LoginEndpoint string `json:"loginEndpoint,omitempty"`
	// CAFile holds the authorities that may sign the store's certificate, in PEM. Default: the system's. It is read
	// again when it has changed.
	CAFile string `json:"caFile,omitempty"`
	Login  Login  `json:"login"`
	// Resources are the resources that may use the store: the management paths of subscriptions, resource groups or
	// resources, or Everybody alone. Default: all where the store tells resources apart; elsewhere those that have a
	// key in it already, with that key. See RequireResources.
	Resources []string `json:"resources,omitempty"`
	// Helper is the process that reaches the store. For stores whose clients run in a process of their own.
	Helper Helper `json:"helper,omitzero"`

	// set by open
	kind    kind
	roots   *x509.CertPool // of CAFile; nil: the system's
	ca      *answer.File   // CAFile, when it was read; nil: there is none
	process *helper.Process
	known   *remembered
}

// Helper says what the process that reaches a store may use besides the libraries of the system.
type Helper struct {
	// Module is the PKCS#11 library of the token, by its absolute path, and Parameters what it is initialised with;
	// few want any. For pkcs11.
	Module     string `json:"module,omitempty"`
	Parameters string `json:"parameters,omitempty"`
	// AllowDestroyable permits keys that applications may destroy, for tokens that are backed up. For pkcs11.
	AllowDestroyable bool `json:"allowDestroyable,omitempty"`
	// AllowUnmarked permits keys of which the server does not say that they cannot leave it, for servers without the
	// attributes Sensitive and Extractable. For kmip.
	AllowUnmarked bool `json:"allowUnmarked,omitempty"`
	// Read and Write are files and folders, by their absolute paths.
	Read  []string `json:"read,omitempty"`
	Write []string `json:"write,omitempty"`
	// Hosts are HOST:PORT. The system can hold a process to ports alone.
	Hosts       []string          `json:"hosts,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
}

// Login is a way to log in to a store: by federation as the identity of the resource, which needs no secret and which
// the store can tell from the identities of other resources; or as one application for all resources.
type Login struct {
	Method string `json:"method"` // one that the kind of store has
	// Mount is where the method is mounted in the store. Default: the method's name. For jwt and approle.
	Mount string `json:"mount,omitempty"`
	// Role is the role that an identity logs in to; {principal} stands for the object id of the resource's identity.
	// Default: "visage-{principal}". For jwt and web-identity.
	Role string `json:"role,omitempty"`
	// Audience is the claim "aud" of the tokens that prove an identity, which must not be an audience of this instance.
	// Default: the address of the store; for workload-identity, the provider below https://iam.googleapis.com/; for
	// federated, api://AzureADTokenExchange. For jwt, web-identity, workload-identity and federated.
	Audience string `json:"audience,omitempty"`
	RoleID   string `json:"roleId,omitempty"` // for approle
	// Tenant and ClientID name the application, or the user-assigned identity, that has a federated credential for the
	// identities. For federated.
	Tenant   string `json:"tenant,omitempty"`
	ClientID string `json:"clientId,omitempty"`
	// AccessKeyID names the access key of a user. For static.
	AccessKeyID string `json:"accessKeyId,omitempty"`
	// Provider is the OpenID provider that trusts this instance:
	// projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER. For workload-identity.
	Provider string `json:"provider,omitempty"`
	// ServiceAccount is the address of the service account that identities act as. Default: they act as themselves. For
	// workload-identity.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// SecretFile holds the secret id of approle, the token, or the secret access key of static, in its first line, or
	// the key of service-account as Google writes it. It is read for each login. For pin, it holds the PIN, and for
	// certificate, the private key, in PEM.
	SecretFile string `json:"secretFile,omitempty"`
	// CertificateFile holds the certificate that proves who asks, in PEM. It is read for each connection. For
	// certificate.
	CertificateFile string `json:"certificateFile,omitempty"`
	// Object is what a store in which all resources log in alike knows a key by: {principal} stands for the object id
	// of the resource's identity, and {name} for the name of the key. Default: "visage-{principal}-{name}", so that a
	// resource reaches no key of another. For pin and certificate.
	Object string `json:"object,omitempty"`
}

// principalMark stands for the object id of an identity in Login.Role and Login.Object, and nameMark for the name of a
// key in the latter.
const (
	principalMark = "{principal}"
	nameMark      = "{name}"
)

// kind is one kind of stores.
type kind struct {
	scheme string // of the addresses
	about  string // the form of an address, and what it is the address of, for messages
	// address returns the address of a store in its one spelling.
	address func(string) (string, error)
	// parse returns the reference of a key in the store's one spelling. Without a name, address is the identifier of
	// the key.
	parse func(address, name, version string) (visage.KeyRef, error)
	// check refuses an incomplete or contradictory description. Its address is in its one spelling.
	check func(Store) error
	// methods are the methods of login, for those who describe a store; nil: they are not known.
	methods []Method
	// needs and may are the fields that a description needs, and those that it may have, besides its login and helper.
	needs, may []string
	// library says that the helper runs a library of this machine, which the settings alone may name.
	library bool
	// federates are the methods of login by which an identity proves itself with an assertion.
	federates []string
	// host names who gets the assertions: two stores with the same one may share an audience.
	host func(Store) string
	// audience is the default of Login.Audience. Default: the address of the store.
	audience func(Store) string
	// listener is the host and port of the server that a store is reached at by TLS, whose certificate the authorities
	// of CAFile sign.
	listener func(Store) string
	// remedy returns the commands of Set.Remedy; nil: there are none.
	remedy func(s Store, key visage.KeyRef, need Need, c Customer) []string
	// revoke returns what Set.Revocation does.
	revoke func(s Store, key visage.KeyRef, c Customer) Revocation
	// connect returns what opens keys over connections of its own, which are made when they are needed.
	connect func(Store, Assert) opener
	// helped returns the helper that a store is reached through; nil: none is needed.
	helped func(Store) (helper.Config, error)
}

// opener opens a key as an identity. It calls no store.
type opener func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)

// kinds are all kinds of stores.
var kinds = []kind{vault, transit, aws, google, hsm, keyManager}

// kindOf returns the kind of the stores at an address.
func kindOf(address string) (kind, bool) {
	scheme, _, _ := strings.Cut(address, ":")
	i := slices.IndexFunc(kinds, func(k kind) bool { return strings.EqualFold(k.scheme, scheme) })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// Knows reports whether there is a kind of stores with such addresses.
func Knows(address string) bool {
	_, known := kindOf(address)
	return known
}

// Known says which addresses stores can have, for messages.
func Known() string {
	all := make([]string, len(kinds))
	for i, k := range kinds {
		all[i] = k.about
	}
	return strings.Join(all, ", ")
}

// ParseKey returns the reference of a key in its store's one spelling. Without a name, address is the identifier of the
// key.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	k, err := requireKind(address)
	if err != nil {
		return visage.KeyRef{}, err
	}
	return k.parse(address, name, version)
}

// AddressOf returns the one spelling of the address of a store.
func AddressOf(said string) (string, error) {
	k, err := requireKind(said)
	if err != nil {
		return "", err
	}
	return k.address(said)
}

// requireKind returns the kind of the stores at an address, or an error that names the known ones.
func requireKind(address string) (kind, error) {
	k, known := kindOf(address)
	if !known {
		return kind{}, fmt.Errorf("no key store is known at %.200q; the known ones are %s", address, Known())
	}
	return k, nil
}

// Assert returns a signed token that proves the identity of a resource to one audience, and when it ends.
type Assert func(
	ctx context.Context, as visage.PrincipalID, audience string,
) (token string, expires time.Time, err error)

// open checks a description, completes it, and reads its certificates.
func (s *Store) open(log *slog.Logger, memory *Memory) error {
	if err := s.complete(); err != nil {
		return err
	}
	s.known = memory.of(s.Address)
	s.roots, s.ca, s.process = nil, nil, nil
	if s.CAFile != "" {
		s.ca = answer.Watch(s.CAFile)
	}
	if s.kind.helped != nil {
		cfg, err := s.kind.helped(*s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Address, err)
		}
		cfg.Log, cfg.Memory = log, &s.known.helper
		if s.process, err = helper.New(cfg); err != nil {
			return fmt.Errorf("%s: %w", s.Address, err)
		}
	}
	s.completeAudience()
	if s.CAFile == "" {
		return nil
	}
	var err error
	if s.roots, err = answer.ReadRoots(s.CAFile); err != nil {
		return fmt.Errorf("read the authorities of key store %s: %w", s.Address, err)
	}
	return nil
}

// completeAudience fills in the default of Login.Audience.
func (s *Store) completeAudience() {
	if !s.Federates() {
		return
	}
	audience := s.Address
	if s.kind.audience != nil {
		audience = s.kind.audience(*s)
	}
	s.Login.Audience = cmp.Or(s.Login.Audience, audience)
}

// Federates reports whether identities prove themselves to the store by assertions, each as itself.
func (s Store) Federates() bool {
	k, _ := kindOf(s.Address)
	return slices.Contains(k.federates, s.Login.Method)
}

// Check refuses an incomplete or contradictory description of a store. It reads no file.
func (s Store) Check() error { return s.complete() }

// complete does what Check says, and sets the kind and the one spelling of the address.
func (s *Store) complete() (err error) {
	if s.kind, err = requireKind(s.Address); err != nil {
		return err
	}
	if s.Address, err = s.kind.address(s.Address); err != nil {
		return err
	}
	if s.kind.helped == nil && s.helped() {
		return fmt.Errorf("%s: the store is reached without a helper: leave out helper", s.Address)
	}
	if err := s.kind.check(*s); err != nil {
		return fmt.Errorf("%s: %w", s.Address, err)
	}
	if err := CheckResources(ResourcesField, s.Resources); err != nil {
		return fmt.Errorf("%s: %w", s.Address, err)
	}
	return nil
}

// roleOf returns the role that an identity logs in to.
func (l Login) roleOf(as visage.PrincipalID) string {
	return strings.ReplaceAll(cmp.Or(l.Role, "visage-"+principalMark), principalMark, string(as))
}

// requirePrincipal refuses a role that is the same for all identities.
func (l Login) requirePrincipal() error {
	if l.Role != "" && !strings.Contains(l.Role, principalMark) {
		return fmt.Errorf("the role %q is the same for all resources, so that the key of one could be used for "+
			"another: write %s into it", l.Role, principalMark)
	}
	return nil
}

// helped reports whether a description says what a helper may use, such as a library of this machine.
func (s Store) helped() bool { return !reflect.ValueOf(s.Helper).IsZero() }
