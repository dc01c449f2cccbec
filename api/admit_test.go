package api_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"net/http/httptest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

func whoAmI(r *api.Request) (any, error) { return r.Resource.Name + " " + r.Principal.KeyName, nil }

func TestKeys(t *testing.T) {
	s := serve(t, api.Config{Planes: []api.Plane{plane(
		api.Route{Method: "GET", Pattern: "/t/mine", Allow: api.ResourceKey, Handle: whoAmI},
		api.Route{Method: "GET", Pattern: "/t/open", Allow: api.Anyone, Handle: whoAmI},
	)}})
	for _, row := range []struct {
		name, path, key string
		status          int
		want            string
	}{
		{"right key", "/t/mine", "right", 200, `"alice Key1"`},
		{"no key", "/t/mine", "", 401, "X-Key"},
		{"wrong key", "/t/mine", "wrong", 401, "No resource"},
		{"directory fails", "/t/mine", "broken", 500, "service failed"},
		{"nobody asks", "/t/open", "wrong", 200, `" "`},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, body := s.do(t, "GET", row.path, "", "X-Key", row.key)
			if res.StatusCode != row.status || !strings.Contains(body, row.want) {
				t.Errorf("got %d %s, want %d with %s", res.StatusCode, body, row.status, row.want)
			}
		})
	}
	if log := s.log.String(); strings.Contains(log, `"right"`) || strings.Contains(log, "wrong") {
		t.Errorf("the log contains a key:\n%s", log)
	}
}

// tokens accepts one token.
type tokens struct{}

func (tokens) Principal(_ context.Context, bearer string) (visage.Principal, error) {
	if bearer == "right" {
		return visage.Principal{Method: "token"}, nil
	}
	return visage.Principal{}, visage.Refuse(visage.Unauthenticated, "AuthenticationFailed", "The token is unknown.")
}

func TestTokens(t *testing.T) {
	s := serve(t, api.Config{Tokens: tokens{}, Planes: []api.Plane{plane(
		api.Route{Method: "GET", Pattern: "/t/who", Allow: api.BearerToken, Handle: func(r *api.Request) (any, error) {
			return r.Principal.Method, nil
		}},
	)}})
	for _, row := range []struct {
		name, header string
		status       int
		want         string
	}{
		{"right token", "Bearer right", 200, `"token"`},
		{"scheme in any case", "bearer right", 200, `"token"`},
		{"no token", "", 401, "no bearer token"},
		{"empty token", "Bearer ", 401, "no bearer token"},
		{"another scheme", "Basic right", 401, "no bearer token"},
		{"wrong token", "Bearer wrong", 401, "The token is unknown"},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, body := s.do(t, "GET", "/t/who", "", "Authorization", row.header)
			if res.StatusCode != row.status || !strings.Contains(body, row.want) {
				t.Errorf("got %d %s, want %d with %s", res.StatusCode, body, row.status, row.want)
			}
		})
	}
}

