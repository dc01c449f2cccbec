package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// The classes by which the engine decides what to do with an error. A caller sees the sentence and engine's words.
var (
	// the transaction conflicted with another one, and can run again
	errConflict = errors.New("the transaction conflicts with others again and again")
	// it is errConflict of a transaction that has waited for another one of its scope, before its function began
	errOutrun = fmt.Errorf("%w: others of its scope come first", errConflict)
	// nothing was done: the connection, or the server, is not there
	errLost = errors.New("PostgreSQL does not answer")
	// no connection became free
	errBusy = fmt.Errorf("%w: every connection of the store to PostgreSQL is in use; raise pool_max_conns in the "+
		"store's URL, and max_connections of the server with it", engine.ErrUnavailable)
	// no place became free for a snapshot that lasts
	errBusyLong = fmt.Errorf("%w: as many large collections are read already as pool_max_conns allows at a time; "+
		"raise it in the store's URL, and max_connections of the server with it", engine.ErrUnavailable)
	// the answer to a commit was lost
	errUnknown = errors.New("whether the transaction was committed is unknown: PostgreSQL went away before it answered")
)

// OutageError is every error of a database that cannot be used now, and may be later. It is a visage.Outage.
type OutageError struct{ err error }

// outage makes an OutageError of an error that has one of the classes above.
func outage(err error) error { return &OutageError{err} }

// Error says what happened.
func (e *OutageError) Error() string { return e.err.Error() }

// Unwrap returns what happened.
func (e *OutageError) Unwrap() error { return e.err }

// Outage is the sentence for a caller.
func (e *OutageError) Outage() string {
	switch {
	case errors.Is(e.err, errUnknown):
		return "The service's database went away before it had answered, so it is unknown whether the change was " +
			"made. Look at what is there before you try again."
	case errors.Is(e.err, errBusyLong):
		return "As many large collections are read from the service's database at the moment as it can take. Try " +
			"again later."
	case errors.Is(e.err, engine.ErrReadOnly):
		return "The service's database is read-only at the moment. Nothing was written; reading goes on. Try again " +
			"later."
	case errors.Is(e.err, errConflict), errors.Is(e.err, errWaited):
		return "Other changes to the same data have kept this one waiting for too long. Nothing was changed. Try again."
	}
	return "The service's database cannot be used at the moment. Try again later."
}

// The codes of PostgreSQL that the engine acts on; see appendix A of its manual.
const (
	serializationFailure  = "40001"
	deadlockDetected      = "40P01"
	uniqueViolation       = "23505" // of two that inserted the same key at the same moment
	duplicateSchema       = "42P06" // of two that make the same schema at the same moment
	diskFull              = "53100"
	tooManyConnections    = "53300"
	outOfMemory           = "53200"
	readOnly              = "25006"
	insufficientPrivilege = "42501"
	invalidPassword       = "28P01"
	invalidAuthorization  = "28000"
	undefinedTable        = "42P01"
	undefinedDatabase     = "3D000"
	programLimit          = "54000"
	dataCorrupted         = "XX001"
	indexCorrupted        = "XX002"
	adminShutdown         = "57P01"
	crashShutdown         = "57P02"
	cannotConnectNow      = "57P03"
	idleTimeout           = "25P03"
	lockNotAvailable      = "55P03" // lock_timeout
	queryCanceled         = "57014" // statement_timeout, or an administrator
	protocolViolation     = "08P01" // PgBouncer's own errors have it
	// a session that is another one than the one before
	duplicateStatement = "42P05"
	noSuchStatement    = "26000"
)

