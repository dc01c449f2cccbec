package sealed

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/postgres"
)

var (
	// ErrUnavailable is every error of a database that does not answer now and may later; nothing was written.
	ErrUnavailable = engine.ErrUnavailable
	// ErrReadOnlyDatabase is every error of a database that takes no writes now.
	ErrReadOnlyDatabase = engine.ErrReadOnly
)

// Ping asks the database whether it answers. Errors: ErrReadOnlyDatabase, which still reads; every other one says that
// it does not answer. A store on a disk answers.
func (s *Store) Ping(ctx context.Context) error {
	if s.database == nil {
		return nil
	}
	return s.database.Ping(ctx)
}

// SchemaError says that the database has no schema of the store, or an older one, and that the role may not change
// that.
type SchemaError = postgres.SchemaError

// openPostgres opens the database that cfg.Engine names.
func openPostgres(ctx context.Context, cfg Config) (engine.Engine, error) {
	if !cfg.keysElsewhere() && !filepath.IsAbs(cfg.KeyDir) {
		return nil, fmt.Errorf("key directory %q: an absolute directory is needed", cfg.KeyDir)
	}
	e, err := postgres.Open(ctx, cfg.postgres())
	if err != nil {
		return nil, err // and no engine, which a nil pointer would be
	}
	return e, nil
}

func (c Config) postgres() postgres.Config {
	return postgres.Config{URL: c.Engine, PasswordFile: c.PasswordFile, Logger: c.Logger, Admit: c.admit}
}

// DatabaseStats is what the connections to a database have done since the store was opened.
type DatabaseStats = postgres.Stats

// Database returns what the connections to the database have done; false when the store lies on a disk.
func (s *Store) Database() (DatabaseStats, bool) {
	if s.database == nil {
		return DatabaseStats{}, false
	}
	return s.database.Stats(), true
}

// CheckDatabase reports what is wrong with the URL of a database, without connecting to it.
func CheckDatabase(url string) error { return postgres.CheckURL(url) }

// DatabaseIsEmpty reports whether the database that cfg.Engine names holds no store yet.
func DatabaseIsEmpty(ctx context.Context, cfg Config) (bool, error) {
	return postgres.IsEmpty(ctx, cfg.postgres())
}

// MigrateDatabase makes the schema in the database that cfg.Engine names, or brings it to its newest version, and
// returns the versions before and after. It is for a role that may do so when the one that the service runs as may not.
// Errors: *SchemaError, *NewerError.
func MigrateDatabase(ctx context.Context, cfg Config) (before, after int, err error) {
	return postgres.Migrate(ctx, cfg.postgres())
}

// compareForever compares the clocks until ctx ends, and reports when they get too far apart.
func (s *Store) compareForever(ctx context.Context) {
	wrong := false // as it was reported last
	for s.clock.server != nil {
		err := s.clock.check()
		switch {
		case err != nil && !wrong:
			s.report(Event{Kind: ClockWrong, Err: err})
		case err == nil && wrong:
			s.report(Event{Kind: ClockRight})
		}
		wrong = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(compareEvery):
		}
		asking, cancel := context.WithTimeout(ctx, mostUnsure)
		s.clock.compare(asking)
		cancel()
	}
}

// ClockOff returns how far the clock of this machine is ahead of that of the engine's server; 0 where there is none, as
// on a local disk, or it has not answered yet.
func (s *Store) ClockOff() time.Duration { return s.clock.off() }

// Punctual returns a *ClockError while the store does nothing because the clocks are too far apart.
func (s *Store) Punctual() error { return s.clock.check() }
