package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/cluster/scatter"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/server/registry"
)

// Custody returns the server's custody. Call it after Ready.
func (s *Server) Custody() *custody.Custody { return s.custody.Load() }

// Identify gives the resource called name a managed identity, and returns the resource's space and the identity.
func (s *Server) Identify(ctx context.Context, name string) (sealed.SpaceID, visage.PrincipalID, error) {
	a, err := s.accounts.Get(ctx, name)
	if err != nil {
		return sealed.SpaceID{}, "", err
	}
	path := instanceRecord{SubscriptionID: s.operator.SubscriptionID}.accountPath(a)
	p, err := s.identities.EnsureManaged(ctx, s.operator.TenantID, path, identity.SystemAssigned)
	return sealed.SpaceID(a.ID), visage.PrincipalID(p.ID), err
}

// RefusedForMemory searches a collection of so many bytes in partitions at a replica that is alone, and has one byte
// for galleries.
func RefusedForMemory(ctx context.Context, bytes int64) error {
	authority, err := peer.NewAuthority(peer.Instance{1})
	if err != nil {
		return err
	}
	self, err := authority.Identity("r", 0)
	if err != nil {
		return err
	}
	alone := []scatter.Replica{{Name: "r", Address: "127.0.0.1:1", Budget: 1}}
	p := &partitions{log: slog.New(slog.DiscardHandler)}
	p.scatter, err = scatter.New(scatter.Config{
		Self: self, Local: localParts{}, PartitionBytes: 1, Replicas: func() []scatter.Replica { return alone },
	})
	if err != nil {
		return err
	}
	defer p.scatter.Close()
	_, err = p.Search(ctx, face.PartQuery{Collection: "c", Part: gallery.Part{Count: p.Count("c", bytes)}})
	return err
}

// VerifyAudit verifies the audit log while the server runs. Call it after Ready.
func (s *Server) VerifyAudit(ctx context.Context) (audit.Report, error) {
	return s.audit.Load().Verify(ctx)
}

// Accounts returns the server's resources. Call it after Ready.
func (s *Server) Accounts() *account.Accounts { return s.accounts }

// Vaults returns the server's key vaults. Call it after Ready.
func (s *Server) Vaults() *keyvault.Service { return s.vaults }

// KeyStores returns the server's list of key stores. Call it after Ready.
func (s *Server) KeyStores() *registry.Registry { return s.keyStores }

// Directory returns the server's directory of identities. Call it after Ready.
func (s *Server) Directory() *identity.Directory { return s.identities }

// Behind sends a request from peer through the handler in front of all planes, and returns the status and what the
// planes see of the request.
func Behind(
	trusted []string, origin, peer, host string, header http.Header,
) (status int, from netip.Addr, called string, err error) {
	all, err := parseProxies(trusted)
	if err != nil {
		return 0, netip.Addr{}, "", err
	}
	o, err := visage.ParseOrigin(origin)
	if err != nil {
		return 0, netip.Addr{}, "", err
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.Host, r.Header = peer, host, header
	w := httptest.NewRecorder()
	all.before(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		at, parseErr := netip.ParseAddrPort(r.RemoteAddr)
		from, called, err = at.Addr().Unmap(), r.Host, parseErr
	}), o).ServeHTTP(w, r)
	return w.Code, from, called, err
}

// Authority is a certificate authority outside of any server.
type Authority struct{ own authority }

// NewAuthority creates an authority that is constrained to names.
func NewAuthority(names ...string) (*Authority, error) {
	rec, err := newAuthority(names)
	if err != nil {
		return nil, err
	}
	cert, key, err := rec.parse()
	return &Authority{authority{certificate: cert, key: key}}, err
}

// Unbound is the same authority with a certificate without constraints, as earlier builds made it.
func (a *Authority) Unbound() (*Authority, error) {
	old := *a.own.certificate
	old.PermittedDNSDomains, old.PermittedIPRanges, old.PermittedDNSDomainsCritical = nil, nil, false
	old.ExtraExtensions = nil
	der, err := x509.CreateCertificate(rand.Reader, &old, &old, &a.own.key.PublicKey, a.own.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{authority{certificate: cert, key: a.own.key}}, err
}

// Keep stores the authority as that of the store's server.
func (a *Authority) Keep(ctx context.Context, store *sealed.Store) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(a.own.key)
	if err != nil {
		return err
	}
	return store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		return authorities.In().Put(tx, "ca", authorityRecord{Certificate: a.own.certificate.Raw, Key: pkcs8})
	})
}

// Certificate returns the authority's certificate in PEM.
func (a *Authority) Certificate() []byte { return a.own.pem() }

// Issue signs a certificate for names, whatever the constraints of the authority.
func (a *Authority) Issue(names ...string) (*tls.Certificate, error) { return a.own.issue(names) }

// The packs of new stores, and of stores from before packs were remembered.
const (
	NewStorePack = newStorePack
	FormerPack   = formerPack
)

// ResourceID returns the id of the resource called name. Call it after Ready.
func (s *Server) ResourceID(ctx context.Context, name string) (visage.ResourceID, error) {
	a, err := s.accounts.Get(ctx, name)
	return a.ID, err
}

// ConsoleRoutes returns the pages and forms of the console. Call it after Ready.
func (s *Server) ConsoleRoutes() []api.Route { return s.console.Plane().Routes }

// RootStores returns how many connections to key stores of the root key the server keeps.
func (s *Server) RootStores() int {
	s.cfg.rootStores.mu.Lock()
	defer s.cfg.rootStores.mu.Unlock()
	return len(s.cfg.rootStores.sets)
}

// Rehearsals returns what rehearses on copies of this server, and the source of these copies. started is told of each
// copy that has started.
func (s *Server) Rehearsals(by visage.Caller, started func(*Server)) (*drill.Room, drill.Source, error) {
	room, err := drill.New(drill.Config{Dir: s.cfg.Dir, Copies: copies{s.cfg, s.origin, started}})
	return room, rehearsalSource{s.backups, by}, err
}

// MayAnswerLater reports whether a start waits for a protector of the root key.
var MayAnswerLater = mayAnswerLater

// TowardsAzure returns settings of a server for which an instance at an address stands for Azure, with its vaults and
// its token service.
func TowardsAzure(cfg Config, address string, roots *x509.CertPool) Config {
	cfg.azureNetwork = azureNetwork{roots: roots, authority: "https://" + address,
		dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
	return cfg
}

// ReplicaIdentity returns the identity with which a process that has the store open proves itself to replicas.
func ReplicaIdentity(ctx context.Context, store *sealed.Store) (*peer.Identity, error) {
	authority, err := openReplicaAuthority(ctx, store)
	if err != nil {
		return nil, err
	}
	return authority.Identity(peerName(store.Members()[0]), 0)
}
