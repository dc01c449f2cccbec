package pkcs11

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage/keysource"
)

// maxSessions bounds the sessions with a token.
const maxSessions = 8

// Config says how a token is reached.
type Config struct {
	Address string // of ParseKey
	Module  string // the library, by its absolute path
	// Parameters are passed to the library when it is initialised, as the reserved argument of C_Initialize. Few
	// libraries want any: that of NSS does.
	Parameters string
	// Destroyable permits keys that applications may destroy.
	Destroyable bool
}

// PIN is the name of the file with the PIN, in its first line. It is read for each login. A PIN that was refused is not
// tried again until the file has another.
const PIN = "pin"

// Service is what a token needs of the service: its files, and a memory of which PIN was refused, which outlives this
// process and is that of all processes for the token. Kept is as new as the last call of File.
type Service interface {
	File(ctx context.Context, name string) ([]byte, error)
	Kept() []byte
	Keep(what []byte)
}

// Token is a token and its library. It is safe for concurrent use.
type Token struct {
	cfg     Config
	at      place
	lib     *api.Ctx
	service Service

	slots  chan struct{} // one for each session
	login  chan struct{} // holds one; whoever logs in takes it
	logins atomic.Uint64 // since the library was loaded
	idle   chan api.SessionHandle
}

// Load loads the library of a token. The token itself is looked for when it is needed.
func Load(cfg Config, service Service) (*Token, error) {
	at, err := placeOf(cfg.Address)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(cfg.Module) {
		return nil, fmt.Errorf("the module %q is no absolute path", cfg.Module)
	}
	if _, err := os.Stat(cfg.Module); err != nil {
		return nil, fmt.Errorf("the module of the token: %w", err)
	}
	lib := api.New(cfg.Module)
	if lib == nil {
		return nil, fmt.Errorf("%s cannot be loaded as a PKCS#11 module", cfg.Module)
	}
	var options []api.InitializeOption
	if cfg.Parameters != "" {
		text := append([]byte(cfg.Parameters), 0)
		options = append(options, api.InitializeWithReserved(unsafe.Pointer(&text[0])))
	}
	if err := lib.Initialize(options...); err != nil {
		lib.Destroy()
		return nil, fmt.Errorf("initialise the module %s: %w", cfg.Module, err)
	}
	t := &Token{
		cfg: cfg, at: at, lib: lib, service: service, slots: make(chan struct{}, maxSessions),
		login: make(chan struct{}, 1), idle: make(chan api.SessionHandle, maxSessions),
	}
	t.login <- struct{}{}
	return t, nil
}

// Close logs out and unloads the library. No call may be running.
func (t *Token) Close() error {
	err := t.lib.Finalize() // which closes all sessions
	t.lib.Destroy()
	return err
}

