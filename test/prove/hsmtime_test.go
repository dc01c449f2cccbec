package prove_test

import (
	"context"
	"maps"
	"slices"
	"sync"
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

// alone keeps the changes of an administrator apart from the calls of a source that has the same library in this
// process. SoftHSM 2.6.1 keeps its objects in files and locks these with fcntl, which excludes other processes and no
// thread of its own: a thread that looks for objects reads the file of a new one while another thread has emptied it to
// write it anew, and takes the object for gone ("Object … is empty"). The thread that makes it fails then, with
// CKR_GENERAL_ERROR, or with CKR_TEMPLATE_INCONSISTENT where an attribute was read back before it was written. A
// service and its administrator have processes of their own.
type alone struct {
	keysource.Source
	calls *sync.RWMutex
}

// Wrap implements keysource.Source.
func (a alone) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	a.calls.RLock()
	defer a.calls.RUnlock()
	return a.Source.Wrap(ctx, inner)
}

// Unwrap implements keysource.Source.
func (a alone) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	a.calls.RLock()
	defer a.calls.RUnlock()
	return a.Source.Unwrap(ctx, ref, blob)
}

// Describe implements keysource.Source.
func (a alone) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	a.calls.RLock()
	defer a.calls.RUnlock()
	return a.Source.Describe(ctx, ref)
}

// TestTimeToBlockInHSM revokes keys of SoftHSM in each way. Its library is here, and not in a helper, whose process has
// a clock of its own: what the helper adds is measured in real time (TestTimeToBlockInStores). As in a helper, the
// question that confirms a refusal uses the login of the first.
func TestTimeToBlockInHSM(t *testing.T) {
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
		var calls sync.RWMutex
		open := func(key visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
			src, err := token.Open(key.Unversioned(), key.Name, key.Version)
			return alone{src, &calls}, err
		}
		change := func(do func()) {
			calls.Lock()
			defer calls.Unlock()
			do()
		}
		timeToBlock(t, chance, n, h.Address, slices.Sorted(maps.Keys(hsmWays)),
			func() (opener, error) { return open, nil },
			func(key string) { change(func() { h.MakeAES(key, "\x01") }) },
			func(key, way string) { change(func() { hsmWays[way](h, key) }) })
	})
}
