// Package passkey registers WebAuthn credentials of people, and lets people prove with them who they are (Web
// Authentication Level 3). It keeps nothing: its caller keeps a ceremony between its two steps, and the credentials.
package passkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// ErrInvalid says that an answer of an authenticator is not one to this ceremony, or proves nothing. It wraps the
// reason, which is for the log.
var ErrInvalid = errors.New("the answer of the authenticator is not valid")

// ErrNoName says that an origin has no host name, which passkeys are bound to.
var ErrNoName = errors.New("passkeys need a host name in place of an address")

// Timeout is how long a ceremony may take.
const Timeout = 5 * time.Minute

// Site is what passkeys are bound to: an origin. It is safe for concurrent use.
type Site struct{ web *webauthn.WebAuthn }

// New returns the site of an origin, such as "https://faces.example.org:8443". The error wraps ErrNoName for one whose
// host is an IP address.
func New(origin, name string) (*Site, error) {
	u, err := url.Parse(origin)
	if err != nil {
		return nil, fmt.Errorf("passkeys of %q: %w", origin, err)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return nil, fmt.Errorf("passkeys of %q: %w", origin, ErrNoName)
	}
	limit := webauthn.TimeoutConfig{Enforce: true, Timeout: Timeout, TimeoutUVD: Timeout}
	web, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: name, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			// The passkey is the whole proof: it names its person, and its device has checked that it is them.
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: limit, Registration: limit},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys of %q: %w", origin, err)
	}
	return &Site{web}, nil
}

// Person is somebody who has passkeys, or is about to.
type Person struct {
	ID    string // at most 64 bytes, and nothing that says who it is: authenticators store it
	Name  string // that authenticators show
	Known [][]byte
	// Credential is the passkey that the person has shown, as Register or SignIn returned it; only for SignIn.
	Credential []byte
}

// Ceremony is the first half of a registration or of a proof. It is for one answer.
type Ceremony struct{ data webauthn.SessionData }

// BeginRegistration asks an authenticator for a passkey that it has not given the person yet. options is for
// navigator.credentials.create, as JSON.
func (s *Site) BeginRegistration(p Person) (options []byte, c Ceremony, err error) {
	var known []protocol.CredentialDescriptor
	for _, id := range p.Known {
		known = append(known, protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: id})
	}
	asked, data, err := s.web.BeginRegistration(user{Person: p}, webauthn.WithExclusions(known))
	if err != nil {
		return nil, Ceremony{}, fmt.Errorf("begin to register a passkey: %w", err)
	}
	if options, err = json.Marshal(asked); err != nil {
		return nil, Ceremony{}, fmt.Errorf("begin to register a passkey: %w", err)
	}
	return options, Ceremony{*data}, nil
}

// Register returns the id of a new passkey, and the credential to keep, from the answer of an authenticator. The error
// wraps ErrInvalid if it is none.
func (s *Site) Register(p Person, c Ceremony, answer []byte) (id, credential []byte, err error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return nil, nil, invalid(err)
	}
	made, err := s.web.CreateCredential(user{Person: p}, c.data, parsed)
	if err != nil {
		return nil, nil, invalid(err)
	}
	if credential, err = encode(made); err != nil {
		return nil, nil, err
	}
	return made.ID, credential, nil
}

// BeginProof asks an authenticator for any passkey that it has for the site. options is for navigator.credentials.get,
// as JSON.
func (s *Site) BeginProof() (options []byte, c Ceremony, err error) {
	asked, data, err := s.web.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, Ceremony{}, fmt.Errorf("begin to prove a passkey: %w", err)
	}
	if options, err = json.Marshal(asked); err != nil {
		return nil, Ceremony{}, fmt.Errorf("begin to prove a passkey: %w", err)
	}
	return options, Ceremony{*data}, nil
}

// Prove returns the person who has shown a passkey, its id, and the credential to keep in place of the one before. find
// returns the person who has a passkey, with its credential. The error wraps ErrInvalid if nothing is proved: also when
// the passkey's counter shows that there is a copy of it.
func (s *Site) Prove(
	c Ceremony, answer []byte, find func(id []byte) (Person, bool),
) (p Person, id, credential []byte, err error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Person{}, nil, nil, invalid(err)
	}
	owner := func(id, handle []byte) (webauthn.User, error) {
		found, ok := find(id)
		if !ok || found.ID != string(handle) {
			return nil, errors.New("nobody has this passkey")
		}
		p = found
		return newUser(found)
	}
	_, used, err := s.web.ValidatePasskeyLogin(owner, c.data, parsed)
	if err != nil {
		return Person{}, nil, nil, invalid(err)
	}
	if used.Authenticator.CloneWarning {
		return Person{}, nil, nil, invalid(errors.New("the counter of the passkey has gone back"))
	}
	if credential, err = encode(used); err != nil {
		return Person{}, nil, nil, err
	}
	return p, used.ID, credential, nil
}

// invalid is a failure of an answer. The library's errors have their details apart.
func invalid(err error) error {
	if details, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Errorf("%w: %s: %s", ErrInvalid, details.Details, details.DevInfo)
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// encode writes what is kept of a credential. The attestation is not: nothing asks for it.
func encode(c *webauthn.Credential) ([]byte, error) {
	kept := *c
	kept.Attestation = webauthn.CredentialAttestation{}
	b, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("encode passkey: %w", err)
	}
	return b, nil
}

// user is a Person as the library has it.
type user struct {
	Person
	credentials []webauthn.Credential
}

func newUser(p Person) (user, error) {
	var c webauthn.Credential
	if err := json.Unmarshal(p.Credential, &c); err != nil {
		return user{}, fmt.Errorf("decode passkey: %w", err)
	}
	return user{p, []webauthn.Credential{c}}, nil
}

func (u user) WebAuthnID() []byte                         { return []byte(u.ID) }
func (u user) WebAuthnName() string                       { return u.Name }
func (u user) WebAuthnDisplayName() string                { return u.Name }
func (u user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

// Claimed returns the id of the passkey that an answer claims to be from, as the answer has it; empty: it has none.
func Claimed(answer []byte) string {
	var claimed struct{ ID string }
	if json.Unmarshal(answer, &claimed) != nil {
		return ""
	}
	return claimed.ID
}
