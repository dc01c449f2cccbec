package stores

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
)

// Step is one thing that a trial of a store shows.
type Step string

// The steps of a trial, in their order.
const (
	Reachable   Step = "reachable"   // the server accepts a connection
	Certificate Step = "certificate" // it has a certificate that the description trusts
	LoggedIn    Step = "login"       // the identity, or the application of the description, may log in
	KeyFound    Step = "key"         // it may read the key
)

// Finding is what a trial shows of one step.
type Finding struct {
	Step  Step
	Met   bool
	Known bool   // false: it was not tried, or the store gave no certain answer
	Says  string // the store's answer, or what is known of it, as a sentence without its full stop; may be empty
}

// Trial is the result of Connections.Try.
type Trial struct {
	Findings []Finding
	// Key is the description of the key; nil: it was not read.
	Key *keysource.Description
	// Asked is how long the store took to log the identity in and describe the key; zero: it was not asked.
	Asked time.Duration
	// Err is what the store has said when the key was described; nil: it was described, or not asked for.
	Err error
}

// Passed reports whether every step is met that was tried, or would have been.
func (t Trial) Passed() bool {
	for _, f := range t.Findings {
		if !f.Met && (f.Known || f.Says != "") {
			return false
		}
	}
	return true
}

// trialTime limits each of the connection and the question of a trial.
const trialTime = 10 * time.Second

// Try connects to the store that a key is in and, if the key has a name, describes the key as an identity; as no
// resource, where as is empty. It changes nothing. A login that the store has refused before is made again, at most
// once a minute; when the store accepts it, that holds for all connections. A *visage.Refusal says what Open's says.
func (c *Connections) Try(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (Trial, error) {
	store := c.set.store(key)
	if store == nil {
		return Trial{}, c.set.missing(key)
	}
	var t Trial
	t.Findings = store.connectOnce(ctx)
	login, found := Finding{Step: LoggedIn}, Finding{Step: KeyFound}
	connects := !slices.ContainsFunc(t.Findings, func(f Finding) bool { return !f.Met })
	if connects && key.Name != "" {
		open := c.Open
		if as == "" {
			open = c.open
		}
		src, err := open(key, as)
		if err != nil {
			return Trial{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, trialTime)
		defer cancel()
		start := time.Now()
		d, err := src.Describe(hashivault.WithRetry(ctx), keysource.Ref{})
		t.Asked = time.Since(start)
		if t.Err = err; err == nil {
			t.Key = &d
		}
		login, found = answered(err)
	}
	t.Findings = append(t.Findings, login, found)
	return t, nil
}

// connectOnce makes a connection that carries no request, for stores that are reached by TLS.
func (s *Store) connectOnce(ctx context.Context) []Finding {
	if s.kind.listener == nil {
		return nil
	}
	address := s.kind.listener(*s)
	reachable, certificate := Finding{Step: Reachable}, Finding{Step: Certificate}
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		reachable.Known, reachable.Says = true, oneLine(fmt.Sprintf("%.300s", err))
		return []Finding{reachable, certificate}
	}
	defer raw.Close()
	reachable = Finding{Reachable, true, true, address}
	host, _, _ := net.SplitHostPort(address)
	conn := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: s.roots, MinVersion: tls.VersionTLS12})
	if err := conn.HandshakeContext(ctx); err != nil {
		certificate.Known, certificate.Says = true, oneLine(fmt.Sprintf("%.300s", err))
		return []Finding{reachable, certificate}
	}
	certificate = Finding{Certificate, true, true, untilSays(conn.ConnectionState().PeerCertificates[0])}
	return []Finding{reachable, certificate}
}

func untilSays(cert *x509.Certificate) string {
	return "valid until " + cert.NotAfter.UTC().Format(time.DateOnly)
}

// answered tells the login and the key by the answer to the question for the key. What is no certain answer says
// nothing of either.
func answered(err error) (login, key Finding) {
	login, key = Finding{Step: LoggedIn, Met: true, Known: true}, Finding{Step: KeyFound}
	said := ""
	failure, _ := errors.AsType[*keysource.Error](err)
	switch {
	case failure != nil:
		said = oneLine(failure.Text)
	case err != nil:
		said = oneLine(err.Error())
	}
	switch {
	case err == nil:
		key.Met, key.Known = true, true
	case failure != nil && errors.Is(err, keysource.ErrDenied) && failure.Reason == keysource.NoIdentity:
		login.Met, login.Says = false, said
	case errors.Is(err, keysource.ErrUnknown), failure == nil:
		login.Met, login.Known, login.Says = false, false, said
	default:
		key.Known, key.Says = true, said
	}
	return login, key
}

// oneLine makes the text of a store fit for a line of a terminal: one without control characters.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	return strings.Join(strings.Fields(text), " ")
}
