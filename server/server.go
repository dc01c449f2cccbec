// Package server connects the rooms: it opens them from the bottom up, serves, and closes them from the top down.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/metrics"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/server/registry"
)

// The content of Config.Dir.
const (
	dataFolder = "data"   // the sealed store
	keysFolder = "keys"   // the root key file and the epoch keys
	caFile     = "ca.pem" // the authority's certificate, for clients
	lockFile   = "LOCK"   // held while a server runs
	// files that key stores name which are added while the server runs
	keyStoresFolder = "keystores"
)

// The names that the first start gives.
const (
	defaultGroup    = "default"
	defaultResource = "default"
	defaultLocation = "local"
)

func (c Config) dataDir() string { return filepath.Join(c.Dir, dataFolder) }
func (c Config) keysDir() string { return filepath.Join(c.Dir, keysFolder) }

// Server is one instance of Visage. Its methods may be called concurrently.
type Server struct {
	cfg    Config
	log    *slog.Logger
	ready  chan struct{}
	events *prometheus.CounterVec
	calls  *registry.Calls // to the stores of customers' keys
	served servedCertificates
	audit  atomic.Pointer[audit.Log] // nil until it is open

	migrated chan struct{} // holds a token when a migration has ended that may not be in the audit log

	custody atomic.Pointer[custody.Custody]  // likewise
	face    atomic.Pointer[face.Service]     // likewise
	metrics atomic.Pointer[metrics.Recorder] // likewise

	// Set before ready is closed, and not changed afterwards, but for the operator's secret.
	address    net.Addr
	origin     visage.Origin
	operatorMu sync.Mutex // guards the secret in operator
	operator   Operator
	accounts   *account.Accounts
	identities *identity.Directory
	vaults     *keyvault.Service
	backups    backups
	drills     *drill.Room
	console    *console.Console
	keyStores  *registry.Registry

	serving atomic.Bool // false before Run serves, and while it stops
}

// New checks cfg and makes a Server. It opens nothing; see Run. All mistakes of cfg are in the error, each beginning
// with the name of its setting.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), events: newEvents(),
		migrated: make(chan struct{}, 1), calls: newCalls()}, nil
}

// Ready returns a channel that is closed when the server serves. It is never closed if Run fails before.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Dir is the absolute path of the folder with all of the server's data.
func (s *Server) Dir() string { return s.cfg.Dir }

// Endpoint is the base address of all planes, without a final slash. Call it after Ready.
func (s *Server) Endpoint() string { return s.origin.String() }

// Addr is the address of the listener. Call it after Ready.
func (s *Server) Addr() net.Addr { return s.address }

// Operator is the content of operator.json. Call it after Ready.
func (s *Server) Operator() Operator {
	s.operatorMu.Lock()
	defer s.operatorMu.Unlock()
	return s.operator
}

// Keys returns the keys of the resource with the given name. Call it after Ready.
func (s *Server) Keys(ctx context.Context, name string) (account.Keys, error) {
	return s.accounts.Keys(ctx, name)
}

// Run opens everything, serves until ctx ends and for Config.StopDelay more, lets running requests finish within
// Config.DrainTimeout, and closes everything. It returns nil when ctx has ended without a failure. It can be called
// once.
func (s *Server) Run(ctx context.Context) (err error) {
	if err := harden(); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		s.log.Warn(
			"the server runs as root, which it does not need: a vulnerability would expose the whole machine; " +
				"run it as a user of its own",
		)
	}
	// Everything that was opened is closed in reverse order; the first error is returned.
	var opened closers
	defer func() {
		if closeErr := opened.close(); err == nil {
			err = closeErr
		}
	}()
	layers, err := s.open(ctx, &opened)
	if err != nil {
		return err
	}
	bare, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	trusted, err := parseProxies(s.cfg.TrustedProxies)
	if err != nil {
		return errors.Join(err, bare.Close())
	}
	listener := newConns(bare, s.cfg.Connections, max(1, s.cfg.Connections/2), trusted)
	layers.connections = listener
	opened.add("listener", func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the HTTP server has closed it
	})
	s.address = listener.Addr()
	if s.origin, err = s.cfg.originAt(s.address); err != nil {
		return err
	}
	if err := s.keyStores.Admit(s.isAudience); err != nil {
		return err
	}
	certificates, err := s.certificates(ctx, layers)
	if err != nil {
		return err
	}
	handler, err := s.handler(layers)
	if err != nil {
		return err
	}
	if layers.endpoint, err = s.openIdentityEndpoint(ctx, layers, layers.api, &opened); err != nil {
		return err
	}
	if err := s.publish(layers); err != nil {
		return err
	}
	return s.serve(ctx, layers, listener, certificates, handler)
}

