package follow_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
	"github.com/visage-face/visage/test/postgres"
)

// TestCutOff: a process that cannot reach the database does not vouch for what it has known.
func TestCutOff(t *testing.T) {
	server := postgres.Shared(t)
	u, err := url.Parse(server.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy := server.Proxy(t)
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine: proxy.URL(postgres.Superuser, strings.TrimPrefix(u.Path, "/")), KeyDir: t.TempDir(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	v := follow.New(follow.Config[int]{Store: store, Name: "nothing",
		Read: func(sealed.Reader) (int, error) { return 1, nil }})
	if err := v.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.Bar()
	failed := make(chan error)
	const callers = 10
	for range callers {
		go func() {
			for tick := time.NewTicker(follow.Every); ; <-tick.C { // what is known is good for a second
				if err := v.Current(t.Context()); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range callers {
		if err := <-failed; !isOutage(err) {
			t.Errorf("without the database: %v", err)
		}
	}
	proxy.Unbar()
	if err := v.Current(t.Context()); err != nil {
		t.Errorf("with the database: %v", err)
	}
}

func isOutage(err error) bool {
	_, is := errors.AsType[visage.Outage](err)
	return is
}
