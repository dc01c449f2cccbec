package requirements_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// TestEncryptionIsAlwaysOn: requirements 1 to 10, 59 and 60.
func TestEncryptionIsAlwaysOn(t *testing.T) {
	w := newServer(t, server.Config{AutoApprove: true})
	for name, tier := range map[string]string{"confidential-free": "F0", "confidential-standard": "S0",
		"confidential-enterprise": "E0"} {
		w.want(w.create(name, tier), 201, "")
	}
	t.Run("04 on for every resource of every tier", func(t *testing.T) {
		w := w.in(t)
		for _, name := range []string{"confidential-free", "confidential-standard", "confidential-enterprise",
			"default"} {
			a := w.app(name)
			a.enrol()
			a.wantOpen()
		}
	})
	t.Run("07 the keys are the service's by default", func(t *testing.T) {
		w := w.in(t)
		for _, name := range []string{"confidential-standard", "confidential-enterprise"} {
			if e := w.want(w.arm("GET", account(name), ""), 200, "").at("properties.encryption"); e != nil {
				t.Errorf("%s has encryption settings: %v", name, e)
			}
		}
	})
	t.Run("59 deleting a person deletes what is stored of it", func(t *testing.T) {
		a := w.in(t).app("confidential-free")
		all := a.want(a.face("GET", "v1.2/persongroups/guests/persons", nil), 200, "")
		id := regexp.MustCompile(`"personId":"([^"]+)"`).FindSubmatch(all.body)
		a.want(a.face("DELETE", "v1.2/persongroups/guests/persons/"+string(id[1]), nil), 200, "")
		if ok, said := a.recognises(); ok {
			t.Errorf("the person is still recognised: %s", said.body)
		}
	})
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Run("01 06 10 nothing readable in storage, from the first resource on", func(t *testing.T) {
		// The names of resources are in their host names, and so in the certificates that clients see; not in the data.
		names := []string{"confidential-free", "confidential-standard", "confidential-enterprise"}
		if found := readable(t, w.dir, append(names, secrets...)...); len(found) > 0 {
			t.Errorf("readable: %v", found)
		}
	})
	t.Run("02 clients notice nothing", func(t *testing.T) {
		// The same application ran on every tier above and runs under a customer's key below; the official clients are
		// tested in test/sdk.
		for _, c := range []string{"new.mjs", "old.mjs"} {
			b, err := os.ReadFile(filepath.Join("..", "sdk", c))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(strings.ToLower(string(b)), "encrypt") {
				t.Errorf("%s speaks of encryption", c)
			}
		}
	})
	t.Run("03 AES with 256 bits, from the certified module", func(t *testing.T) {
		b, err := os.ReadFile(filepath.Join("..", "..", "docs", "formats", "values.md"))
		if err != nil || !strings.Contains(string(b), "AES-256-GCM") {
			t.Errorf("the format page does not say AES-256-GCM (%v)", err)
		}
		makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
		if err != nil || !regexp.MustCompile(`(?m)^export GOFIPS140 \?= v1\.0\.0$`).Match(makefile) {
			t.Errorf("builds do not use the certified module (%v)", err)
		}
		modes := map[string]bool{}
		eachEntry(t, w.dir, func(e audit.Entry) {
			if e.Kind == audit.InstanceStart {
				modes[e.Details[audit.DetailFIPS]] = true
			}
		})
		if len(modes) != 1 || modes[""] {
			t.Errorf("the log has the module's modes %v", modes)
		}
	})
	t.Run("05 nothing switches it off", func(t *testing.T) {
		settings := reflect.TypeFor[server.Config]()
		on := server.Config{IdentityEndpoint: "127.0.0.1:0", IdentityEndpointFor: []string{"operator"}}
		for i := range settings.NumField() {
			name := settings.Field(i).Name
			if regexp.MustCompile(`(?i)encrypt|cipher|seal|insecure|plain(text)?data`).MatchString(name) {
				t.Errorf("unexpected setting %s", name)
			}
			if f := reflect.ValueOf(&on).Elem().Field(i); f.Kind() == reflect.Bool && f.CanSet() {
				f.SetBool(true)
			}
		}
		on.Shared = false     // which a store in the data directory refuses
		w := newServer(t, on) // everything that can be switched, switched
		a := w.app("default")
		a.enrol()
		if err := w.Stop(); err != nil {
			t.Fatal(err)
		}
		if found := readable(t, w.dir, secrets...); len(found) > 0 {
			t.Errorf("readable: %v", found)
		}
	})
	t.Run("09 the disk without the root key opens nothing", func(t *testing.T) {
		if err := os.Remove(filepath.Join(w.dir, "keys", "root.key")); err != nil {
			t.Fatal(err)
		}
		if store, err := server.OpenStore(t.Context(), server.Config{Dir: w.dir}); err == nil {
			store.Close()
			t.Error("the store opens")
		}
	})
}

// eachEntry reads the audit log of a stopped server, oldest entry last.
func eachEntry(t *testing.T, dir string, fn func(audit.Entry)) {
	t.Helper()
	withStore(t, dir, func(s *sealed.Store) {
		for e, err := range audit.Read(s).Entries(context.WithoutCancel(t.Context()), audit.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			fn(e)
		}
	})
}

func withStore(t *testing.T, dir string, fn func(*sealed.Store)) {
	t.Helper()
	s, err := server.OpenStore(t.Context(), server.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fn(s)
}
