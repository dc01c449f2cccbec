package console

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console/internal/openid"
	"github.com/visage-face/visage/identity"
)

// openIDAnswer is where issuers send browsers back to; the id of the issuer follows.
const openIDAnswer = signInPath + "/openid/answer"

// signInIssuer is an external issuer with which people sign in.
type signInIssuer struct {
	*openid.Issuer

	id   string // in paths
	host string // for people
}

// newSignInIssuer makes an issuer. Each has an address of its own for its answers, so that the answer of one is never
// taken for another's (RFC 9700 §4.4).
func newSignInIssuer(i Issuer, origin string) *signInIssuer {
	id := issuerID(i.URL)
	host := i.URL
	if u, err := url.Parse(i.URL); err == nil {
		host = u.Host
	}
	return &signInIssuer{openid.New(openid.Config{
		URL: i.URL, ClientID: i.ClientID, Secret: i.Secret, Redirect: origin + openIDAnswer + "/" + id,
		Client: i.Client,
	}), id, host}
}

// issuerID is an issuer in paths.
func issuerID(issuer string) string {
	hash := sha256.Sum256([]byte(issuer))
	return hex.EncodeToString(hash[:4])
}

// issuerByID finds an issuer by its id in paths.
func (c *Console) issuerByID(id string) *signInIssuer {
	at := slices.IndexFunc(c.issuersForSignIn, func(i *signInIssuer) bool { return i.id == id })
	if at < 0 {
		return nil
	}
	return c.issuersForSignIn[at]
}

// proofForm proves again who a person is, with an issuer.
func (c *Console) proofForm(l *language, i *signInIssuer, to string) *form {
	return &form{
		Action: signInPath + "/openid/begin", Style: "plain", Icon: "log-in",
		Submit: l.text("signin.openid.use", i.host),
		Fields: []*field{
			{Name: "to", Kind: "hidden", Value: to}, {Name: "issuer", Kind: "hidden", Value: i.id},
			{Name: "fresh", Kind: "hidden", Value: "yes"},
		},
	}
}

// beginOpenID leads to an issuer. It is a page, and no redirection: the policy of the pages does not let a form lead to
// another site.
func (c *Console) beginOpenID(v *visit) (*view, error) {
	issuer := c.issuerByID(v.field("issuer"))
	if issuer == nil {
		return nil, refuseUnknownPage()
	}
	to := local(v.field("to"))
	address, begun, err := issuer.Begin(v.Context(), v.checked("fresh"))
	if err != nil {
		said, refused := v.explain(c.refuseOpenID(v, issuer, "", err))
		if !refused {
			return nil, err
		}
		return v.signInFailed(said, to), nil
	}
	w := v.onward(address, v.text("signin.openid.onward", issuer.host))
	w.header.Set("Set-Cookie", v.begin(flow{issuer: issuer, openid: begun, to: to}))
	return w, nil
}

// onward shows a page that leads to another by itself.
func (v *visit) onward(address, text string) *view {
	w := v.page("onward", v.text("signin.title"), link{text, address})
	w.header = http.Header{"Refresh": {"0; url=" + address}}
	return w
}

// refuseOpenID turns a failure of an issuer into a refusal, and records it. The reason is for the log.
func (c *Console) refuseOpenID(v *visit, issuer *signInIssuer, principal string, err error) error {
	var refusal *visage.Refusal
	switch {
	case errors.Is(err, openid.ErrUnavailable):
		refusal = visage.Refuse(visage.Unavailable, "IssuerUnavailable",
			"The issuer %s does not answer, or answers with what is not usable: try again later, or use another way "+
				"to sign in.", issuer.URL())
	case errors.Is(err, openid.ErrRefused):
		refusal = visage.Refuse(visage.Unauthenticated, "IssuerRefused",
			"The issuer %s did not let you in, or you have cancelled: try again, or ask those who run the issuer.",
			issuer.URL())
	case errors.Is(err, openid.ErrStale):
		refusal = visage.Refuse(visage.Unauthenticated, "ProofNotFresh",
			"The issuer %s did not ask you to sign in again, so this is no fresh proof: use another way to sign in.",
			issuer.URL())
	case errors.Is(err, openid.ErrInvalid):
		refusal = visage.Refuse(visage.Unauthenticated, "IssuerAnswerInvalid",
			"The answer of the issuer %s is not valid: begin to sign in again.", issuer.URL())
	default:
		return err
	}
	c.log.InfoContext(v.Context(), "sign-in with an issuer failed", "request_id", v.Caller().RequestID,
		"issuer", issuer.URL(), "err", err)
	if failed := c.cfg.Directory.RefuseSignIn(v.Context(), identity.ByOpenID, principal, refusal); failed != nil {
		return failed
	}
	return refusal
}

// openIDAnswer takes the answer of an issuer. It comes from another site, so that the browser does not send the cookie
// of a session: the next page, which this one leads to, has it.
func (c *Console) openIDAnswer(v *visit) (*view, error) {
	f, found := v.resume()
	issuer := c.issuerByID(v.Path("issuer"))
	if !found || f.issuer == nil || f.issuer != issuer || f.proof != nil {
		// This counts as no failed sign-in: a page of another site can send the browser here as often as it likes.
		said, _ := v.explain(refuseFlow())
		return v.signInFailed(said, f.to), nil
	}
	err := v.SignInBy(openIDWay, issuer.id, func() error {
		proof, err := issuer.Finish(v.Context(), f.openid, v.Queries())
		if err != nil {
			return c.refuseOpenID(v, issuer, "", err)
		}
		f.proof = &proof
		return nil
	})
	if err != nil {
		said, refused := v.explain(err)
		if !refused {
			return nil, err
		}
		return v.signInFailed(said, f.to), nil
	}
	w := v.onward(signInPath+"/openid/done", v.text("signin.openid.back"))
	w.header.Set("Set-Cookie", v.begin(f))
	return w, nil
}

// strangerData is the page for somebody whom an issuer vouches for and nobody here knows.
type strangerData struct {
	Name  string
	Facts []fact
}

// openIDDone opens a session for the person whom an issuer has vouched for.
func (c *Console) openIDDone(v *visit) (*view, error) {
	f, found := v.resume()
	if !found || f.proof == nil {
		said, _ := v.explain(refuseFlow())
		return v.signInFailed(said, prefix), nil
	}
	who, known := c.cfg.Directory.LookupVouched(f.proof.Issuer, f.proof.Subject, f.proof.Groups)
	if !known {
		refusal := visage.Refuse(visage.Denied, "PersonUnknown",
			"Nobody here is known under the identity that the issuer vouches for: ask an operator to add it.")
		if err := c.cfg.Directory.RefuseSignIn(v.Context(), identity.ByOpenID, "", refusal); err != nil {
			return nil, err
		}
		w := v.page("stranger", v.text("signin.stranger.title"), strangerData{f.proof.Name, []fact{
			{v.text("subjects.issuer"), f.proof.Issuer, true}, {v.text("subjects.subject"), f.proof.Subject, true},
		}})
		w.status = http.StatusForbidden
		return w, nil
	}
	name := ""
	if who.Kind != identity.Person {
		name = f.proof.Name
	}
	proved := f.proof.At
	if proved.IsZero() || proved.After(time.Now()) {
		// The issuer does not say when it asked the person: they are in, without a fresh proof.
		proved = time.Now().Add(-freshToSend)
	}
	if err := v.enterAs(who, name, identity.ByOpenID, proved); err != nil {
		return nil, err
	}
	return v.enter(f.to), nil
}
