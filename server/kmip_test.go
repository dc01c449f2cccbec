package server_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/test/keystores"

	api "github.com/ovh/kmip-go"
)

// keyManager is a KMIP server. A resource reaches the keys whose name has its principal.
type keyManager struct{ *keystores.KMIP }

func (k keyManager) describe(*testing.T) stores.Store {
	return stores.Store{Address: k.Address, CAFile: k.CAFile, Login: stores.Login{
		Method: "certificate", CertificateFile: k.CertificateFile, SecretFile: k.KeyFile,
	}}
}

func (k keyManager) trust(*testing.T, issuer) {}

func (k keyManager) makeKey(_ *testing.T, name string) string {
	k.MakeKey(name)
	return name
}

// grant gives keys the name by which an identity finds them, and activates them.
func (k keyManager) grant(_ *testing.T, who visage.PrincipalID, keys ...string) {
	for _, name := range keys {
		k.Change(name, func(key *keystores.KMIPKey) { key.Name = k.label(who, name) })
		k.Change(k.label(who, name), func(key *keystores.KMIPKey) { key.State = api.StateActive })
	}
}

func (k keyManager) label(who visage.PrincipalID, name string) string {
	return "visage-" + string(who) + "-" + name
}

func (k keyManager) revoke(_ *testing.T, key string) {
	for _, name := range k.Names() {
		if strings.HasSuffix(name, "-"+key) {
			k.Change(name, func(key *keystores.KMIPKey) { key.State = api.StateDeactivated })
		}
	}
}

func (k keyManager) rotate(_ *testing.T, key string) string {
	for _, name := range k.Names() {
		if strings.HasSuffix(name, "-"+key) {
			return k.Rekey(name)
		}
	}
	return ""
}

func TestKMIP(t *testing.T) { walkArticle(t, keyManager{keystores.StartKMIP(t)}) }

func TestKMIPOfOthers(t *testing.T) { walkOthers(t, keyManager{keystores.StartKMIP(t)}) }

func TestKMIPTheft(t *testing.T) { walkTheft(t, keyManager{keystores.StartKMIP(t)}) }
