package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server/registry"
	"github.com/visage-face/visage/test/keystores"
)

// overheard is a transit engine behind a proxy that keeps the assertions of all logins.
type overheard struct {
	transit
	proxy *httptest.Server

	mu     sync.Mutex
	logins []string
}

func newOverheard(t *testing.T) *overheard {
	t.Helper()
	o := &overheard{transit: transit{keystores.StartVault(t)}}
	to := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: o.Address}) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}},
	}
	o.proxy = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/auth/jwt/login") {
			raw, err := io.ReadAll(r.Body)
			var said struct{ JWT string }
			if err != nil || json.Unmarshal(raw, &said) != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			o.mu.Lock()
			o.logins = append(o.logins, said.JWT)
			o.mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(raw))
		}
		to.ServeHTTP(w, r)
	}))
	t.Cleanup(o.proxy.Close)
	return o
}

func (o *overheard) describe(t *testing.T) stores.Store {
	about := o.transit.describe(t)
	about.Address = "hashivault://" + strings.TrimPrefix(o.proxy.URL, "https://") + "/transit"
	about.CAFile = filepath.Join(t.TempDir(), "proxy.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.proxy.Certificate().Raw})
	if err := os.WriteFile(about.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return about
}

// since returns the assertions of the logins after the first n, and how many logins there were.
func (o *overheard) since(n int) ([]string, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.logins[n:]), len(o.logins)
}

// TestAssertionsOfConfirmations holds that polls may use an assertion again, but that no question does which confirms
// a refusal or checks a key or a store: what an identity, a role or an issuer was before decides nothing.
func TestAssertionsOfConfirmations(t *testing.T) {
	store := newOverheard(t)
	w := newStoreWalk(t, store)
	store.makeKey(t, "faces")
	store.grant(t, w.who, "faces")
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	w.until(t, "a poll", func(s custody.Status) bool { return !s.NextCheck.IsZero() })
	key := visage.KeyRef{Vault: w.address, Name: "faces"}
	said, n := store.since(0)
	if len(said) < 2 {
		t.Fatalf("%d logins", len(said))
	}

	store.RevokeTokens()
	revoked := time.Now()
	w.Custody().Recheck(key)
	w.until(t, "another poll", func(s custody.Status) bool { return s.LastSuccess.After(revoked) })
	polls, n := store.since(n)
	if !slices.ContainsFunc(polls, func(assertion string) bool { return slices.Contains(said, assertion) }) {
		t.Error("a poll has not used the assertion of the one before")
	}

	store.Do(http.MethodDelete, "auth/jwt/role/visage-"+string(w.who), nil)
	store.RevokeTokens()
	w.Custody().Recheck(key)
	w.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	confirming, n := store.since(n)
	if slices.Contains(said, confirming[len(confirming)-1]) {
		t.Error("the refusal was confirmed with an assertion from before it")
	}

	all, _ := store.since(0)
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	for range 2 {
		_, before := store.since(n)
		_, err := w.KeyStores().Try(t.Context(), by, registry.IDOf(w.address), registry.Trial{Resource: "vip",
			Key: "faces"})
		if err != nil {
			t.Fatal(err)
		}
		trial, _ := store.since(before)
		if len(trial) == 0 || slices.ContainsFunc(trial, func(a string) bool { return slices.Contains(all, a) }) {
			t.Errorf("a trial has used an assertion from before it: %d logins", len(trial))
		}
		all = append(all, trial...)
	}
}
