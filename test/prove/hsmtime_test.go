package prove_test

import (
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/pkcs11"
	"github.com/visage-face/visage/test/keystores"
)

// hsmWays are the ways to revoke a key of a token.
var hsmWays = map[string]func(h *keystores.HSM, key string){
	"use":       func(h *keystores.HSM, key string) { h.Set(key, api.NewAttribute(api.CKA_DECRYPT, false)) },
	"label":     func(h *keystores.HSM, key string) { h.Set(key, api.NewAttribute(api.CKA_LABEL, "of nobody")) },
	"destroyed": (*keystores.HSM).Delete,
	"made anew": func(h *keystores.HSM, key string) { h.Delete(key); h.MakeAES(key, "\x01") },
}

// pin is the service of a token in this process.
type pin struct{ files }

// Kept implements pkcs11.Service.
func (pin) Kept() []byte { return nil }

// Keep implements pkcs11.Service.
func (pin) Keep([]byte) {}

// TestTimeToBlockInHSM revokes keys of SoftHSM in each way. Its library is here, and not in a helper, whose process has
// a clock of its own: what the helper adds is measured in real time (TestTimeToBlockInStores). As in a helper, the
// question that confirms a refusal uses the login of the first.
func TestTimeToBlockInHSM(t *testing.T) {
	if os.Getenv("VISAGE_ROUNDS") == "" {
		t.Skip("run with VISAGE_ROUNDS set: SoftHSM may answer CKR_GENERAL_ERROR to changes of objects that are in use")
	}
	chance, n := chance(t), rounds(t, 40) // SoftHSM looks at each of its objects whenever it looks for one
	h := keystores.StartSoftHSM(t)
	h.End() // the library belongs to the source now
	synctest.Test(t, func(t *testing.T) {
		token, err := pkcs11.Load(pkcs11.Config{Address: h.Address, Module: h.Module, Destroyable: true},
			pin{files{pkcs11.PIN: h.PINFile}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := token.Close(); err != nil {
				t.Error(err)
			}
		})
		h.Join()
		open := func(key visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
			return token.Open(key.Unversioned(), key.Name, key.Version)
		}
		timeToBlock(t, chance, n, h.Address, slices.Sorted(maps.Keys(hsmWays)),
			func() (opener, error) { return open, nil }, func(key string) { h.MakeAES(key, "\x01") },
			func(key, way string) { hsmWays[way](h, key) })
	})
}
