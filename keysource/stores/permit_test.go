package stores_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
)

const (
	subscription = "/subscriptions/0f00c31a-9aa7-41cd-a6aa-b60cbd57f2b4"
	teamGroup    = subscription + "/resourceGroups/team"
	accountsIn   = "/providers/Microsoft.CognitiveServices/accounts/"
)

// TestStoresThatTellResourcesApart: every description whose login is one for all resources must name resources, and no
// other one.
func TestStoresThatTellResourcesApart(t *testing.T) {
	for _, c := range []struct {
		address string
		login   stores.Login
		tells   bool
	}{
		{"https://safe.vault.azure.net", stores.Login{Method: "federated"}, true},
		{"hashivault://vault.example/transit", stores.Login{Method: "jwt"}, true},
		{"hashivault://vault.example/transit", stores.Login{Method: "approle"}, false},
		{"hashivault://vault.example/transit", stores.Login{Method: "token"}, false},
		{"awskms://eu-central-1/111122223333", stores.Login{Method: "web-identity"}, true},
		{"awskms://eu-central-1/111122223333", stores.Login{Method: "static"}, false},
		{"gcpkms://projects/p/locations/global/keyRings/r", stores.Login{Method: "workload-identity"}, true},
		{"gcpkms://projects/p/locations/global/keyRings/r", stores.Login{Method: "service-account"}, false},
		{"pkcs11:token=HSM", stores.Login{Method: "pin"}, true},
		{"pkcs11:token=HSM", stores.Login{Method: "pin", Object: "faces-{principal}-{name}"}, true},
		{"pkcs11:token=HSM", stores.Login{Method: "pin", Object: "faces-{name}"}, false},
		{"kmip://kms.example", stores.Login{Method: "certificate"}, true},
		{"kmip://kms.example", stores.Login{Method: "certificate", Object: "{name}"}, false},
	} {
		s := stores.Store{Address: c.address, Login: c.login}
		if s.TellsResources() != c.tells || (s.RequireResources() == nil) != c.tells {
			t.Errorf("%s with %+v tells resources apart: %v, %v; want %v", c.address, c.login, s.TellsResources(),
				s.RequireResources(), c.tells)
		}
		s.Resources = []string{stores.Everybody}
		if err := s.RequireResources(); err != nil {
			t.Errorf("%s with %+v for all: %v", c.address, c.login, err)
		}
	}
}

// TestResourcesOfDescriptions holds which entries the field has, and that it is the same in a form as in a file.
func TestResourcesOfDescriptions(t *testing.T) {
	for entries, says := range map[string]string{
		"*":          "",
		subscription: "",
		teamGroup + "," + strings.ToUpper(teamGroup) + "," + teamGroup + accountsIn + "vip": "",
		"*," + teamGroup:                       "leave one or the others out",
		"vip":                                  "management paths",
		subscription + "/":                     "management paths",
		subscription + "/resourceGroups/te*":   "management paths",
		"/subscriptions/ID":                    "management paths",
		teamGroup + accountsIn + "a/b":         "management paths",
		teamGroup + "/providers/Microsoft.X/y": "management paths",
	} {
		s, err := stores.Described("hashivault://vault.example/transit", map[string]string{"login.method": "jwt",
			"resources": entries})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Check()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", entries, err, says)
		}
		if got := s.Values()["resources"]; got != entries {
			t.Errorf("%s is shown as %s", entries, got)
		}
	}
}

// TestOnlyPermittedResourcesOpenKeys holds who may open a key at each moment: nobody in a store that does not tell
// resources apart and names none, but for the resources that have the key already.
func TestOnlyPermittedResourcesOpenKeys(t *testing.T) {
	token := stores.Store{Address: "hashivault://vault.example/transit",
		Login: stores.Login{Method: "token", SecretFile: "/none"}}
	set, err := stores.NewSet([]stores.Store{token}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	key := visage.KeyRef{Vault: token.Address, Name: "faces"}
	who := map[visage.PrincipalID]string{"vip": teamGroup + accountsIn + "vip", "other": subscription +
		"/resourceGroups/teams" + accountsIn + "vip"}
	holder := visage.PrincipalID("")
	open := set.Connect(nil, func(of visage.KeyRef, as visage.PrincipalID) stores.Asker {
		return stores.Asker{Path: who[as], Holds: func() bool { return as == holder && of == key }}
	})
	check := func(what string, permitted ...visage.PrincipalID) {
		t.Helper()
		for as := range who {
			want := false
			for _, p := range permitted {
				want = want || p == as
			}
			_, err := open.Open(key, as)
			refusal, _ := errors.AsType[*visage.Refusal](err)
			if want && err != nil || !want && (refusal == nil || refusal.Code != "KeyStoreNotPermitted") {
				t.Errorf("%s: %s opens the key: %v; want %v", what, as, err, want)
			}
		}
	}
	check("a store that names nobody")
	holder = "vip"
	check("a store that names nobody, with a key in use", "vip")
	if _, err := open.Open(visage.KeyRef{Vault: token.Address, Name: "another"}, "vip"); err == nil {
		t.Error("a resource with a key in the store opens another one")
	}
	set.SetResources(token.Address, []string{strings.ToUpper(teamGroup)})
	check("a store for one group", "vip")
	set.SetResources(token.Address, []string{who["other"]})
	check("a store for one resource", "other")
	set.SetResources(token.Address, []string{stores.Everybody})
	check("a store for all", "vip", "other")
	if _, err := open.Open(key, "nobody"); !errors.Is(err, keysource.ErrDenied) {
		t.Errorf("an identity without a resource: %v, want a refusal of the key", err)
	}

	src, err := open.Open(key, "vip")
	if err != nil {
		t.Fatal(err)
	}
	delete(who, "vip")
	if _, err := src.Describe(context.Background(), keysource.Ref{}); !errors.Is(err, keysource.ErrDenied) {
		t.Errorf("an identity that was removed since: %v, want a refusal of the key", err)
	}
	if err := set.Permit(key, stores.Asker{Path: teamGroup + accountsIn + "new"}); err != nil {
		t.Errorf("a resource without an identity yet: %v", err)
	}
}
