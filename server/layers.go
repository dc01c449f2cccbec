package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi"
	"github.com/visage-face/visage/api/faceapi"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/metrics"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server/registry"
)

// layers are the rooms of a running server.
type layers struct {
	store     *sealed.Store
	audit     *audit.Log
	history   *audit.History // of the log: shared, because it keeps the latest entries in memory
	custody   *custody.Custody
	accounts  *account.Accounts
	face      *face.Service
	parts     *partitions // nil: collections are searched here alone
	metrics   *metrics.Recorder
	vaults    *keyvault.Service
	keyStores *registry.Registry
	authority *authority           // nil when certificates come from elsewhere, or there are none
	expiry    *prometheus.GaugeVec // of certificates

	certificate atomic.Pointer[console.Certificate] // of the listener; nil without TLS

	inner       *inner
	forInner    http.Handler // what inner serves
	connections *conns       // of all other clients
	identities  *identity.Directory
	instance    instanceRecord
	packs       *packs
	forOperator Operator
	backups     backups
	rootKeys    rootKeys
	replicas    replicas
	announcer   *announcer // nil until the server listens
	log         *slog.Logger
	api         *api.Handler      // nil until handler has made it
	console     *console.Console  // likewise
	endpoint    *identityEndpoint // nil when there is none
}

// open opens the rooms from the bottom up, and adds their closing functions to opened.
func (s *Server) open(ctx context.Context, opened *closers) (*layers, error) {
	l := &layers{log: s.log}
	empty, err := s.cfg.isNew()
	if err != nil {
		return nil, fmt.Errorf("read the data directory: %w", err)
	}
	if empty { // if the model packs cannot be opened, nothing is created on disk
		if l.packs, err = s.openPacks(allOf(newStorePack), opened); err != nil {
			return nil, err
		}
	}
	opened.add("key stores of the root key", s.cfg.rootStores.close)
	store, err := s.openStoreInTime(ctx)
	if err != nil {
		return nil, err
	}
	opened.add("sealed store", store.Close)
	l.store = store
	if !empty {
		choice, _, err := readPackChoice(ctx, store)
		if err != nil {
			return nil, err
		}
		if l.packs, err = s.openPacks(choice, opened); err != nil {
			return nil, err
		}
	}
	keys := store.EpochKeys()
	s.log.Info("store opened", "format", store.Maintenance().Format(), "epoch_keys", keys.Name, "erasure_grade",
		string(keys.Grade))
	s.tellPacks(l.packs)
	if l.audit, err = s.openAudit(ctx, store, opened); err != nil {
		return nil, err
	}
	l.history = audit.Read(store)
	started, err := s.startAlone(ctx, store)
	if err != nil {
		return nil, err
	}
	defer started()
	if err := s.rememberPacks(ctx, l); err != nil {
		return nil, err
	}
	if l.metrics, err = s.openMetrics(ctx, l); err != nil {
		return nil, err
	}
	s.metrics.Store(l.metrics)
	if l.custody, err = s.openCustody(ctx, l, opened); err != nil {
		return nil, err
	}
	s.custody.Store(l.custody)
	l.keyStores = s.keyStores
	if l.instance, err = openInstance(ctx, l.store); err != nil {
		return nil, err
	}
	if l.identities, err = s.openIdentities(ctx, l); err != nil {
		return nil, err
	}
	l.forOperator, err = ensureOperator(ctx, l, filepath.Join(s.cfg.Dir, OperatorFile))
	if err != nil {
		return nil, err
	}
	l.vaults, err = keyvault.New(keyvault.Config{
		Store: l.store, Address: s.vaultAddress, Audit: l.audit, OnEnd: l.vaultEnded,
		Scope: l.vaultScope, Roles: vaultRoles{l.identities, l.instance}, Logger: s.log, NewRSA: s.cfg.NewRSA,
		OnChange: func(keyID string) { s.keyChanged(l, keyID) },
	})
	if err != nil {
		return nil, err
	}
	if l.accounts, err = account.Open(ctx, account.Config{
		Store: l.store, Audit: l.audit, Identities: managedIdentities{l, s}, Custody: l.custody,
		ParseKey: s.parseKey, Vaults: accountVaults{l, s},
		May: func(by visage.Caller, action string, on account.Account) bool {
			if action == account.ApproveRequests { // no role of the subscription allows it
				return l.identities.IsOperator(by.Principal)
			}
			return l.identities.May(by.Principal, action, l.instance.scopeOf(on))
		},
		AutoApprove: s.cfg.AutoApprove, Logger: s.log,
	}); err != nil {
		return nil, err
	}
	if err := l.identities.Settle(ctx); err != nil {
		return nil, err
	}
	if err := ensureDefaults(ctx, l); err != nil {
		return nil, err
	}
	faces := face.Config{
		Store: l.store, Models: l.packs.models(), Packs: l.packs.open, Resources: l.accounts.IDs,
		GalleryBytes: s.cfg.GalleryBytes, Audit: l.audit, Logger: s.log,
	}
	if l.parts = s.openPartitions(l); l.parts != nil {
		faces.Partitions = l.parts
	}
	if l.face, err = face.New(faces); err != nil {
		return nil, err
	}
	s.face.Store(l.face)
	if l.parts != nil {
		if err := l.parts.join(ctx, s.cfg, l.face, opened); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// certificates returns the TLS configuration; nil without TLS.
func (s *Server) certificates(ctx context.Context, l *layers) (*tls.Config, error) {
	names := s.cfg.certificateNames()
	cert, key, err := openAuthority(ctx, l.store, names)
	if err != nil {
		return nil, err
	}
	l.expiry = newExpiry()
	own := &authority{certificate: cert, key: key, domain: s.cfg.Domain, names: names, known: l.hasHost}
	l.inner = newInner(own)
	if s.cfg.PlainHTTP {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if s.cfg.CertFile != "" {
		file, err := openCertFile(s.cfg.CertFile, s.cfg.KeyFile, s.log, func(now *x509.Certificate) {
			served := certificateOf("file", now)
			l.certificate.Store(&served)
			l.expiry.WithLabelValues("file").Set(float64(now.NotAfter.Unix()))
		})
		if err != nil {
			return nil, err
		}
		cfg.GetCertificate = file.forHello
		return cfg, nil
	}
	served := certificateOf("authority", cert)
	l.authority = own
	l.certificate.Store(&served)
	l.expiry.WithLabelValues("authority").Set(float64(cert.NotAfter.Unix()))
	cfg.GetCertificate = l.authority.forHello
	return cfg, nil
}

// newExpiry makes the metric of certificates. Those that the authority issues are left out: it renews them.
func newExpiry() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "visage_server_certificate_expiry_seconds",
		Help: "Unix time at which a certificate of the listener ends: of cert-file, or of the local authority.",
	}, []string{"certificate"})
}

