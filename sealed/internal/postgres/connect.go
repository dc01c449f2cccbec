package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/visage-face/visage/internal/secretfile"
	"github.com/visage-face/visage/sealed/internal/engine"
)

// Schemes are those of the URLs that Open takes.
var Schemes = []string{"postgres", "postgresql"}

// CheckURL reports what is wrong with the URL of a database, without connecting to it.
func CheckURL(address string) error {
	_, err := parse(Config{URL: address})
	return err
}

// connect opens connections; whether the server answers shows with the first use.
func connect(ctx context.Context, cfg Config) (*Engine, error) {
	pool, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	e := &Engine{logger: cfg.Logger, patience: cmp.Or(cfg.Patience, DefaultPatience)}
	if e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	if e.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	each := int(pool.MaxConns-singleReads) / 2
	e.writers, e.views = make(chan struct{}, each), make(chan struct{}, each)
	e.long = newLongViews(each)
	return e, nil
}

// parse makes the configuration of the connections out of the URL.
func parse(cfg Config) (*pgxpool.Config, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil { // its text has the URL, and so maybe a password
		return nil, errors.New("the URL of the database cannot be parsed: it has the form " +
			"postgres://role@host/database, with special characters as %xx")
	}
	query := u.Query()
	if _, there := u.User.Password(); there || query.Has("password") {
		return nil, errors.New("the URL of the database has a password, which everybody on the machine can see in " +
			"the list of processes: take it out, and name a file with it in the setting store-password-file or, for " +
			"epoch keys, epoch-keys-secret-file")
	}
	pool, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("the store's URL: %w", err)
	}
	stated := query.Get("sslmode")
	if stated == "" {
		stated = os.Getenv("PGSSLMODE")
	}
	if hosts := distant(pool.ConnConfig); len(hosts) > 0 {
		switch stated {
		case "verify-full", "verify-ca":
		case "": // left to itself, the library would not verify the server's certificate
			query.Set("sslmode", "verify-full")
			u.RawQuery = query.Encode()
			if pool, err = pgxpool.ParseConfig(u.String()); err != nil {
				return nil, fmt.Errorf("the store's URL: %w", err)
			}
		default:
			return nil, fmt.Errorf("the store's URL has sslmode=%s, but %s is another machine: the store connects to "+
				"one with sslmode=verify-full (the default) or verify-ca alone, with sslrootcert for an authority of "+
				"your own", stated, hosts[0])
		}
	}
	return tune(cfg, pool, u, query)
}

// tune sets what the URL leaves open.
func tune(cfg Config, pool *pgxpool.Config, u *url.URL, query url.Values) (*pgxpool.Config, error) {
	if err := choosePrimary(pool, query); err != nil {
		return nil, err
	}
	switch {
	case cfg.Connections > 0:
		pool.MaxConns = int32(cfg.Connections)
	case !query.Has("pool_max_conns"):
		pool.MaxConns = DefaultConnections
	}
	if cfg.Connections == 0 && pool.MaxConns < MinConnections {
		return nil, fmt.Errorf("the store's URL has pool_max_conns=%d; at least %d connections are needed",
			pool.MaxConns, MinConnections)
	}
	if !query.Has("connect_timeout") {
		pool.ConnConfig.ConnectTimeout = connectTimeout
	}
	pool.ConnConfig.DialFunc = dialer(pool.ConnConfig.ConnectTimeout).DialContext
	if pool.ConnConfig.RuntimeParams["application_name"] == "" {
		pool.ConnConfig.RuntimeParams["application_name"] = "visage"
	}
	pool.MinIdleConns = 2
	pool.PingTimeout = connectTimeout
	pool.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > 10*time.Second // what is lost within is noticed by the first statement
	}
	var left hostsLeftOut
	pool.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) (err error) {
		if c.TLSConfig != nil {
			if err := readCertificates(u.String(), c); err != nil {
				return err
			}
		}
		left.find(ctx, c)
		if cfg.PasswordFile != "" {
			c.Password, err = readPassword(cfg.PasswordFile)
		}
		return err
	}
	patience := cmp.Or(cfg.Patience, DefaultPatience)
	milliseconds := func(times time.Duration) string {
		return strconv.FormatInt((times * patience).Milliseconds(), 10)
	}
	pool.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		var standby bool
		err := conn.QueryRow(ctx, sessionSettings, milliseconds(statementPatience), milliseconds(lockPatience),
			strconv.FormatInt(idleTime.Milliseconds(), 10)).Scan(&standby, nil)
		if err == nil && standby {
			err = outage(errStandby)
		}
		if err == nil {
			left.since.Store(0)
		}
		return err
	}
	return pool, nil
}

