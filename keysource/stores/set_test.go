package stores_test

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
)

// anyone is an asker for every identity.
func anyone(visage.KeyRef, visage.PrincipalID) stores.Asker { return stores.Asker{Path: "/somewhere"} }

// TestSetChanges holds that a store can be used from the moment when it is added until it is removed, over connections
// that were made before.
func TestSetChanges(t *testing.T) {
	set, err := stores.NewSet(nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	connections := set.Connect(nil, anyone)
	key := visage.KeyRef{Vault: "hashivault://vault.example/transit", Name: "faces"}
	usable := func() bool {
		_, err := connections.Open(key, "someone")
		return err == nil && set.Require(key) == nil
	}
	if usable() {
		t.Error("a store is used before it is added")
	}
	described := stores.Store{Address: "hashivault://VAULT.example:8200/transit/",
		Login: stores.Login{Method: "token", SecretFile: "/run/token"}, Resources: []string{stores.Everybody}}
	made, err := set.Add(described, nil)
	if err != nil || made.Address != key.Vault {
		t.Fatalf("added as %q: %v", made.Address, err)
	}
	if !usable() {
		t.Error("an added store is not used")
	}
	if _, err := set.Add(described, nil); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("added twice: %v", err)
	}
	set.Remove(key.Vault)
	if usable() || len(set.All()) != 0 {
		t.Error("a removed store is used")
	}
	if _, err := set.Add(described, nil); err != nil || !usable() {
		t.Errorf("added again: %v", err)
	}
}