// certificateNames are the names and addresses of the server's own certificate.
func (c Config) certificateNames() []string {
	all := append([]string{c.Domain, "localhost", "127.0.0.1", "::1"}, c.Names...)
	var names []string
	seen := map[string]bool{}
	for _, n := range all {
		if !seen[n] {
			names = append(names, n)
		}
		seen[n] = true
	}
	return names
}

// handler combines the planes and the pages for monitoring.
func (s *Server) handler(l *layers) (http.Handler, error) {
	faces, err := faceapi.New(faceapi.Config{Service: l.face, AllowPrivate: s.cfg.AllowPrivateURLs})
	if err != nil {
		return nil, err
	}
	l.backups = backups{l.store, l.audit, newBackups()}
	l.replicas = replicas{store: l.store, parts: l.parts, use: l.face.GalleryUse, budget: s.cfg.GalleryBytes,
		accounts: l.accounts, path: l.instance.accountPath}
	l.rootKeys = rootKeys{l.store, s.cfg, l.audit, l.custody}
	identities := s.directory(l.identities, l.forOperator)
	management, err := armapi.New(armapi.Config{
		Accounts: l.accounts, Subscription: l.forOperator.SubscriptionID, Tenant: l.instance.TenantID,
		Group:    defaultGroup,
		Endpoint: s.resourceEndpoint, Rate: s.rate,
		Vaults: l.vaults, VaultAddress: s.vaultAddress, May: l.identities.May, IsOperator: l.identities.IsOperator,
		Authority: s.Endpoint() + "/" + l.instance.TenantID, Backups: l.backups,
		RootKeys:   l.rootKeys,
		Replicas:   l.replicas,
		Identities: identities, People: identities,
		AuditEvents: auditEvents{l.history}, Retentions: retentions{l.face},
		KeyStores: managedStores{s.keyStores, s.cfg.shownApplication()}, Remedies: s.remedies,
	})
	if err != nil {
		return nil, err
	}
	vaults, err := s.vaultPlane(l)
	if err != nil {
		return nil, err
	}
	service, err := s.tokenPlane(l)
	if err != nil {
		return nil, err
	}
	graph, err := s.graphPlane(l)
	if err != nil {
		return nil, err
	}
	if l.console, err = s.openConsole(l); err != nil {
		return nil, err
	}
	pages := l.console.Plane()
	for plane, perSecond := range map[*api.Plane]int{&management: s.cfg.ManagementRate, &graph: s.cfg.ManagementRate,
		&vaults: s.cfg.VaultRate, &pages: s.cfg.ManagementRate} {
		plane.CallerRate = api.Rate{PerSecond: float64(perSecond), Burst: 10 * perSecond}
		plane.AddressRate = api.Rate{PerSecond: 5 * float64(perSecond), Burst: 50 * perSecond}
	}
	service.AddressRate = api.Rate{PerSecond: float64(s.cfg.TokenRate), Burst: 10 * s.cfg.TokenRate}
	faces.Hosts, vaults.Hosts, vaults.Alone = func(host string) bool { return s.isFaceHost(l, host) }, s.isVaultHost,
		true
	planes := []api.Plane{faces, management, vaults, service, graph}
	proving := tokens{l.identities, l.instance, s.managementAudiences()}
	gate := api.Config{
		Planes: append(slices.Clone(planes), pages), Keys: l.accounts, Tokens: proving,
		Holders:  holders{proving, l.accounts, s.origin},
		Openness: l.accounts, Current: l.current,
		Origin: s.origin, Rate: s.rate, Proved: proved, Refused: refusals{l.accounts, l.audit, s.log}.refused,
		Answered: l.answered, Replicas: l.store.Replicas, Logger: s.log,
	}
	h, err := api.New(gate)
	if err != nil {
		return nil, err
	}
	// Only the built-in vaults get requests from inside.
	gate.Planes, gate.Inner, gate.BodyBytes, gate.Answered = []api.Plane{vaults}, true, innerBodyBytes, nil
	within, err := api.New(gate)
	if err != nil {
		return nil, err
	}
	l.forInner, l.api = within, h
	registry := prometheus.NewRegistry()
	all := append(h.Collectors(), within.Collectors()...)
	all = append(all, l.face.Collectors()...)
	all = append(all, l.audit.Collectors()...)
	all = append(all, l.custody.Collectors()...)
	all = append(all, l.metrics.Collectors()...)
	all = append(all, s.events, l.backups.counted, l.expiry, l.connections.closed, volumes{l.store},
		newFormat(l.store), clockMetric{l.store}, keyPlace{l.store}, l.packs, rootMetrics{l.store},
		keyExpiryMetrics{l.custody.KeyExpiries, s.kindOf},
		databaseMetrics{l.store}, replicaMetrics{l.store})
	all = append(all, s.calls.Collectors()...)
	if l.parts != nil {
		all = append(all, l.parts.scatter.Collectors()...)
	}
	all = append(all, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	scrape := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	description, err := describe(planes)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not net/http's mux: it redirects paths such as "//face/v1.0/detect", which clients send, and the bodies would
		// be lost.
		page, isPage := map[string]http.HandlerFunc{
			"/healthz": healthz, "/readyz": s.readyz(l), "/metrics": scrape.ServeHTTP, "/openapi.json": description,
		}[r.URL.Path]
		switch {
		case r.URL.Path == "/" && wantsConsole(r) && !s.isVaultHost(r.Host):
			http.Redirect(w, r, "/console", http.StatusSeeOther)
		case !isPage, s.isVaultHost(r.Host):
			h.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			api.WriteProblem(w, r, &api.Problem{
				Status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Allow: "GET, HEAD",
				Message: "This page supports GET and HEAD only.",
			})
		default:
			page(w, r)
		}
	}), nil
}

