package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server/drill"
)

// openConsole makes the web console.
func (s *Server) openConsole(l *layers) (*console.Console, error) {
	issuers, err := s.cfg.consoleIssuers(&s.served)
	if err != nil {
		return nil, err
	}
	authorities, err := s.cfg.issuerAuthorities()
	if err != nil {
		return nil, err
	}
	var certificates []console.Certificate
	for _, cert := range authorities {
		certificates = append(certificates, certificateOf("issuer-ca", cert))
	}
	return console.New(console.Config{
		Accounts: l.accounts, Faces: l.face, Vaults: l.vaults, Directory: l.identities,
		KeyStores: consoleStores{managedStores{s.keyStores, s.cfg.shownApplication()}, l.custody.KeyExpiries},
		Replicas:  consoleReplicas{l.replicas},
		RootKeys:  consoleRootKey{l.rootKeys},
		History:   l.history, Figures: l.metrics,
		Subscription: l.forOperator.SubscriptionID, Tenant: l.instance.TenantID, Group: defaultGroup,
		AccountPath: l.instance.accountPath, VaultPath: l.instance.vaultPath,
		Identities: s.directory(l.identities, l.forOperator), Origin: s.Endpoint(), Issuers: issuers,
		Operates: l.identities.IsOperator, Conditions: l.custody.Conditions,
		KeysExpiring: l.custody.KeysExpiring,
		Instance: instance{
			backups: l.backups, layers: l, cfg: s.cfg, started: time.Now(),
			certificates: certificates, served: &s.served,
		},
		Endpoint: s.resourceEndpoint, VaultAddress: s.vaultAddress, Rehearse: s.rehearseForConsole,
		Logger: s.log,
	})
}

// rehearseForConsole is Rehearse in the words of the console.
func (s *Server) rehearseForConsole(
	ctx context.Context, by visage.Caller, resource string, progress func(step string),
) (console.Rehearsal, error) {
	report, err := s.Rehearse(ctx, by, resource, func(step drill.Step) { progress(string(step)) })
	if err != nil {
		return console.Rehearsal{}, err
	}
	told := console.Rehearsal{ToRefusal: report.ToRefusal, ToOpen: report.ToOpen, Others: report.Others,
		Passed: report.Passed}
	for _, check := range report.Checks {
		told.Checks = append(told.Checks, console.RehearsalCheck{Name: check.Name, Held: check.Held})
	}
	return told, nil
}

// SignInAddress returns an address at which a browser signs in to the console once, within two minutes, as the identity
// with an object id; empty: as the operator. Call it after Ready. Refusal: PrincipalNotFound.
func (s *Server) SignInAddress(ctx context.Context, principal string) (string, error) {
	if principal == "" {
		principal = s.operator.ClientID // its object id too
	}
	address, _, err := s.directory(s.identities, s.Operator()).SignInAddress(ctx, principal, identity.SignIn)
	return address, err
}

// wantsConsole reports whether a request for the first page comes from a browser. Other clients get the answer of an
// unknown path.
func wantsConsole(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}
