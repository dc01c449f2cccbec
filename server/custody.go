package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
)

// openCustody opens the custody of the resources' keys. It may use rooms of l that are opened later, since it calls
// them only when a key is opened.
func (s *Server) openCustody(ctx context.Context, l *layers, opened *closers) (*custody.Custody, error) {
	assert := func(ctx context.Context, as visage.PrincipalID, audience string) (string, time.Time, error) {
		return l.identities.Assertion(ctx, string(as), audience)
	}
	// Polls alone use an assertion twice. What confirms a refusal, and what is checked before a change, must not rest
	// on one from before.
	recently := func(ctx context.Context, as visage.PrincipalID, audience string) (string, time.Time, error) {
		return l.identities.RecentAssertion(ctx, string(as), audience)
	}
	var err error
	if s.keyStores, err = s.openRegistry(ctx, l, assert); err != nil {
		return nil, err
	}
	s.warnAzure()
	opened.add("key stores", func() error {
		s.keyStores.Set().Close()
		return nil
	})
	fresh := connections{
		own: func() *azure.Vaults {
			roots := x509.NewCertPool()
			roots.AddCert(l.inner.authority.certificate)
			return azure.NewVaults(azure.Config{Hosts: []string{"." + s.vaultsOrigin().Host()}, Roots: roots,
				Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.inner.dial(ctx) }})
		},
		azure:  s.cfg.azureVaults,
		stores: func() *stores.Connections { return s.keyStores.Set().Connect(assert, l.asker) },
	}
	shared := connections{sync.OnceValue(fresh.own), sync.OnceValue(fresh.azure),
		sync.OnceValue(func() *stores.Connections { return s.keyStores.Set().Connect(recently, l.asker) })}
	return custody.New(ctx, custody.Config{
		Store: l.store,
		Open: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return s.openKey(l, fresh, key, as)
		},
		Watch: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return s.openKey(l, shared, key, as)
		},
		Kept: func(key visage.KeyRef, as visage.PrincipalID) func(sealed.Reader) error {
			return s.keyStores.Kept(s.today(key), as)
		},
		Today: s.today, Polled: l.polled, Audit: l.audit, Policy: custody.Policy{Grace: s.cfg.KeyGrace}, Logger: s.log,
	})
}

// connections are the connections to the stores of customers' keys: to the vaults of this instance, within the process,
// to Azure, and to the stores that the operator has configured.
type connections struct {
	own, azure func() *azure.Vaults
	stores     func() *stores.Connections
}

// openVaultKey opens a key in a vault that speaks Azure Key Vault's protocol: in a vault of this instance as the given
// principal, with a token issued here; in a vault that the operator has described, by federation; elsewhere in Azure as
// the operator's application.
func (s *Server) openVaultKey(
	l *layers, by connections, key visage.KeyRef, as visage.PrincipalID,
) (keysource.Source, error) {
	now := s.today(key)
	vault, ours := s.ownVault(now)
	switch {
	case !ours && s.keyStores.Set().Describes(now):
		return by.stores().Open(now, as)
	case !ours:
		return s.openAzureKey(l, by, now, as)
	}
	src, err := by.own().Open(now, ownCredential{l.identities, as})
	if err != nil {
		return nil, refuseUnusable(key, err)
	}
	return ownKey{src, l.vaults, vault, now.Unversioned(), key.Unversioned()}, nil
}

// openStoreKey opens a key in a store that the operator has configured, as the identity of a resource.
func (s *Server) openStoreKey(
	_ *layers, by connections, key visage.KeyRef, as visage.PrincipalID,
) (keysource.Source, error) {
	return by.stores().Open(key, as)
}

// refuseForeign refuses a vault that this instance cannot use.
func (s *Server) refuseForeign(key visage.KeyRef) error {
	return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
		"This instance cannot use the vault %s: use one of its own vaults, whose addresses end in .%s, or configure "+
			"an application in Azure.",
		key.Vault, s.vaultsOrigin().Host())
}

// rootAddresses are the addresses of the key stores that the settings name for the root key.
func (c Config) rootAddresses() []string {
	var all []string
	for _, entry := range c.RootKeys {
		if root, err := stores.ParseKey(entry, "", ""); err == nil {
			all = append(all, root.Vault)
		}
	}
	return all
}