// current fails while what other processes change cannot be read: nobody is let in by what was known before.
func (l *layers) current(ctx context.Context) error {
	for _, room := range []interface{ Current(context.Context) error }{
		l.identities, l.accounts, l.keyStores, l.custody,
	} {
		if err := room.Current(ctx); err != nil {
			return err
		}
	}
	return nil
}

// innerBodyBytes is enough for more wrapped keys at a time than the process has connections to itself.
const innerBodyBytes = 64 << 20

// healthz answers as long as the process runs.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// readyWait is how long the database may take to answer. Load balancers ask every few seconds.
const readyWait = 2 * time.Second

// readyz answers whether the server accepts requests: not before everything is open, and not while it stops. Revoked
// keys are listed but do not affect the status, since the other resources are served. With a full disk the answer is
// "degraded" instead of "ok", with the same status, since everything but new data is served. A database that does not
// answer within readyWait makes it 503: nothing can be served without.
func (s *Server) readyz(l *layers) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.serving.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		ctx, stop := context.WithTimeout(r.Context(), readyWait)
		defer stop()
		if l.store.Punctual() != nil { // the log says more
			http.Error(w, "the clocks of this server and of its database are too far apart",
				http.StatusServiceUnavailable)
			return
		}
		full := storage(l.store)
		switch err := l.store.Ping(ctx); {
		case errors.Is(err, sealed.ErrReadOnlyDatabase):
			full += "storage: the database is read-only: whatever writes is refused with 503; reading goes on\n"
		case err != nil:
			s.log.Warn("the database does not answer", "err", err)
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		if full == "" {
			healthz(w, r)
		} else {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, "degraded\n"+full)
		}
		if l.store.Shared() {
			fmt.Fprintf(w, "replicas: %d\n", l.store.Replicas())
		}
		encryption(w, l.custody)
		fmt.Fprint(w, l.packs.lines())
	}
}

// rate is the rate of a resource: for F0 that of the tier, for the others the configured one.
func (s *Server) rate(r visage.Resource) (perSecond float64, burst int) {
	if limits := r.Tier.Limits(); r.Tier == visage.F0 {
		return limits.Requests, limits.Burst
	}
	return float64(s.cfg.Rate), s.cfg.Rate
}
