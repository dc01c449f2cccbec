package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console/internal/passkey"
	"github.com/visage-face/visage/identity"
)

func (c *Console) passkeyRoutes() []route {
	return []route{
		page(newPasskeyPath, freshly(signedIn), c.newPasskey),
		send(newPasskeyPath, freshly(signedIn), c.registerPasskey),
		send(newPasskeyPath+"/options", freshly(signedIn), c.newPasskeyOptions),
		send(accountPath+"/passkeys", freshly(signedIn), c.removeOwnPasskey),
	}
}

const (
	accountPath    = prefix + "/account"
	newPasskeyPath = accountPath + "/newpasskey"
)

// refuseFlow refuses an answer whose flow is unknown: it was answered before, took too long, or was begun again.
func refuseFlow() error {
	return visage.Refuse(visage.Unauthenticated, "SignInExpired",
		"This sign-in has taken too long, or was finished or begun again in another window: begin it again.")
}

// refusePasskey refuses the answer of an authenticator. Its reason goes to the log only: it would help to forge one.
func (c *Console) refusePasskey(v *visit, err error) error {
	if !errors.Is(err, passkey.ErrInvalid) {
		return err
	}
	c.log.InfoContext(v.Context(), "passkey refused", "request_id", v.Caller().RequestID, "err", err)
	return visage.Refuse(visage.Unauthenticated, "PasskeyRefused",
		"The passkey was not accepted: it is not registered here, or its answer does not fit. Try again, or use "+
			"another way to sign in.")
}

// asked answers with what an authenticator is asked, for the script of the page.
func (v *visit) asked(options []byte, f flow) *view {
	return &view{raw: options, header: http.Header{
		"Content-Type": {"application/json"}, "Set-Cookie": {v.begin(f)},
	}}
}

// passkeyOptions begins to sign in with a passkey.
func (c *Console) passkeyOptions(v *visit) (*view, error) {
	if c.site == nil {
		return nil, refuseUnknownPage()
	}
	options, ceremony, err := c.site.BeginProof()
	if err != nil {
		return nil, err
	}
	return v.asked(options, flow{isPasskey: true, ceremony: ceremony, to: local(v.field("to"))}), nil
}

// passkeyAnswer signs in with what an authenticator said.
func (c *Console) passkeyAnswer(v *visit) (*view, error) {
	f, found := v.resume()
	found = found && f.isPasskey && f.session == ""
	to := local(v.field("to"))
	// Failures count for the passkey that is claimed: those of others at the same address are not hindered.
	err := v.SignInBy(passkeyWay, passkey.Claimed([]byte(v.field("credential"))), func() error {
		who, err := c.provePasskey(v, f, found)
		if _, refused := errors.AsType[*visage.Refusal](err); refused {
			if failed := c.cfg.Directory.RefuseSignIn(v.Context(), identity.ByPasskey, who.ID, err); failed != nil {
				return failed
			}
		}
		if err != nil {
			return err
		}
		return v.enterAs(who, "", identity.ByPasskey, time.Now())
	})
	if err == nil {
		return v.enter(to), nil
	}
	said, refused := v.explain(err)
	if !refused {
		return nil, err
	}
	return v.signInFailed(said, to), nil
}

// provePasskey returns who has shown a passkey.
func (c *Console) provePasskey(v *visit, f flow, found bool) (identity.Principal, error) {
	if !found {
		return identity.Principal{}, refuseFlow()
	}
	var who identity.Principal
	_, id, credential, err := c.site.Prove(f.ceremony, []byte(v.field("credential")),
		func(id []byte) (passkey.Person, bool) {
			p, key, found := c.cfg.Directory.LookupPasskey(id)
			who = p
			return passkey.Person{ID: p.ID, Name: p.Name, Credential: key.Credential}, found
		})
	if err != nil {
		return who, c.refusePasskey(v, err)
	}
	return who, c.cfg.Directory.UsePasskey(v.Context(), who.ID, id, credential)
}

// mayRegister refuses who cannot have passkeys.
func (c *Console) mayRegister(v *visit) (identity.Principal, error) {
	p, err := c.cfg.Directory.Principal(v.session.Principal)
	if err != nil {
		return p, err
	}
	if p.Kind != identity.Person || c.site == nil {
		return p, visage.Refuse(visage.Conflict, "PasskeysNotSupported",
			"Passkeys are for people, and for a service that is reached by a host name: sign in as a person, at the "+
				"service's name.")
	}
	return p, nil
}

func (c *Console) newPasskey(v *visit) (*view, error) {
	p, err := c.mayRegister(v)
	if err != nil {
		return nil, err
	}
	return v.newPasskeyPage(p), nil
}

// newPasskeyData is the page that registers a passkey.
type newPasskeyData struct {
	Register passkeyForm
	First    bool // the person has none yet
}

func (v *visit) newPasskeyPage(p identity.Principal) *view {
	f := v.form(newPasskeyPath, v.text("passkeys.register"), &field{
		Name: "name", Kind: "text", Label: v.text("people.name"), Required: true, Max: 128,
		Hint: v.text("passkeys.name.hint"),
	}, &field{Name: "credential", Kind: "hidden"})
	f.Icon, f.Cancel = "fingerprint", accountPath
	w := v.page("newpasskey", v.text("passkeys.register"), &newPasskeyData{
		passkeyForm{f, "create", newPasskeyPath + "/options"}, len(p.Passkeys) == 0,
	})
	w.crumbs = []link{{v.text("account.title"), accountPath}}
	return w
}

// passkeyPerson is a person as authenticators know them.
func passkeyPerson(p identity.Principal) passkey.Person {
	person := passkey.Person{ID: p.ID, Name: p.Name}
	for _, k := range p.Passkeys {
		person.Known = append(person.Known, k.ID)
	}
	return person
}

func (c *Console) newPasskeyOptions(v *visit) (*view, error) {
	p, err := c.mayRegister(v)
	if err != nil {
		return nil, err
	}
	options, ceremony, err := c.site.BeginRegistration(passkeyPerson(p))
	if err != nil {
		return nil, err
	}
	return v.asked(options, flow{isPasskey: true, ceremony: ceremony, session: v.session.ID}), nil
}

func (c *Console) registerPasskey(v *visit) (*view, error) {
	p, err := c.mayRegister(v)
	if err != nil {
		return nil, err
	}
	f, found := v.resume()
	if !found || f.session != v.session.ID {
		err = refuseFlow()
	} else {
		var id, credential []byte
		answer := []byte(v.field("credential"))
		if id, credential, err = c.site.Register(passkeyPerson(p), f.ceremony, answer); err != nil {
			err = c.refusePasskey(v, err)
		} else {
			err = c.cfg.Directory.AddPasskey(v.Context(), p.ID,
				identity.Passkey{ID: id, Name: v.field("name"), Credential: credential})
		}
	}
	if err == nil {
		return v.done(accountPath, "passkeys.registered"), nil
	}
	w := v.newPasskeyPage(p)
	register := w.data.(*newPasskeyData).Register.form
	if !v.refused(register, err, map[string]string{"InvalidPasskey": "name"}) {
		return nil, err
	}
	if register.Error.Status == http.StatusUnauthorized { // of the passkey: the person is still signed in
		register.Error.Status = http.StatusUnprocessableEntity
	}
	return v.again(w, register.Error), nil
}

func (c *Console) removeOwnPasskey(v *visit) (*view, error) {
	err := c.cfg.Directory.RemovePasskey(v.Context(), v.session.Principal, decodeID(v.field("passkey")))
	if err != nil {
		return nil, err
	}
	return v.done(accountPath, "passkeys.removed"), nil
}
