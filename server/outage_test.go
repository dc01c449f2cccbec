package server_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/postgres"
)

// TestDatabaseThatCannotBeUsed runs a server over a database that takes no writes, and then over one that nobody
// reaches: requests get 503 with a sentence, and /readyz tells.
func TestDatabaseThatCannotBeUsed(t *testing.T) {
	database := postgres.Shared(t)
	u, err := url.Parse(database.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	name, proxy := strings.TrimPrefix(u.Path, "/"), database.Proxy(t)
	s := servertest.Start(t, server.Config{Engine: proxy.URL(postgres.Superuser, name)})
	group := func(id string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/face/v1.2/persongroups/"+id,
			strings.NewReader(`{"name":"a group","recognitionModel":"recognition_04"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Ocp-Apim-Subscription-Key", s.Key)
		res, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	ready := func(status int, text string) {
		t.Helper()
		if got, body := call(t, s, http.MethodGet, "/readyz", "", nil); got != status || !strings.Contains(body, text) {
			t.Errorf("/readyz: %d %q, want %d and %q", got, body, status, text)
		}
	}
	if res, body := group("before"); res.StatusCode != http.StatusOK {
		t.Fatalf("make a group: %d %s", res.StatusCode, body)
	}
	ready(http.StatusOK, "ok\n")
	only := func(to string) {
		t.Helper()
		database.Exec(t, "postgres", "ALTER DATABASE "+name+" SET default_transaction_read_only = "+to)
		database.Exec(t, "postgres",
			"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '"+name+"'")
	}
	only("on")
	if res, body := group("during"); res.StatusCode != http.StatusServiceUnavailable ||
		res.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"ServiceUnavailable"`) ||
		!strings.Contains(body, "read-only") {
		t.Errorf("make a group in a database that is read-only: %d %v %s", res.StatusCode, res.Header, body)
	}
	ready(http.StatusOK, "degraded\nstorage: the database is read-only")
	only("off")
	if res, body := group("after"); res.StatusCode != http.StatusOK {
		t.Errorf("make a group afterwards: %d %s", res.StatusCode, body)
	}
	ready(http.StatusOK, "ok\n")
	proxy.LeadTo(database.Standby(t)) // its data are old, so reading does not go on
	ready(http.StatusServiceUnavailable, "the database does not answer")
	proxy.LeadTo(database)
	ready(http.StatusOK, "ok\n")
	proxy.Bar()
	ready(http.StatusServiceUnavailable, "the database does not answer")
	proxy.Unbar()
	ready(http.StatusOK, "ok\n")
	// A key that may have been taken back meanwhile is not taken, though nothing has to be read for it.
	proxy.Bar()
	status := http.StatusOK
	for begun := time.Now(); status == http.StatusOK && time.Since(begun) < time.Minute; { // for a second
		status, _ = detect(t, s, s.Key)
	}
	if status != http.StatusServiceUnavailable {
		t.Errorf("a request without the database: %d", status)
	}
	proxy.Unbar()
}
