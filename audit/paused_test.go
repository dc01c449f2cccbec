package audit_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestEntriesDoNotWaitForTheDuty has another session hold the row of the claims while the log asks for the right to
// sign: entries are written meanwhile.
func TestEntriesDoNotWaitForTheDuty(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	store := must[*sealed.Store](t)(sealed.Open(t.Context(), sealed.Config{
		Engine: address, KeyDir: t.TempDir(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}},
	}))
	t.Cleanup(func() { mustDo(t, store.Close()) })
	l := must[*audit.Log](t)(audit.Open(t.Context(), audit.Config{Store: store}))
	mustDo(t, l.Append(t.Context(), event(0)))
	u := must[*url.URL](t)(url.Parse(address))
	held := make(chan error, 1)
	go func() {
		held <- server.Try(strings.TrimPrefix(u.Path, "/"), `BEGIN;
			UPDATE visage.scopes SET version = version + 1 WHERE scope = decode(repeat('ff', 16), 'hex');
			SELECT pg_sleep(10);`)
	}()
	stop := run(t, l)
	for n := 1; ; n++ {
		select {
		case err := <-held:
			stop()
			mustDo(t, err)
			return
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second) // fewer than it is held for
		err := l.Append(ctx, event(n))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}
