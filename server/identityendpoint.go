package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/identityapi"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
)

// IdentityEndpointFile is the name of the file, in Config.Dir, with the two environment variables for programs that use
// the managed identity endpoint: its address and its secret. It has mode 0600.
const IdentityEndpointFile = "identity-endpoint.env"

// maxIdentityConns limits the connections to the endpoint at a time, so that no program on this machine uses up the
// file descriptors of the process. Beyond it, the oldest is closed.
const maxIdentityConns = 256

// identityEndpoint is the managed identity endpoint: a listener of its own, on loopback.
type identityEndpoint struct {
	listener net.Listener
	server   *http.Server
}

// openIdentityEndpoint opens the endpoint and writes its file; nil if none is configured. beside is the handler of the
// other planes.
func (s *Server) openIdentityEndpoint(
	ctx context.Context, l *layers, beside *api.Handler, opened *closers,
) (*identityEndpoint, error) {
	if s.cfg.IdentityEndpoint == "" {
		return nil, nil
	}
	path := filepath.Join(s.cfg.Dir, IdentityEndpointFile)
	header, err := identityHeader(ctx, l.store, path)
	if err != nil {
		return nil, err
	}
	named := namedIdentities{l.identities, s.cfg.IdentityEndpointFor}
	for _, name := range named.missing() {
		s.log.Warn("identity-endpoint-for names no identity, or more than one", "name", name)
	}
	refused := refusals{l.accounts, l.audit, s.log}.refused
	plane, err := identityapi.New(identityapi.Config{
		Identities: named, Header: header, IMDS: s.cfg.IdentityEndpointIMDS, Local: isOwnAddress,
		Refused: func(r *api.Request, why *visage.Refusal) {
			refused("identity", r, &api.Problem{Status: http.StatusBadRequest, Code: why.Code})
		},
	})
	if err != nil {
		return nil, err
	}
	plane.AddressRate = api.Rate{PerSecond: float64(s.cfg.TokenRate), Burst: 10 * s.cfg.TokenRate}
	handler, err := api.New(api.Config{
		Planes: []api.Plane{plane}, Refused: refused, Answered: l.answered, Logger: s.log, Beside: beside,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.cfg.IdentityEndpoint)
	if err != nil {
		return nil, fmt.Errorf("listen for managed identities: %w", err)
	}
	opened.add("managed identity listener", func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the HTTP server has closed it
	})
	at := "http://" + listener.Addr().String() + identityapi.AppServicePath
	content := "IDENTITY_ENDPOINT=" + at + "\nIDENTITY_HEADER=" + header + "\n"
	if err := durable.WriteFile(path, []byte(content)); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	s.log.Info("managed identity endpoint", "endpoint", at, "imds", s.cfg.IdentityEndpointIMDS, "file", path)
	return &identityEndpoint{newConns(listener, maxIdentityConns, maxIdentityConns, nil), &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}}, nil
}

// run serves until ctx ends, and lets running requests finish, which are short.
func (e *identityEndpoint) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- e.server.Serve(e.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	err := e.server.Shutdown(drain)
	if err != nil {
		err = errors.Join(err, e.server.Close())
	}
	<-failed
	return err
}

// identityHeaderRecord is the sealed record of the endpoint's secret, which stays the same across restarts.
type identityHeaderRecord struct{ Header string }

var identityHeaders = sealed.NewTable[identityHeaderRecord]("server/identity-endpoint", 1)

// identityHeader returns the secret of the endpoint. A new one is made if the file with it is missing.
func identityHeader(ctx context.Context, store *sealed.Store, path string) (string, error) {
	_, err := os.Lstat(path)
	renew := errors.Is(err, fs.ErrNotExist)
	var rec identityHeaderRecord
	err = store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		var err error
		if rec, err = identityHeaders.In().Get(tx, "header"); err == nil && !renew ||
			err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
		var b [32]byte
		rand.Read(b[:]) // never fails: the runtime ends the process instead
		rec.Header = hex.EncodeToString(b[:])
		return identityHeaders.In().Put(tx, "header", rec)
	})
	if err != nil {
		return "", fmt.Errorf("read the secret of the managed identity endpoint: %w", err)
	}
	return rec.Header, nil
}

// namedIdentities are the identities in IdentityEndpointFor.
type namedIdentities struct {
	*identity.Directory
	names []string
}

// lookup finds the identity of a name: an object id, a client id, the path of the resource of a managed identity, or
// the name of an application. Names of resources are not accepted: the creator of a resource chooses its name, and
// could thereby get tokens of that name.
func (n namedIdentities) lookup(name string) (identity.Principal, bool) {
	if p, found := n.LookupClient(name); found {
		return p, true
	}
	if p, err := n.Principal(name); err == nil {
		return p, true
	}
	if p, found := n.Managed(name); found {
		return p, true
	}
	var found []identity.Principal
	for _, p := range n.Principals() {
		if p.Kind == identity.Application && p.Name == name {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return identity.Principal{}, false
	}
	return found[0], true
}

// Assigned implements identityapi.Identities.
func (n namedIdentities) Assigned() []identity.Principal {
	var all []identity.Principal
	for _, name := range n.names {
		p, found := n.lookup(name)
		if found && !slices.ContainsFunc(all, func(q identity.Principal) bool { return q.ID == p.ID }) {
			all = append(all, p)
		}
	}
	return all
}

func (n namedIdentities) missing() []string {
	return slices.DeleteFunc(slices.Clone(n.names), func(name string) bool {
		_, found := n.lookup(name)
		return found
	})
}

// isOwnAddress reports whether an address belongs to this machine.
func isOwnAddress(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(one net.Addr) bool {
		prefix, err := netip.ParsePrefix(one.String())
		return err == nil && prefix.Addr() == a
	})
}

// checkIdentityEndpoint reports mistakes in the settings of the managed identity endpoint.
func (c Config) checkIdentityEndpoint(bad func(setting, format string, args ...any)) {
	if c.IdentityEndpoint == "" {
		if len(c.IdentityEndpointFor) > 0 || c.IdentityEndpointIMDS {
			bad("identity-endpoint", "identity-endpoint and identity-endpoint-for go together: set both, or neither")
		}
		return
	}
	host, _, err := net.SplitHostPort(c.IdentityEndpoint)
	if err != nil {
		bad("identity-endpoint", "must be host:port, such as 127.0.0.1:8444; got %q", c.IdentityEndpoint)
	} else if !isLoopback(host) {
		bad("identity-endpoint", "must be a loopback address, because it has no TLS; got %q", host)
	}
	if len(c.IdentityEndpointFor) == 0 {
		bad("identity-endpoint-for", "identity-endpoint and identity-endpoint-for go together: set both, or neither")
	}
	for _, name := range c.IdentityEndpointFor {
		if strings.TrimSpace(name) == "" {
			bad("identity-endpoint-for", "a name is empty")
		}
	}
}