// TestAudiencesOfFaultyStoresAreReserved: while a store cannot be used, no other one gets its audience.
func TestAudiencesOfFaultyStoresAreReserved(t *testing.T) {
	set, err := stores.NewSet(nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	faulty := stores.Store{Address: "hashivault://one.example/transit", CAFile: "/missing",
		Login: stores.Login{Method: "jwt", Audience: "Vault"}}
	nobody := func(string) bool { return false }
	if _, err := set.Add(faulty, nobody); err == nil {
		t.Fatal("a store whose file is missing is used")
	}
	set.Reserve(faulty)
	other := stores.Store{Address: "hashivault://two.example/transit",
		Login: stores.Login{Method: "jwt", Audience: "vault"}}
	if _, err := set.Add(other, nobody); err == nil ||
		!strings.Contains(err.Error(), "also that of a store on one.example") {
		t.Errorf("with the audience of a faulty store: %v", err)
	}
	same := other
	same.Address = "hashivault://one.example/other"
	if _, err := set.Add(same, nobody); err != nil {
		t.Errorf("on the host of the faulty store: %v", err)
	}
	set.Remove(same.Address)
	set.Remove(faulty.Address)
	if _, err := set.Add(other, nobody); err != nil {
		t.Errorf("after the faulty store was removed: %v", err)
	}
}

// TestSetRefusesAudiences holds that a store whose audience is taken is not added.
func TestSetRefusesAudiences(t *testing.T) {
	const provider = "projects/42/locations/global/workloadIdentityPools/visage/providers/visage"
	set, err := stores.NewSet([]stores.Store{{Address: "hashivault://one.example/transit",
		Login: stores.Login{Method: "jwt", Audience: "vault"}}, {
		Address: "gcpkms://projects/test-1/locations/global/keyRings/faces",
		Login:   stores.Login{Method: "workload-identity", Provider: provider},
	}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	own := func(audience string) bool { return audience == "https://faces.example" }
	for audience, says := range map[string]string{
		"https://Faces.example/": "one of this instance", "Vault": "also that of a store on one.example", "other": "",
		"https://iam.googleapis.com/" + provider: "also that of a store on Google",
		"//iam.googleapis.com/" + provider:       "also that of a store on Google", // Google takes it for the same
	} {
		_, err := set.Add(stores.Store{Address: "hashivault://two.example/transit",
			Login: stores.Login{Method: "jwt", Audience: audience}}, own)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("audience %s: %v, want %q", audience, err, says)
		}
		set.Remove("hashivault://two.example/transit")
		if n := len(set.All()); n != 2 {
			t.Errorf("audience %s: the set has %d stores, want 2", audience, n)
		}
	}
}

// TestFilesIn holds that a description names files of one folder only.
func TestFilesIn(t *testing.T) {
	folder, outside := t.TempDir(), filepath.Join(t.TempDir(), "root.key")
	inside, link := filepath.Join(folder, "secret"), filepath.Join(folder, "link")
	for _, file := range []string{inside, outside} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{
		inside: "", "": "", outside: "must be in", link: "must be in", "secret": "absolute",
		filepath.Join(folder, "none"):                  "no such file",
		folder + "/../" + filepath.Base(outside) + "/": "no such file",
	} {
		for field, described := range map[string]stores.Store{
			"caFile": {CAFile: file}, "login.secretFile": {Login: stores.Login{SecretFile: file}},
		} {
			err := described.FilesIn(folder)
			if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) ||
				err != nil && !strings.HasPrefix(err.Error(), field) {
				t.Errorf("%s %s: %v, want %q", field, file, err, says)
			}
		}
	}
}

// TestLargeAuthorities holds that a file of authorities that no helper would take is refused when a store is added.
func TestLargeAuthorities(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := stores.NewSet([]stores.Store{{
		Address: "kmip://kms.example", CAFile: ca,
		Login: stores.Login{Method: "certificate", CertificateFile: "/c", SecretFile: "/k"},
	}}, slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.Contains(err.Error(), "more than the 32768") {
		t.Errorf("got %v", err)
	}
}

// TestShown holds that what is shown of a description has no values of variables and parameters, which may be secret.
func TestShown(t *testing.T) {
	secret := stores.Store{Address: "pkcs11:token=keys", Helper: stores.Helper{
		Module: "/usr/lib/module.so", Parameters: "password='canary'",
		Environment: map[string]string{"API_KEY": "canary"},
	}}
	raw, err := json.Marshal(secret.Shown())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"API_KEY", "/usr/lib/module.so", `"parameters"`} {
		if !strings.Contains(string(raw), text) {
			t.Errorf("%s is not shown: %s", text, raw)
		}
	}
	if strings.Contains(string(raw), "canary") || secret.Helper.Environment["API_KEY"] != "canary" {
		t.Errorf("shown: %s; the description is %+v now", raw, secret)
	}
	if plain := (stores.Store{Address: "https://v.vault.azure.net"}); !reflect.DeepEqual(plain.Shown(), plain) {
		t.Errorf("without a helper: %+v", plain.Shown())
	}
}

// TestDescribed holds that a description can be made of its fields and taken apart again.
func TestDescribed(t *testing.T) {
	values := map[string]string{}
	for i, field := range stores.Fields() {
		values[field] = strings.Repeat("x", i+1)
	}
	s, err := stores.Described("hashivault://vault.example/transit", values)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Values(); len(got) != len(values) || s.CAFile == "" || s.Login.SecretFile == "" {
		t.Errorf("made %+v of %v", s, values)
	}
	if _, err := stores.Described("", map[string]string{"address": "x"}); err == nil {
		t.Error("an unknown field is accepted")
	}
	for _, k := range stores.Kinds() {
		for _, m := range k.Methods {
			for _, field := range append(m.Needs, m.May...) {
				if values["login."+field] == "" {
					t.Errorf("the login %s of %s has an unknown field %q", m.Name, k.Scheme, field)
				}
			}
		}
	}
}

// TestFieldsOfKinds holds that a description needs the fields that its kind says it needs, may have those that the kind
// says it may have, and is refused with any other.
func TestFieldsOfKinds(t *testing.T) {
	addresses := map[string]string{
		"https": "https://contoso.vault.azure.net", "hashivault": "hashivault://vault.example/transit",
		"awskms": "awskms://eu-central-1/123456789012", "kmip": "kmip://kmip.example",
		"gcpkms": "gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces", "pkcs11": "pkcs11:token=HSM",
	}
	values := map[string]string{
		"endpoint": "https://endpoint.example", "loginEndpoint": "https://login.example",
		"login.provider":       "projects/42/locations/global/workloadIdentityPools/pool/providers/visage",
		"login.serviceAccount": "visage@project-1.iam.gserviceaccount.com", "login.role": "visage-{principal}",
		"login.object": "visage-{principal}-{name}",
	}
	of := func(field string) string { return cmp.Or(values[field], "given") }
	for _, k := range stores.Kinds() {
		for _, m := range k.Methods {
			needs, may := slices.Clone(k.Needs), slices.Clone(k.May)
			for _, field := range m.Needs {
				needs = append(needs, "login."+field)
			}
			for _, field := range m.May {
				may = append(may, "login."+field)
			}
			check := func(fields map[string]string) error {
				s, err := stores.Described(addresses[k.Scheme], fields)
				if err != nil {
					t.Fatal(err)
				}
				if k.Library {
					s.Helper.Module = "/usr/lib/module.so"
				}
				return s.Check()
			}
			whole := map[string]string{"login.method": m.Name}
			for _, field := range needs {
				whole[field] = of(field)
			}
			if err := check(whole); err != nil {
				t.Fatalf("%s by %s with what it needs: %v", k.Scheme, m.Name, err)
			}
			for _, field := range stores.Fields() {
				given := maps.Clone(whole)
				switch {
				case field == "login.method":
					continue
				case slices.Contains(needs, field):
					if delete(given, field); check(given) == nil {
						t.Errorf("%s by %s is accepted without %s", k.Scheme, m.Name, field)
					}
				default:
					given[field] = of(field)
					if err := check(given); (err == nil) != slices.Contains(may, field) {
						t.Errorf("%s by %s with %s: %v", k.Scheme, m.Name, field, err)
					}
				}
			}
		}
	}
}

// TestHelpersAreSettings holds that nobody who may add a store can have a library of their choice run.
func TestHelpersAreSettings(t *testing.T) {
	dir := t.TempDir()
	for _, s := range []stores.Store{
		{Address: "pkcs11:token=HSM", Login: stores.Login{Method: "pin", SecretFile: filepath.Join(dir, "pin")},
			Helper: stores.Helper{Module: filepath.Join(dir, "module.so")}},
		{Address: "hashivault://vault.example/transit", Helper: stores.Helper{Read: []string{"/etc"}}},
	} {
		if err := s.FilesIn(dir); err == nil || !strings.Contains(err.Error(), "in the settings alone") {
			t.Errorf("%s: %v", s.Address, err)
		}
	}
}