// cause puts an error of PostgreSQL, or of the way to it, into the words of engine.
func cause(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return lost(err)
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return unconnected(err)
	}
	with := func(class error, hint string) error {
		err := fmt.Errorf("%w: PostgreSQL says: %s (%s)%s", class, pg.Message, pg.Code, hint)
		if errors.Is(class, engine.ErrUnavailable) || errors.Is(class, engine.ErrReadOnly) || class == errRefused {
			return outage(err)
		}
		return err
	}
	switch pg.Code {
	case serializationFailure, deadlockDetected, uniqueViolation, duplicateSchema:
		return with(errConflict, "")
	case diskFull:
		return &FullError{message: pg.Message}
	case readOnly:
		return with(engine.ErrReadOnly, "; let the store's URL lead to the primary server")
	case dataCorrupted, indexCorrupted:
		return with(engine.ErrDamaged, "")
	case adminShutdown, crashShutdown, cannotConnectNow, idleTimeout:
		return with(errLostBy, "")
	case lockNotAvailable, queryCanceled:
		return with(errWaited, "")
	case tooManyConnections:
		return with(errLostBy, "; raise max_connections of the server, or lower pool_max_conns in the store's URL")
	case invalidPassword, invalidAuthorization:
		return with(errRefused, "; see store-password-file or, for epoch keys, epoch-keys-secret-file, and "+
			"pg_hba.conf of the server")
	case undefinedDatabase:
		return with(errRefused, "; make it with CREATE DATABASE")
	case insufficientPrivilege:
		return with(errRefused, "; docs/operations/postgres.md lists the rights that the role needs")
	case duplicateStatement, noSuchStatement:
		return with(errPooler, "")
	case protocolViolation:
		if strings.Contains(pg.Message, "pooling mode") {
			return with(errPooler, "")
		}
	}
	if strings.HasPrefix(pg.Code, "08") {
		return with(errLostBy, "")
	}
	if pg.Code == outOfMemory || pg.Code == programLimit || strings.HasPrefix(pg.Code, "58") {
		return with(engine.ErrUnavailable, "")
	}
	return fmt.Errorf("PostgreSQL says: %s (%s)", pg.Message, pg.Code)
}

var (
	// errLostBy is errLost where the server itself says so.
	errLostBy = fmt.Errorf("%w: %w", engine.ErrUnavailable, errLost)
	// errStandby is of a session at a standby, which has what was there some time ago: as good as no answer. Another
	// connection may lead to the primary, or this one when the standby has become that.
	errStandby = fmt.Errorf("%w: the server is a standby; let the store's URL lead to the primary, with all servers "+
		"as its hosts or an address that follows the primary", errLostBy)
	// errWaited is of a statement that took too long, mostly for another transaction's lock. Nothing was done.
	errWaited = fmt.Errorf("%w: a statement took too long", engine.ErrUnavailable)
	// errRefused is of a server that does not take the role.
	errRefused = errors.New("PostgreSQL refuses the store's role")
	// errPassword is of a password that cannot be read.
	errPassword = errors.New("the password file (store-password-file or, for epoch keys, epoch-keys-secret-file)")
	// errCertificates is of files that cannot be read, or are half renewed.
	errCertificates = errors.New("the files of sslrootcert, sslcert and sslkey in the store's URL")
	errPooler       = errors.New("PgBouncer, or what stands before PostgreSQL, gives each transaction another " +
		"session: set pool_mode=session for the database of the store")
)

// lost tells that nobody answered in time.
func lost(err error) error {
	if err == nil {
		return nil
	}
	return outage(fmt.Errorf("%w: %w", errLostBy, err))
}

// unconnected is cause for errors that PostgreSQL did not send: of the network, of TLS, of the way there.
func unconnected(err error) error {
	switch {
	case errors.Is(err, errPassword), errors.Is(err, errCertificates):
		return outage(err)
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return outage(fmt.Errorf("%w: the server has no TLS, and the store's URL asks for it; set ssl = on with "+
			"a certificate in postgresql.conf", errInsecure))
	case isCertificate(err):
		return outage(fmt.Errorf("%w: %w; sslrootcert in the store's URL names the authority that issued it",
			errInsecure, err))
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err) {
		return lost(err)
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		return lost(err)
	}
	return err
}

var errInsecure = errors.New("the connection to PostgreSQL cannot be protected")

func isCertificate(err error) bool {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// FullError says that the volume of the database is full. It is an engine.ErrFull.
type FullError struct{ message string }

// Error says what the server said.
func (e *FullError) Error() string {
	return "the volume of the database is full: PostgreSQL says: " + e.message
}

// Is makes it an engine.ErrFull.
func (e *FullError) Is(target error) bool { return target == engine.ErrFull }

// Shortage is the sentence for a caller.
func (e *FullError) Shortage() string {
	return "The volume of the service's database is full. Nothing was written. Reading goes on; have the operator " +
		"free space on the volume or enlarge it."
}

// definite reports whether an error of a commit is the server's word that nothing was committed. One that ends the
// session is not: it may come after the commit. That a transaction was idle for too long can only come before.
func definite(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.SeverityUnlocalized == "ERROR" || pg.Code == idleTimeout)
}

// pause waits about so long, or until ctx ends.
func pause(ctx context.Context, delay time.Duration) error {
	t := time.NewTimer(delay/2 + rand.N(delay))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