// serve answers requests until ctx ends or something fails, and then drains.
func (s *Server) serve(
	ctx context.Context, l *layers, listener net.Listener, certificates *tls.Config, handler http.Handler,
) error {
	trusted, err := parseProxies(s.cfg.TrustedProxies)
	if err != nil {
		return err
	}
	hs := &http.Server{
		Handler:           trusted.before(handler, s.origin),
		TLSConfig:         certificates,
		ReadHeaderTimeout: 10 * time.Second, // a slow client holds only its connection
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             http2(),
		ConnContext:       remember,
		// "OPTIONS *" is refused like every unknown path
		DisableGeneralOptionsHandler: true,
		// malformed requests and failed handshakes
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 3) // room for the listeners and the background, none of which may block
	l.announcer = &announcer{store: l.store, use: l.face.GalleryUse, note: s.noteFor(l)}
	go func() {
		if certificates == nil {
			failed <- hs.Serve(listener)
		} else {
			failed <- hs.ServeTLS(listener, "", "")
		}
	}()
	if l.parts != nil {
		go func() {
			if err := l.parts.serve(); err != nil {
				failed <- err
			}
		}()
	}
	if err := l.announcer.announce(ctx, nil); err != nil {
		s.log.Warn("other replicas do not know this one yet", "err", err)
	}
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx)) // the services run longer than the requests
	l.inner.serve(l.forInner)
	worked := make(chan error, 1)
	go func() { worked <- s.background(work, l, failed) }()
	s.serving.Store(true)
	close(s.ready)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.serving.Store(false)
	s.log.Info("stopping", "stop_delay", s.cfg.StopDelay, "drain_timeout", s.cfg.DrainTimeout)
	if err == nil && s.cfg.StopDelay > 0 {
		hs.SetKeepAlivesEnabled(false) // clients open new connections, which a balancer sends elsewhere
		select {
		case <-time.After(s.cfg.StopDelay):
		case err = <-failed:
		}
	}
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer done()
	if err := l.announcer.leave(drain); err != nil {
		s.log.Warn("other replicas do not know that this one stops", "err", err)
	}
	if drainErr := hs.Shutdown(drain); drainErr != nil {
		s.log.Warn("requests cut off", "err", drainErr)
		drainErr = hs.Close()
		err = errors.Join(err, drainErr)
	}
	if l.parts != nil { // after the requests, which it may be asked for as well
		err = errors.Join(err, l.parts.stop(drain))
	}
	stopWork()
	return errors.Join(err, <-worked, l.inner.stop()) // connections to the own vaults end after their users
}

// background runs the services that work in the background, until ctx ends. If one ends before, its error goes to
// failed.
func (s *Server) background(ctx context.Context, l *layers, failed chan<- error) error {
	group, ctx := errgroup.WithContext(ctx)
	all := map[string]func(context.Context) error{
		"face service": l.face.Run, "key vault": l.vaults.Run, "sealed store": l.store.Run,
		"identities": l.identities.Run,
		"accounts":   l.accounts.Run, "custody": l.custody.Run, "metrics": l.metrics.Run, "console": l.console.Run,
		"operator":   func(ctx context.Context) error { return s.keepOperator(ctx, l) },
		"key stores": l.keyStores.Run, "audit of migrations": func(ctx context.Context) error {
			return s.auditLateMigrations(ctx, l)
		},
	}
	if l.store.Shared() {
		all["announcer"] = l.announcer.run
	}
	if l.endpoint != nil {
		all["managed identity endpoint"] = l.endpoint.run
	}
	for name, run := range all {
		group.Go(func() error {
			err := run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("ended unexpectedly")
			}
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	err := group.Wait()
	if err != nil {
		failed <- err
	}
	return nil
}

// publish writes the files with which clients on this machine reach the server.
func (s *Server) publish(l *layers) error {
	if l.authority != nil {
		ca := filepath.Join(s.cfg.Dir, caFile)
		if err := writeUnlessThere(ca, l.authority.pem()); err != nil {
			return fmt.Errorf("write %s: %w", ca, err)
		}
		l.forOperator.CAFile = ca
	} else {
		l.forOperator.CAFile = ""
	}
	l.forOperator.Endpoint, l.forOperator.Listen = s.Endpoint(), s.cfg.nearby(s.address)
	l.forOperator.FederationIssuer = s.cfg.FederationIssuer
	s.operator, s.accounts, s.identities, s.vaults = l.forOperator, l.accounts, l.identities, l.vaults
	s.console, s.backups = l.console, l.backups
	var err error
	if s.drills, err = drill.New(drill.Config{Dir: s.cfg.Dir, Copies: Copies(s.cfg, s.origin)}); err != nil {
		return err
	}
	if err := s.drills.Clean(); err != nil {
		s.log.Error("files of an interrupted rehearsal not removed", "err", err)
	}
	return writeOperator(filepath.Join(s.cfg.Dir, OperatorFile), l.forOperator)
}

// closers are the closing functions, in the order of opening.
type closers struct {
	names []string
	funcs []func() error
}

func (c *closers) add(name string, f func() error) {
	c.names, c.funcs = append(c.names, name), append(c.funcs, f)
}

// close calls them in reverse order and returns the first error.
func (c *closers) close() (err error) {
	for i := len(c.funcs) - 1; i >= 0; i-- {
		if closeErr := c.funcs[i](); closeErr != nil && err == nil {
			err = fmt.Errorf("close %s: %w", c.names[i], closeErr)
		}
	}
	return err
}