func TestPlaneTokens(t *testing.T) {
	p := plane(api.Route{Method: "POST", Pattern: "/t/who", Allow: api.PlaneToken, MaxBody: 1,
		Handle: func(r *api.Request) (any, error) { return r.Principal.ObjectID, nil }})
	p.Admit = func(r *api.Request) (visage.Principal, error) {
		if r.Bearer() != "right" {
			return visage.Principal{}, &api.Problem{Status: 401, Message: "Ask for " + r.Host() + ".",
				Challenge: `Bearer a="b"`}
		}
		return visage.Principal{ObjectID: "alice"}, nil
	}
	s := serve(t, api.Config{Planes: []api.Plane{p}})
	for _, row := range []struct {
		name, header, body string
		status             int
		want, challenge    string
	}{
		{"right token", "Bearer right", "", 200, `"alice"`, ""},
		{"no token", "", "", 401, "Ask for", `Bearer a="b"`},
		{"no token and too long a body", "", "too long", 401, "Ask for", `Bearer a="b"`},
		{"another scheme", "Basic right", "", 401, "Ask for", `Bearer a="b"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, body := s.do(t, "POST", "/t/who", row.body, "Authorization", row.header)
			if res.StatusCode != row.status || !strings.Contains(body, row.want) ||
				res.Header.Get("WWW-Authenticate") != row.challenge {
				t.Errorf("got %d %s %s, want %d with %s %s", res.StatusCode, body, res.Header.Get("WWW-Authenticate"),
					row.status,
					row.want, row.challenge)
			}
		})
	}
	p.Admit = nil
	if _, err := api.New(api.Config{Planes: []api.Plane{p}}); err == nil {
		t.Error("a plane without admission was accepted")
	}
}

// tiers has a resource of each tier under its name.
type tiers struct{}

func (tiers) Resource(_ context.Context, key, _ string) (visage.Resource, visage.Principal, error) {
	id := visage.ResourceID{key[0], key[len(key)-1]}
	return visage.Resource{ID: id, Name: key, Tier: visage.Tier(key[:2])}, visage.Principal{}, nil
}

func TestRateOfEachTier(t *testing.T) {
	for _, row := range []struct {
		tier       visage.Tier
		burst      int
		wait       time.Duration // until the next request is allowed
		retryAfter string
	}{
		{visage.F0, 20, 3 * time.Second, "3"},
		{visage.S0, 10, 100 * time.Millisecond, "1"},
		{visage.E0, 10, 100 * time.Millisecond, "1"},
		{"XX", 0, 0, "60"},
	} {
		t.Run(string(row.tier), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, err := api.New(api.Config{Keys: tiers{}, Planes: []api.Plane{plane(
					api.Route{Method: "GET", Pattern: "/t/mine", Allow: api.ResourceKey, Handle: whoAmI},
				)}})
				if err != nil {
					t.Fatal(err)
				}
				ask := func(resource string) *httptest.ResponseRecorder {
					w := httptest.NewRecorder()
					r := httptest.NewRequest("GET", "/t/mine", nil)
					r.Header.Set("X-Key", resource)
					h.ServeHTTP(w, r)
					return w
				}
				a, b := string(row.tier)+"a", string(row.tier)+"b"
				for i := range row.burst {
					if w := ask(a); w.Code != http.StatusOK {
						t.Fatalf("request %d of %d: got %d", i+1, row.burst, w.Code)
					}
				}
				w := ask(a)
				if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != row.retryAfter {
					t.Fatalf("one more: got %d, Retry-After %q, want 429, %q", w.Code, w.Header().Get("Retry-After"),
						row.retryAfter)
				}
				if row.burst == 0 {
					return
				}
				if w := ask(b); w.Code != http.StatusOK {
					t.Errorf("another resource: got %d", w.Code)
				}
				time.Sleep(row.wait) // the bubble's clock
				if w := ask(a); w.Code != http.StatusOK {
					t.Errorf("after %v: got %d", row.wait, w.Code)
				}
				if w := ask(a); w.Code != http.StatusTooManyRequests {
					t.Errorf("and one more: got %d", w.Code)
				}
			})
		})
	}
}

func TestRateCanBeSet(t *testing.T) {
	for _, row := range []struct {
		name      string
		perSecond float64
		want      int
	}{{"none", -1, 200}, {"nothing", 0, 429}} {
		t.Run(row.name, func(t *testing.T) {
			s := serve(t, api.Config{
				Rate: func(visage.Resource) (float64, int) { return row.perSecond, 0 },
				Planes: []api.Plane{plane(
					api.Route{Method: "GET", Pattern: "/t/mine", Allow: api.ResourceKey, Handle: whoAmI},
				)},
			})
			for range 30 {
				if res, _ := s.do(t, "GET", "/t/mine", "", "X-Key", "right"); res.StatusCode != row.want {
					t.Fatalf("got %d, want %d", res.StatusCode, row.want)
				}
			}
		})
	}
}

func TestMetricsNameRoutesAndNothingElse(t *testing.T) {
	s := serve(t, api.Config{Planes: []api.Plane{plane(
		api.Route{Method: "GET", Pattern: "/t/people/{name}",
			Handle: func(*api.Request) (any, error) { return nil, nil }},
	)}})
	s.do(t, "GET", "/t/people/canary?q=canary", "")
	s.do(t, "GET", "/t/canary", "")
	s.do(t, "DELETE", "/t/people/canary", "")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.h.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	counts := map[string]float64{}
	for _, family := range families {
		all.WriteString(family.String())
		if family.GetName() != "visage_api_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			counts[strings.Join(labels, ",")] = m.GetCounter().GetValue()
		}
	}
	for _, want := range []string{"test,GET /t/people/{name},200", "test,none,404", "test,none,405"} {
		if counts[want] != 1 {
			t.Errorf("%s: got %v, want 1 (have %v)", want, counts[want], counts)
		}
	}
	if strings.Contains(all.String(), "canary") || strings.Contains(s.log.String(), "canary") {
		t.Errorf("metrics or log contain a part of an address:\n%s\n%s", all.String(), s.log.String())
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	fine := func() api.Route {
		return api.Route{Method: "GET", Pattern: "/t/x", Allow: api.Anyone, Timeout: time.Second, Handle: whoAmI}
	}
	with := func(change func(*api.Route)) api.Plane {
		r := fine()
		change(&r)
		return api.Plane{Name: "p", Prefix: "/t/", Routes: []api.Route{r},
			Problem: func(http.Header, *api.Problem) any { return nil }}
	}
	twice := plane(fine(), fine())
	renamed := plane(
		api.Route{Method: "GET", Pattern: "/t/{a}", Handle: whoAmI},
		api.Route{Method: "PUT", Pattern: "/t/{b}", Handle: whoAmI},
	)
	for i, planes := range [][]api.Plane{
		nil,
		{{Name: "p"}},
		{with(func(r *api.Route) { r.Method = "" })},
		{with(func(r *api.Route) { r.Pattern = "x" })},
		{with(func(r *api.Route) { r.Allow = 0 })},
		{with(func(r *api.Route) { r.Allow = api.ResourceKey })},
		{with(func(r *api.Route) { r.Timeout = 0 })},
		{with(func(r *api.Route) { r.MaxBody = -1 })},
		{with(func(r *api.Route) { r.Handle = nil })},
		{with(func(r *api.Route) { r.MaxBody = 1 << 40 })},
		{twice},
		{renamed},
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if _, err := api.New(api.Config{Planes: planes}); err == nil {
				t.Error("got no error")
			}
		})
	}
}