// requireNotRoot refuses a key that protects the root key, which is the operator's alone: one that the settings name,
// or that was added while the server ran.
func (s *Server) requireNotRoot(ctx context.Context, store *sealed.Store, key visage.KeyRef) error {
	root, err := store.RootKey().State(ctx)
	if err != nil {
		return err
	}
	entries := slices.Clone(s.cfg.RootKeys)
	for _, p := range root.Protectors {
		entries = append(entries, p.Entry)
	}
	for _, entry := range entries {
		if root, err := stores.ParseKey(entry, "", ""); err == nil && root.SameKey(key) {
			return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The key %s cannot protect a resource, "+
				"since it protects the root key of this instance: use another key.", key)
		}
	}
	return nil
}

// requireStore refuses a key that is in no store outside this instance which it can use: in Azure, or in a store that
// the operator has configured.
func (s *Server) requireStore(key visage.KeyRef) error {
	if s.keyStores.Set().Describes(key) || key.Scheme() != "https" {
		return s.keyStores.Set().Require(key)
	}
	if s.cfg.AzureTenant == "" {
		return s.refuseForeign(key)
	}
	if !azure.InAzure(key) {
		return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
			"This instance cannot use the vault %s: use one of its own vaults, whose addresses end in .%s, or one in "+
				"Azure.", key.Vault, s.vaultsOrigin().Host())
	}
	return nil
}

// ownCredential authenticates a managed identity to the planes of this instance.
type ownCredential struct {
	identities *identity.Directory
	as         visage.PrincipalID
}

// Token implements azure.Credential.
func (c ownCredential) Token(ctx context.Context, scope string) (string, time.Time, error) {
	token, expires, err := c.identities.Token(ctx, string(c.as), strings.TrimSuffix(scope, "/.default"))
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
		err = fmt.Errorf("%w: %w", keysource.ErrDenied, err)
	}
	return token, expires, err
}

// keyChanged makes custody ask a key of the built-in vaults whose permissions or state have changed.
func (s *Server) keyChanged(l *layers, keyID string) {
	key, err := azure.ParseKey(keyID, "", "")
	if err != nil { // without TLS, the identifiers of keys are not valid for clients
		s.log.Debug("key changed", "key", keyID, "err", err)
		return
	}
	l.custody.Recheck(key)
}

// inner serves the planes to this process itself: requests to the built-in vaults use TLS and tokens like those of any
// client, over connections that no firewall, proxy or setting of the listener can block.
type inner struct {
	authority *authority
	conns     chan net.Conn
	closed    chan struct{}
	close     func()
	server    *http.Server
}

func newInner(a *authority) *inner {
	in := &inner{authority: a, conns: make(chan net.Conn), closed: make(chan struct{})}
	in.close = sync.OnceFunc(func() { close(in.closed) })
	return in
}

// serve answers requests until stop is called.
func (in *inner) serve(h http.Handler) {
	in.server = &http.Server{
		Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: in.authority.forHello},
	}
	go func() {
		if err := in.server.ServeTLS(in, "", ""); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("a listener in memory failed: %v", err))
		}
	}()
}

func (in *inner) stop() error { return in.server.Close() }

func (in *inner) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case in.conns <- far:
		return near, nil
	case <-in.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (in *inner) Accept() (net.Conn, error) {
	select {
	case c := <-in.conns:
		return c, nil
	case <-in.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (in *inner) Close() error { in.close(); return nil }

// Addr implements net.Listener.
func (in *inner) Addr() net.Addr { return innerAddr{} }

type innerAddr struct{}

func (innerAddr) Network() string { return "inner" }
func (innerAddr) String() string  { return "127.0.0.1:0" }

// encryption writes the number of resources in each condition of their keys, for people; programs read the metrics.
func encryption(w io.Writer, c *custody.Custody) {
	counts := c.Conditions()
	for _, cond := range []custody.Condition{
		custody.ServiceManaged, custody.Active, custody.Degraded, custody.Revoked, custody.Unavailable, custody.Locked,
	} {
		if n := counts[cond]; n > 0 {
			fmt.Fprintf(w, "resources %s: %d\n", cond, n)
		}
	}
}