// with does something in a session that is logged in. Nothing that goes wrong is an answer unless the session was
// logged in before and after it, with no login between: after a logout, keys look missing and data malformed. A session
// or an object that has gone is looked for once more.
func (t *Token) with(ctx context.Context, do func(api.SessionHandle) error) error {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var last error
	for second := range 2 {
		session, logins, err := t.session(ctx)
		if err != nil {
			return err
		}
		if err = do(session); err == nil {
			t.idle <- session // which has room: there are as many slots
			return nil
		}
		info, infoErr := t.lib.GetSessionInfo(session)
		certain := infoErr == nil && loggedIn(info) && logins == t.logins.Load()
		own, isOwn := errors.AsType[*keysource.Error](err)
		if certain && (isOwn || answers(err)) {
			t.idle <- session
		} else {
			_ = t.lib.CloseSession(session) // it may be gone, or in the middle of something
		}
		// NSS hides the keys a moment before a session says that it is not logged in any more.
		missing := isOwn && own.Reason == keysource.Missing
		if certain && !gone(err) && (!missing || second == 1) {
			return err
		}
		last = err
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return unknown("the session with the token ended", last)
}

// answers reports whether an error is one with which an operation has ended, so that its session goes on.
func answers(err error) bool {
	code, _ := errors.AsType[api.Error](err)
	return code == api.CKR_ENCRYPTED_DATA_INVALID || code == api.CKR_KEY_FUNCTION_NOT_PERMITTED
}

// gone reports whether an error says that a session or an object was there before.
func gone(err error) bool {
	code, _ := errors.AsType[api.Error](err)
	switch code {
	case api.CKR_SESSION_HANDLE_INVALID, api.CKR_SESSION_CLOSED, api.CKR_OBJECT_HANDLE_INVALID,
		api.CKR_KEY_HANDLE_INVALID, api.CKR_USER_NOT_LOGGED_IN:
		return true
	}
	return false
}

func loggedIn(info api.SessionInfo) bool {
	return info.State == api.CKS_RO_USER_FUNCTIONS || info.State == api.CKS_RW_USER_FUNCTIONS
}

// session returns a session that is logged in, and how many logins there were by then.
func (t *Token) session(ctx context.Context) (api.SessionHandle, uint64, error) {
	for {
		if ctx.Err() != nil {
			return 0, 0, context.Cause(ctx)
		}
		var session api.SessionHandle
		fresh := false
		select {
		case session = <-t.idle:
		default:
			var err error
			if session, err = t.open(); err != nil {
				return 0, 0, unknown("open a session with the token", err)
			}
			fresh = true
		}
		logins, err := t.logIn(ctx, session)
		if err == nil {
			return session, logins, nil
		}
		_ = t.lib.CloseSession(session) // it may be gone
		if _, own := errors.AsType[*keysource.Error](err); own || fresh {
			return 0, 0, err
		}
	}
}

// open opens a session with the token of the address.
func (t *Token) open() (api.SessionHandle, error) {
	slots, err := t.lib.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var found []uint
	for _, slot := range slots {
		info, err := t.lib.GetTokenInfo(slot)
		if err != nil {
			continue // a token that is being taken out, or is not ours
		}
		is := map[string]string{
			"token": info.Label, "manufacturer": info.ManufacturerID, "model": info.Model, "serial": info.SerialNumber,
		}
		matches := true
		for name, value := range t.at {
			matches = matches && is[name] == value
		}
		if matches {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d tokens are there as %s, and there must be one", len(found), t.at)
	}
	return t.lib.OpenSession(found[0], api.CKF_SERIAL_SESSION)
}

// logIn logs a session in if it is not, and returns how many logins there were. A login is that of all sessions.
func (t *Token) logIn(ctx context.Context, session api.SessionHandle) (uint64, error) {
	before := t.logins.Load()
	info, err := t.lib.GetSessionInfo(session)
	if err != nil {
		return 0, unclassified{err}
	}
	if loggedIn(info) {
		return before, nil
	}
	select {
	case <-t.login:
		defer func() { t.login <- struct{}{} }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if info, err = t.lib.GetSessionInfo(session); err != nil {
		return 0, unclassified{err}
	}
	if loggedIn(info) {
		return t.logins.Load(), nil
	}
	raw, err := t.service.File(ctx, PIN)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, unknown("read the PIN of the token", err)
	}
	defer clear(raw)
	pin, _, _ := bytes.Cut(raw, []byte("\n"))
	pin = bytes.TrimRight(pin, "\r")
	if len(pin) == 0 {
		return 0, unknown("read the PIN of the token", errors.New("the file is empty"))
	}
	if t.wasRefused(pin) {
		return 0, noIdentity("the PIN was refused and is not tried again, because tokens lock it after a few " +
			"attempts: put the right one into its file")
	}
	err = t.lib.Login(session, api.CKU_USER, string(pin))
	code, _ := errors.AsType[api.Error](err)
	switch {
	case err == nil, code == api.CKR_USER_ALREADY_LOGGED_IN:
		return t.logins.Add(1), nil
	case code == api.CKR_PIN_INCORRECT, code == api.CKR_PIN_LEN_RANGE, code == api.CKR_PIN_INVALID:
		t.refuse(pin)
		return 0, noIdentity("the token refuses the PIN: " + code.Error())
	case code == api.CKR_PIN_LOCKED, code == api.CKR_PIN_EXPIRED, code == api.CKR_USER_PIN_NOT_INITIALIZED:
		return 0, noIdentity("the token has no PIN that it accepts: " + code.Error())
	case gone(err):
		return 0, unclassified{err}
	}
	return 0, unknown("log in to the token", err)
}

// unclassified is an error of a session that may be replaced.
type unclassified struct{ err error }

func (u unclassified) Error() string { return u.err.Error() }

func unknown(what string, err error) error {
	return &keysource.Error{Class: keysource.ErrUnknown, Text: fmt.Sprintf("%s: %v", what, err)}
}

func noIdentity(text string) error {
	return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.NoIdentity, Text: text}
}

const saltSize = 16

// refuse notes that a PIN was refused, as salt and HMAC, for this process, the others for the token, and those that
// follow.
func (t *Token) refuse(pin []byte) {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails: the runtime ends the process instead
	t.service.Keep(digest(salt, pin))
}

func (t *Token) wasRefused(pin []byte) bool {
	refused := t.service.Kept()
	return len(refused) > saltSize && hmac.Equal(refused, digest(refused[:saltSize:saltSize], pin))
}

func digest(salt, pin []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write(pin)
	return mac.Sum(salt)
}

// nonce returns a new nonce of AES-GCM.
func nonce() []byte {
	n := make([]byte, nonceSize)
	rand.Read(n) // as above
	return n
}
