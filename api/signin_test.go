package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// signingIn serves a sign-in by "NAME SECRET", whose only valid secret is "right".
func signingIn(t *testing.T) *server {
	t.Helper()
	return serve(t, api.Config{Tokens: tokens{}, Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/token", MaxBody: 100, Handle: func(r *api.Request) (any, error) {
			body, err := r.ReadBody()
			if err != nil {
				return nil, err
			}
			name, secret, _ := strings.Cut(string(body), " ")
			return name, r.SignInBy(r.Header("Way"), name, func() error {
				if secret != "right" {
					return visage.Refuse(visage.Unauthenticated, "invalid_client", "Wrong.")
				}
				return nil
			})
		}},
		api.Route{Method: "GET", Pattern: "/t/mine", Allow: api.ResourceKey, Handle: whoAmI},
		api.Route{Method: "GET", Pattern: "/t/who", Allow: api.BearerToken, Handle: whoAmI},
	)}})
}

// from sends a request from an address of this machine.
func (s *server) from(t *testing.T, address, method, path, body string, header ...string) *http.Response {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.DialContext, transport.DisableKeepAlives = dialer.DialContext, true
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

// fails repeats a request, each time with another credential in its header, until it is throttled, and returns how
// often the credential was checked.
func (s *server) fails(t *testing.T, method, path, body string, header ...string) int {
	t.Helper()
	for n := range 1000 {
		sent := slices.Clone(header)
		for i := 1; i < len(sent); i += 2 {
			sent[i] += strconv.Itoa(n)
		}
		res := s.from(t, "127.0.0.1", method, path, body, sent...)
		switch res.StatusCode {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			if res.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			return n
		default:
			t.Fatalf("got %d", res.StatusCode)
		}
	}
	t.Fatal("a thousand wrong sign-ins were checked")
	return 0
}

func TestFailedSignInsSlowDown(t *testing.T) {
	s := signingIn(t)
	want := func(what string, res *http.Response, status int) {
		t.Helper()
		if res.StatusCode != status {
			t.Errorf("%s: got %d, want %d", what, res.StatusCode, status)
		}
	}
	want("a client that is known", s.from(t, "127.0.0.1", "POST", "/t/token", "known right"), 200)
	if n := s.fails(t, "POST", "/t/token", "app wrong"); n > 20 {
		t.Errorf("%d wrong secrets of one name were checked", n)
	}
	want("the same client elsewhere", s.from(t, "127.0.0.2", "POST", "/t/token", "app right"), 200)
	want("another at the address", s.from(t, "127.0.0.1", "POST", "/t/token", "other right"), 200)
	s.fails(t, "POST", "/t/token", "known wrong")
	want("a client that has signed in from there", s.from(t, "127.0.0.1", "POST", "/t/token", "known right"), 200)
}

// TestWaysToSignInAreCountedApart fails by one way with many names, until the address has to wait.
func TestWaysToSignInAreCountedApart(t *testing.T) {
	s := signingIn(t)
	slowed := 0
	for n := range 100 {
		body := "name" + strconv.Itoa(n) + " wrong"
		if s.from(t, "127.0.0.1", "POST", "/t/token", body, "Way", "one").StatusCode == http.StatusTooManyRequests {
			slowed++
		}
	}
	if slowed == 0 {
		t.Error("100 wrong secrets of one way were checked")
	}
	for _, way := range []string{"other", ""} {
		if res := s.from(t, "127.0.0.1", "POST", "/t/token", "ada right", "Way", way); res.StatusCode != 200 {
			t.Errorf("the way %q: got %d", way, res.StatusCode)
		}
	}
}

func TestManyNamesFromOneAddressSlowDown(t *testing.T) {
	s := signingIn(t)
	slowed := 0
	for i := range 200 {
		name := "app" + strings.Repeat("x", i%50) + string(rune('a'+i/50))
		if s.from(t, "127.0.0.1", "POST", "/t/token", name+" wrong").StatusCode == http.StatusTooManyRequests {
			slowed++
		}
	}
	if slowed == 0 {
		t.Error("200 names were tried without throttling")
	}
	if res := s.from(t, "127.0.0.2", "POST", "/t/token", "appa right"); res.StatusCode != 200 {
		t.Errorf("another address: got %d", res.StatusCode)
	}
}

func TestWrongCredentialsSlowDown(t *testing.T) {
	s := signingIn(t)
	s.fails(t, "GET", "/t/mine", "", "X-Key", "wrong")
	if res := s.from(t, "127.0.0.1", "GET", "/t/mine", "", "X-Key", "right"); res.StatusCode != 200 {
		t.Errorf("the right key from the same address: got %d", res.StatusCode)
	}
	s.fails(t, "GET", "/t/who", "", "Authorization", "Bearer wrong")
	if res := s.from(t, "127.0.0.1", "GET", "/t/who", "", "Authorization", "Bearer right"); res.StatusCode != 200 {
		t.Errorf("the right token from the same address: got %d", res.StatusCode)
	}
	if res := s.from(t, "127.0.0.1", "GET", "/t/who", ""); res.StatusCode != 401 {
		t.Errorf("no token: got %d, want the challenge", res.StatusCode)
	}
}

// people accepts every token as an object id.
type people struct{}

func (people) Principal(_ context.Context, bearer string) (visage.Principal, error) {
	return visage.Principal{ObjectID: bearer}, nil
}

func TestRatesOfIdentitiesAndAddresses(t *testing.T) {
	p := plane(
		api.Route{Method: "GET", Pattern: "/t/who", Allow: api.BearerToken, Handle: whoAmI},
		api.Route{Method: "POST", Pattern: "/t/open", MaxBody: 10, Handle: func(r *api.Request) (any, error) {
			_, err := r.ReadBody()
			return nil, err
		}},
	)
	p.CallerRate, p.AddressRate = api.Rate{PerSecond: 0.001, Burst: 3}, api.Rate{PerSecond: 0.001, Burst: 5}
	s := serve(t, api.Config{Tokens: people{}, Planes: []api.Plane{p}})
	for _, row := range []struct {
		from, path, who string
		status          int
	}{
		{"127.0.0.1", "/t/who", "alice", 200},
		{"127.0.0.1", "/t/who", "alice", 200},
		{"127.0.0.2", "/t/who", "alice", 200},
		{"127.0.0.2", "/t/who", "alice", 429}, // by identity, from any address
		{"127.0.0.1", "/t/who", "bob", 200},
		{"127.0.0.1", "/t/who", "bob", 200},
		{"127.0.0.1", "/t/who", "carol", 200},
		{"127.0.0.1", "/t/who", "carol", 429}, // by address, for any identity
		{"127.0.0.2", "/t/who", "carol", 200},
		{"127.0.0.1", "/t/open", "", 429},
		{"127.0.0.3", "/t/open", "", 200},
	} {
		method := map[bool]string{true: "GET", false: "POST"}[row.who != ""]
		res := s.from(t, row.from, method, row.path, "", "Authorization", "Bearer "+row.who)
		if res.StatusCode != row.status || (res.Header.Get("Retry-After") != "") != (row.status == 429) {
			t.Errorf("%+v: got %d, Retry-After %q", row, res.StatusCode, res.Header.Get("Retry-After"))
		}
	}
}

// TestReplicasShareARate has two handlers, as two processes have: together they allow what one does, and when one of
// them is left, it allows all.
func TestReplicasShareARate(t *testing.T) {
	live := 2
	allowed := func(ask int) (n int) {
		for range 2 {
			p := plane(api.Route{Method: "GET", Pattern: "/t/who", Allow: api.BearerToken, Handle: whoAmI})
			p.CallerRate = api.Rate{PerSecond: 0.001, Burst: 6}
			s := serve(t, api.Config{Tokens: people{}, Planes: []api.Plane{p}, Replicas: func() int { return live }})
			for range ask {
				if s.from(t, "127.0.0.1", "GET", "/t/who", "", "Authorization", "Bearer alice").StatusCode == 200 {
					n++
				}
			}
		}
		return n
	}
	if n := allowed(10); n != 6 {
		t.Errorf("two replicas allow %d requests together, want 6", n)
	}
	live = 1
	if n := allowed(10); n != 12 { // each of the two takes itself for the only one
		t.Errorf("replicas that are alone allow %d requests, want 6 each", n)
	}
}

// TestAFloodOfSignInsLeavesTheirRateToOthers tries wrong secrets of a client that has signed in from the same address.
func TestAFloodOfSignInsLeavesTheirRateToOthers(t *testing.T) {
	p := plane(api.Route{Method: "POST", Pattern: "/t/token", MaxBody: 100, Handle: func(r *api.Request) (any, error) {
		body, err := r.ReadBody()
		if err != nil {
			return nil, err
		}
		return nil, r.SignIn("app", func() error {
			if string(body) != "right" {
				return visage.Refuse(visage.Unauthenticated, "invalid_client", "Wrong.")
			}
			return nil
		})
	}})
	p.AddressRate = api.Rate{PerSecond: 0.001, Burst: 4}
	s := serve(t, api.Config{Planes: []api.Plane{p}})
	for _, row := range []struct {
		secret string
		times  int
		status int
	}{{"right", 1, 200}, {"wrong", 40, 0}, {"right", 3, 200}} {
		for range row.times {
			if res := s.from(t, "127.0.0.1", "POST", "/t/token", row.secret); row.status != 0 &&
				res.StatusCode != row.status {
				t.Errorf("%s: got %d, want %d", row.secret, res.StatusCode, row.status)
			}
		}
	}
}
