// Package console is the web console: pages and forms for people who run the service, look after its keys and its data,
// or develop with it.
//
// It is a plane like the others. Its pages call the same services as the other planes, as the signed-in person and with
// that person's roles; there is no second way in. Every page works without JavaScript.
//
// A page is one handler, one template in templates/, and its messages in messages/en and messages/fr. The handler gets
// a visit and returns a view:
//
//	func (c *Console) overview(v *visit) (*view, error) {
//		a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
//		if err != nil {
//			return nil, err
//		}
//		return v.resourcePage("overview", a, overviewData{...}), nil
//	}
//
// The route table in routes.go says who may see it. A form is declared in Go (see form) and drawn by the template
// "form"; its handler changes something and returns v.done, which redirects to a page, or v.again, which shows the form
// with what was typed and what is wrong.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	xlanguage "golang.org/x/text/language"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/console/internal/passkey"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
)

// Config is what a Console is made of. All fields are required, unless they say otherwise.
type Config struct {
	// The services that the pages show and change.
	Accounts  *account.Accounts
	Faces     *face.Service
	Vaults    *keyvault.Service
	Directory *identity.Directory
	History   *audit.History
	// KeyStores are the stores of customers' keys beside key vaults.
	KeyStores KeyStores
	// Replicas are the processes that serve the instance.
	Replicas Replicas
	// RootKeys changes the root key of the instance.
	RootKeys RootKeys
	// Identities ends applications and people, and makes addresses at which people sign in.
	Identities Identities
	Figures    Figures

	// Subscription, Tenant and Group are the only ones of the instance.
	Subscription, Tenant, Group string
	// AccountPath and VaultPath return the management path of a resource or vault: the scope of roles on it.
	AccountPath func(account.Account) string
	VaultPath   func(keyvault.Vault) string
	// Operates reports whether a principal runs the instance: the operator, or a person with the operator's role.
	Operates func(visage.Principal) bool
	// Conditions counts the resources by the condition of their key.
	Conditions func() map[custody.Condition]int
	// KeysExpiring returns the resources whose customer-managed key expires soon or has expired, each with the expiry
	// date.
	KeysExpiring func() map[visage.ResourceID]time.Time
	// Instance is the running instance.
	Instance Instance
	// Endpoint returns the base address of the resource at the subdomain label, with a final slash; without a label,
	// the address that all resources share.
	Endpoint func(label string) string
	// VaultAddress returns the base address of a key vault, with a final slash.
	VaultAddress func(vault string) string
	// Origin is the origin at which browsers reach the console, such as "https://localhost:8443": passkeys are bound to
	// its host, and external issuers send browsers back to it.
	Origin string
	// Issuers are the external issuers of OpenID Connect that the instance knows. Default: none.
	Issuers []Issuer
	// Rehearse rehearses the revocation of the key of a resource on a copy of the server. progress is called with the
	// name of each step.
	Rehearse func(ctx context.Context, by visage.Caller, resource string, progress func(step string)) (Rehearsal, error)
	// Logger gets what is wrong with the console itself. Default: discard.
	Logger *slog.Logger
}

// Console is the console of an instance. It is safe for concurrent use.
type Console struct {
	cfg       Config
	log       *slog.Logger
	languages []*language
	accepts   xlanguage.Matcher // of what browsers accept, by the index in languages
	sent      *sentForms
	notices   *notices
	jobs      *jobs
	flows     *flows
	site      *passkey.Site // nil: passkeys cannot be used at this origin
	exports   *exports
	drafts    *drafts
	routes    []route

	issuersForSignIn []*signInIssuer
}

// New checks cfg and makes a Console.
func New(cfg Config) (*Console, error) {
	if cfg.Accounts == nil || cfg.Faces == nil || cfg.Vaults == nil || cfg.Directory == nil || cfg.History == nil ||
		cfg.Identities == nil ||
		cfg.Figures == nil || cfg.KeyStores == nil || cfg.RootKeys == nil ||
		cfg.Conditions == nil || cfg.KeysExpiring == nil || cfg.Instance == nil || cfg.Origin == "" ||
		cfg.Subscription == "" || cfg.Tenant == "" || cfg.Group == "" ||
		cfg.AccountPath == nil || cfg.VaultPath == nil || cfg.Operates == nil || cfg.Endpoint == nil ||
		cfg.VaultAddress == nil || cfg.Rehearse == nil {
		return nil, errors.New("make console: every service, name and function of the configuration is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{cfg: cfg, log: cfg.Logger, sent: newSentForms(), notices: newNotices(), jobs: newJobs(cfg.Logger),
		flows: newFlows(), exports: newExports(), drafts: newDrafts()}
	var err error
	if c.site, err = passkey.New(cfg.Origin, "Visage"); errors.Is(err, passkey.ErrNoName) {
		c.site = nil
	} else if err != nil {
		return nil, fmt.Errorf("make console: %w", err)
	}
	for _, i := range cfg.Issuers {
		if i.ClientID != "" {
			c.issuersForSignIn = append(c.issuersForSignIn, newSignInIssuer(i, cfg.Origin))
		}
	}
	if c.languages, err = newLanguages(cfg.Logger); err != nil {
		return nil, err
	}
	c.accepts = newMatcher()
	c.routes = c.table()
	return c, nil
}

// Run runs the long work that people start on pages, until ctx ends; then it stops that work and waits for it.
func (c *Console) Run(ctx context.Context) error { return c.jobs.run(ctx) }

// prefix is the beginning of all paths of the console.
const prefix = "/console"

// Plane returns the console as a plane.
func (c *Console) Plane() api.Plane {
	p := api.Plane{Name: "console", Prefix: prefix + "/", Greet: greet, Page: c.problemPage, Admit: c.admit,
		Share: bodyShare}
	for _, r := range c.routes {
		p.Routes = append(p.Routes, r.made(c))
	}
	return p
}

// Limits of requests to the console.
const (
	pageTime   = 30 * time.Second
	formTime   = 60 * time.Second
	uploadTime = 5 * time.Minute
	formBytes  = 64 << 10 // of a form without files
	bodyShare  = 4        // of the memory for bodies: forms with many photos are long
)
