package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/vision"
)

// Rehearse rehearses the revocation of the key of a resource on a copy of this server, and records that: see
// drill.Room.Run. The caller has checked that by operates the instance: a copy of all data is made on the way. Call it
// after Ready. Refusals: ResourceNotFound; CustomerManagedKeyNotEnabled for a resource under the service's key;
// RequestConflict while another rehearsal runs.
func (s *Server) Rehearse(
	ctx context.Context, by visage.Caller, resource string, progress func(drill.Step),
) (*drill.Report, error) {
	e := audit.Event{Kind: audit.OperatorAction, Actor: audit.ActorOf(by), RequestID: by.RequestID}
	e.Set(audit.DetailOperation, "drill")
	report, err := s.rehearse(ctx, by, resource, progress, &e)
	if report != nil && !report.Passed {
		e.Set(audit.DetailState, "failed")
	}
	return report, audit.Answer(ctx, s.audit.Load(), err, e.Ended(err))
}

func (s *Server) rehearse(
	ctx context.Context, by visage.Caller, resource string, progress func(drill.Step), e *audit.Event,
) (*drill.Report, error) {
	of, err := s.accounts.Get(ctx, resource)
	if err != nil {
		return nil, err
	}
	e.Resource = of.ID
	now, err := s.accounts.Encryption(ctx, of)
	if err != nil {
		return nil, err
	}
	e.SetKey(now.Key)
	if now.Key == (visage.KeyRef{}) {
		return nil, visage.Refuse(visage.Conflict, "CustomerManagedKeyNotEnabled",
			"The data of resource %q is encrypted with the service's key: there is nothing to revoke.", of.Name)
	}
	return s.drills.Run(ctx, rehearsalSource{s.backups, by}, drill.Plan{Resource: of.Name}, progress)
}

// rehearsalSource copies a running server for a rehearsal.
type rehearsalSource struct {
	backups backups
	by      visage.Caller
}

// Backup implements drill.Source.
func (r rehearsalSource) Backup(ctx context.Context, read func(io.Reader) error) error {
	return piped(func(w io.Writer) error { return r.backups.WriteBackup(ctx, r.by, w) }, read)
}

// Keyring implements drill.Source.
func (r rehearsalSource) Keyring(ctx context.Context, read func(io.Reader) error) error {
	return piped(func(w io.Writer) error { return r.backups.WriteKeyring(ctx, r.by, w) }, read)
}

// piped calls read with what write writes, and returns when both have ended.
func piped(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	err := read(r)
	r.CloseWithError(errors.New("the reader has ended")) // it is no error when everything was written
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	return err
}

// copies makes copies of a server for rehearsals.
type copies struct {
	cfg     Config
	origin  visage.Origin
	started func(*Server) // is told of each server that has started; nil: nobody wants to know
}

// Copies returns how rehearsals copy a server with these settings that clients reach at an origin. The copies have the
// server's root key, domain, public port and application in Azure, and know which secrets key stores have refused.
func Copies(cfg Config, origin visage.Origin) drill.Copies {
	setDefault(&cfg.keyStoreMemory, &stores.Memory{})
	return copies{cfg: cfg, origin: origin}
}

func (c copies) config(dir string) (Config, error) {
	copied := Config{
		Dir: dir, Listen: "127.0.0.1:0", Domain: c.origin.Hostname(), Recogniser: blind{},
		RootKeys: c.cfg.RootKeys, Rate: 100_000,
		// a copy uses the same key vaults
		AzureTenant: c.cfg.AzureTenant, AzureClient: c.cfg.AzureClient, AzureSecretFile: c.cfg.AzureSecretFile,
		AzureResources: c.cfg.AzureResources, azureNetwork: c.cfg.azureNetwork,
		KeyStores: c.cfg.KeyStores, KeyStoresFile: c.cfg.KeyStoresFile, keyStoreFiles: c.cfg.keyStoresDir(),
		keyStoreMemory: c.cfg.keyStoreMemory, FederationIssuer: c.cfg.FederationIssuer,
		Logger: slog.New(slog.DiscardHandler),
	}
	if len(copied.RootKeys) == 0 {
		copied.RootKeys = []string{"file:" + filepath.Join(c.cfg.keysDir(), "root.key")}
	}
	var err error
	copied.PublicPort, err = strconv.Atoi(c.origin.Port())
	return copied, err
}

// Restore implements drill.Copies.
func (c copies) Restore(ctx context.Context, dir string, keyring io.ReadSeeker, backup io.Reader) error {
	cfg, err := c.config(dir)
	if err != nil {
		return err
	}
	return Restore(ctx, cfg, keyring, backup)
}

// Start implements drill.Copies.
func (c copies) Start(ctx context.Context, dir string) (drill.Access, func() error, error) {
	cfg, err := c.config(dir)
	if err != nil {
		return drill.Access{}, nil, err
	}
	srv, err := New(cfg)
	if err != nil {
		return drill.Access{}, nil, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(running) }()
	select {
	case err := <-ended:
		cancel()
		if err == nil {
			err = fmt.Errorf("it has ended: %w", context.Cause(ctx))
		}
		return drill.Access{}, nil, err
	case <-srv.Ready():
	}
	if c.started != nil {
		c.started(srv)
	}
	op := srv.Operator()
	return drill.Access{
		Endpoint: op.Endpoint, Listen: op.Listen, CAFile: op.CAFile, TenantID: op.TenantID,
		SubscriptionID: op.SubscriptionID, Group: op.ResourceGroup, ClientID: op.ClientID,
		ClientSecret: op.ClientSecret, VaultsDomain: vaultLabel, Revocation: srv.revocation,
	}, func() error { cancel(); return <-ended }, nil
}

// blind recognises nothing: a rehearsal has no photos.
type blind struct{}

// The methods of blind implement face.Recogniser.
func (blind) Name() string                { return "none" }
func (blind) Dim() int                    { return 128 }
func (blind) Supports() vision.Attributes { return 0 }
func (blind) Confidence(float64) float64  { return 0 }
func (blind) Threshold(int) float64       { return 0.5 }
func (blind) Detect(context.Context, []byte, vision.Want) (*vision.Photo, error) {
	return nil, errors.New("a rehearsal does not process photos")
}