// choosePrimary has connecting go on to the next host when one is a standby. A server that takes no writes for another
// reason is good enough, for reading goes on; target_session_attrs=read-write leaves that out as well.
func choosePrimary(pool *pgxpool.Config, query url.Values) error {
	const name = "target_session_attrs"
	switch stated := cmp.Or(query.Get(name), os.Getenv("PGTARGETSESSIONATTRS")); stated {
	case "primary", "read-write":
	case "":
		if len(pool.ConnConfig.Fallbacks) > 0 && pool.ConnConfig.ValidateConnect == nil {
			pool.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
		}
	default:
		return fmt.Errorf("the store's URL has %s=%s, with which it may lead to a standby, whose data are old: "+
			"leave it out, which means primary, or set it to read-write", name, stated)
	}
	return nil
}

// readCertificates reads the files of sslrootcert, sslcert and sslkey for a new connection: they are renewed while the
// engine is open.
func readCertificates(address string, c *pgx.ConnConfig) error {
	now, err := pgconn.ParseConfig(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errCertificates, err)
	}
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = now.Host, now.Port, now.TLSConfig, now.Fallbacks
	return nil
}

// sessionSettings are what the engine relies on, whatever the server's configuration says: a commit that is answered
// is durable; rows are found by their index, also in a table that was just filled and has no statistics yet; statements
// end, and wait for others' locks, within a time ($1 and $2, in milliseconds); the server ends a session that does
// nothing within a transaction for a time ($3), as that of a process which is paused, so that its locks do not stop all
// others; and it drops sessions whose machine is gone, with the locks that they hold, within a minute. The first column
// is isStandby.
const sessionSettings = isStandby + `, ARRAY[
	set_config('synchronous_commit',
		CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
		false),
	set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
	set_config('enable_sort', 'off', false), set_config('jit', 'off', false),
	set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
	set_config('idle_in_transaction_session_timeout', $3, false),
	set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '10', false),
	set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '50000', false)]`

// distant returns the hosts of a configuration that are not this machine.
func distant(c *pgx.ConnConfig) (hosts []string) {
	all := []string{c.Host}
	for _, f := range c.Fallbacks {
		all = append(all, f.Host)
	}
	for _, host := range all {
		ip := net.ParseIP(host)
		if filepath.IsAbs(host) || strings.HasPrefix(host, "@") { // Unix sockets
			continue
		}
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// readPassword returns the first line of a file.
func readPassword(path string) (string, error) {
	line, err := secretfile.FirstLine(path)
	if errors.Is(err, secretfile.ErrEmpty) {
		return "", fmt.Errorf("%w: the first line of %s is empty, and should be the role's password", errPassword, path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPassword, err)
	}
	return line, nil
}

// oldest is the oldest server that the engine works with: the oldest that PostgreSQL's makers still keep.
const oldest = 14

// checkServer refuses a server that cannot keep what it acknowledges, or cannot be written to.
func (e *Engine) checkServer(ctx context.Context) error {
	var number int
	var fsync, encoding, only string
	err := e.again(ctx, func() error {
		err := e.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('fsync'),
			current_setting('server_encoding'), current_setting('transaction_read_only')`,
		).Scan(&number, &fsync, &encoding, &only)
		return cause(err)
	})
	switch {
	case err != nil:
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	case number/10_000 < oldest:
		return fmt.Errorf("the server is PostgreSQL %d; Visage needs %d or later", number/10_000, oldest)
	case only == "on":
		return fmt.Errorf("%w: default_transaction_read_only is on for the server, the database or the role",
			engine.ErrReadOnly)
	case fsync != "on":
		return errors.New("the server has fsync = off, with which a crash of its machine loses data that was " +
			"acknowledged: set fsync = on in postgresql.conf")
	}
	return nil
}

// checkSessions refuses a pooler that gives each transaction another session: the settings of sessionSettings, and what
// was prepared, would be those of somebody else. It marks one session, and looks whether the mark moves while another
// connection is in a transaction: a pooler that takes sessions back after each transaction either gives the marked one
// to the other connection, or gives the first connection another one.
func (e *Engine) checkSessions(ctx context.Context) error {
	first, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer first.Release()
	mark := rand.Text()
	if _, err := first.Exec(ctx, "SELECT set_config('visage.session', $1, false)", mark); err != nil {
		return cause(err)
	}
	second, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer finish(second)
	const look = "SELECT coalesce(current_setting('visage.session', true), '')"
	var of string
	if _, err := second.Exec(ctx, "BEGIN"); err != nil {
		return cause(err)
	}
	if err := second.QueryRow(ctx, look).Scan(&of); err != nil {
		return cause(err)
	}
	if of == mark {
		return errPooler
	}
	if err := first.QueryRow(ctx, look).Scan(&of); err != nil {
		return cause(err)
	}
	if of != mark {
		return errPooler
	}
	return nil
}
