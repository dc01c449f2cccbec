package gcpkms

import (
	"errors"
	"fmt"
	"strings"

	"github.com/visage-face/visage/keysource"
)

// loginWords are the words in which the token services say for certain that a principal may not log in, by the code of
// the answer. That a signature or a time cannot be verified is no certainty: a clock, or Google's way to the issuer's
// keys, may be wrong.
var loginWords = map[string][]string{
	"invalid_target":      {"pool or provider is disabled or deleted"},
	"unauthorized_client": {"rejected by the attribute condition"},
	"invalid_grant": {"audience in ID Token", "issuer in ID Token", "account not found", "Account disabled",
		"account has been deleted", "Invalid JWT Signature"},
	"PERMISSION_DENIED": {"iam.serviceAccounts.getAccessToken"},
	"NOT_FOUND":         {""},
}

// isLoginDenied reports whether an error certainly means that the principal may no longer log in.
func isLoginDenied(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	if !ok || !e.login || !e.is(e.code) || e.hidesPermission() {
		return false
	}
	for _, words := range loginWords[e.code] {
		if strings.Contains(e.text, words) {
			return true
		}
	}
	return false
}

// The reasons of google.rpc.ErrorInfo that decide something.
const (
	reasonIAM       = "IAM_PERMISSION_DENIED"
	reasonPerimeter = "SECURITY_POLICY_VIOLATED" // of VPC Service Controls
	reasonExpired   = "ACCESS_TOKEN_EXPIRED"
	// the request has come without its token, which every request has: something on the way has taken it out
	reasonNoToken = "CREDENTIALS_MISSING"
)

// permissions begin the names of the permissions on keys and versions, in texts without a reason. The name of the
// service itself, cloudkms.googleapis.com, is in texts that say that it is switched off.
const permissions = "cloudkms.cryptoKey"

// hidesPermission reports whether a PERMISSION_DENIED is about something else than a permission, such as a service that
// is switched off or an account that is not paid for (SERVICE_DISABLED, BILLING_DISABLED, CONSUMER_SUSPENDED).
func (e *refusal) hidesPermission() bool { return e.reason != "" && e.reason != reasonIAM }

// classified gives an error its class. Only what a service says in its own words, with the status that belongs to them,
// is an answer.
func (o operation) classified(err error) error {
	if e, ok := errors.AsType[ended](err); ok {
		return e.cause
	}
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return o.failure(e.Class, e.Reason, e.Text)
	}
	if e, ok := errors.AsType[*loginError](err); ok {
		if errors.Is(e.err, keysource.ErrDenied) {
			return o.failure(keysource.ErrDenied, keysource.NoIdentity, "its principal can no longer get a token")
		}
		return o.failure(keysource.ErrUnknown, "", fmt.Sprintf("no login could be made: %.300s", e))
	}
	e, ok := errors.AsType[*refusal](err)
	if !ok {
		return o.failure(keysource.ErrUnknown, "", err.Error())
	}
	switch {
	case isLoginDenied(err):
		return o.failure(keysource.ErrDenied, keysource.NoIdentity, "the login is refused: "+e.Error())
	case e.login:
		return o.failure(keysource.ErrUnknown, "", "the login failed: "+e.Error())
	case e.is("UNAUTHENTICATED") && e.reason != reasonExpired && e.reason != reasonNoToken:
		// of a new token; else a clock is wrong, or the token has not arrived
		return o.failure(keysource.ErrDenied, keysource.NoIdentity, "its principal is no longer known: "+e.Error())
	case e.is("PERMISSION_DENIED") && e.reason == reasonPerimeter:
		return o.failure(keysource.ErrDenied, keysource.Firewall, e.Error())
	case e.is("PERMISSION_DENIED") && !e.hidesPermission() &&
		(e.reason == reasonIAM || strings.Contains(e.text, permissions)):
		return o.failure(keysource.ErrDenied, keysource.Permission, e.Error())
	case e.is("NOT_FOUND"):
		return o.failure(keysource.ErrDenied, keysource.Missing, e.Error())
	case e.is("INVALID_ARGUMENT") && strings.HasPrefix(e.text, "Decryption failed"):
		return o.failure(keysource.ErrWrong, "", e.Error())
	}
	return o.failure(keysource.ErrUnknown, "", e.Error())
}

func (o operation) failure(class error, reason keysource.Reason, what string) error {
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", o.verb, o.key, what)}
}
