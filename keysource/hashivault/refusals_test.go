package hashivault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
)

// TestRefusalIsShared holds that all sources that log in with one secret send it twice together when it is refused, and
// then rarely, so that no server locks them out; and that another secret is sent at once.
func TestRefusalIsShared(t *testing.T) {
	var logins atomic.Int64
	var status atomic.Int64
	status.Store(http.StatusBadRequest)
	s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		logins.Add(1)
		w.WriteHeader(int(status.Load()))
		if status.Load() == http.StatusForbidden {
			fmt.Fprint(w, `{"errors":["permission denied"]}`)
			return
		}
		fmt.Fprint(w, `{"errors":["invalid secret id"]}`)
	})
	refusals := &hashivault.Refusals{}
	asked := func(want int64, class error) {
		t.Helper()
		var together sync.WaitGroup
		for range 10 {
			servers := hashivault.NewServers(hashivault.Config{Roots: s.roots, Refusals: refusals})
			key, err := hashivault.ParseKey("hashivault://"+s.Address+"/transit", "faces", "")
			if err != nil {
				t.Fatal(err)
			}
			src, err := servers.Open(key, s.login)
			if err != nil {
				t.Fatal(err)
			}
			together.Go(func() {
				_, err := src.Describe(t.Context(), keysource.Ref{})
				if class != nil && !errors.Is(err, class) {
					t.Errorf("got %v, want class %v", err, class)
				}
			})
		}
		together.Wait()
		if n := logins.Swap(0); n != want {
			t.Errorf("%d logins, want %d", n, want)
		}
	}
	asked(2, keysource.ErrDenied)
	asked(0, keysource.ErrDenied)
	refusals.Age(15 * time.Minute) // until then, the server remembers the refusals
	asked(0, keysource.ErrDenied)
	refusals.Age(time.Minute)
	asked(1, keysource.ErrDenied)
	refusals.Age(15 * time.Minute)
	asked(0, keysource.ErrDenied)
	refusals.Age(time.Minute)
	status.Store(http.StatusForbidden) // somebody else has had the account locked out
	asked(1, nil)
	asked(0, keysource.ErrDenied)
	status.Store(http.StatusBadRequest)
	if err := os.WriteFile(s.secret, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked(2, keysource.ErrDenied)
	s.login = hashivault.AppRole("approle", "other", s.secret)
	asked(2, keysource.ErrDenied)
}

// TestTwoReplicasDoNotLockOut: when two replicas have met with a refused secret id, and polled on for a quarter of an
// hour, the server still takes a new one.
func TestTwoReplicasDoNotLockOut(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	good, err := os.ReadFile(s.secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.secret, []byte("destroyed"), 0o600); err != nil {
		t.Fatal(err)
	}
	replicas := []*hashivault.Refusals{{}, {}}
	poll := func(class error) {
		t.Helper()
		for _, refusals := range replicas {
			s.servers = hashivault.NewServers(hashivault.Config{Roots: s.Roots, Refusals: refusals})
			for range 2 { // the second confirms the first
				_, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
				if !errors.Is(err, class) {
					t.Errorf("got %v, want %v", err, class)
				}
			}
		}
	}
	for range 15 {
		poll(keysource.ErrDenied)
		for _, refusals := range replicas {
			refusals.Age(time.Minute)
		}
	}
	if err := os.WriteFile(s.secret, good, 0o600); err != nil {
		t.Fatal(err)
	}
	poll(nil)
}

// TestRetry: the test of an operator sends a refused login once a minute, and what else is known of it stays.
func TestRetry(t *testing.T) {
	var logins atomic.Int64
	s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		logins.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"errors":["invalid secret id"]}`)
	})
	refusals := &hashivault.Refusals{}
	s.servers = hashivault.NewServers(hashivault.Config{Roots: s.roots, Refusals: refusals})
	ask := func(ctx context.Context, want int64) {
		t.Helper()
		for range 5 {
			_, err := s.open(t, "faces", "").Describe(ctx, keysource.Ref{})
			if !errors.Is(err, keysource.ErrDenied) {
				t.Errorf("got %v, want a refusal", err)
			}
		}
		if n := logins.Swap(0); n != want {
			t.Errorf("%d logins, want %d", n, want)
		}
	}
	operator := hashivault.WithRetry(t.Context())
	ask(t.Context(), 2)
	ask(operator, 1)
	refusals.Age(time.Minute)
	ask(operator, 1)
	refusals.Age(15 * time.Minute)
	ask(t.Context(), 0)
	refusals.Age(time.Minute)
	ask(t.Context(), 1)
}
