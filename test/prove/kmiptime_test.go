package prove_test

import (
	"context"
	"maps"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	api "github.com/ovh/kmip-go"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/kmip"
	"github.com/visage-face/visage/test/keystores"
)

// kmipWays are the ways to revoke a key of a KMIP server.
var kmipWays = map[string]func(k *keystores.KMIP, key string){
	"deactivated": kmipState(api.StateDeactivated), "compromised": kmipState(api.StateCompromised),
	"destroyed": kmipState(api.StateDestroyed), "not active yet": kmipState(api.StatePreActive),
	"rights": kmipRefusal(api.ResultReasonPermissionDenied), "gone": kmipRefusal(api.ResultReasonItemNotFound),
	"certificate": kmipRefusal(api.ResultReasonAuthenticationNotSuccessful),
	"made anew":   (*keystores.KMIP).Remake,
}

func kmipState(s api.State) func(*keystores.KMIP, string) {
	return func(k *keystores.KMIP, key string) { k.Change(key, func(k *keystores.KMIPKey) { k.State = s }) }
}

func kmipRefusal(reason api.ResultReason) func(*keystores.KMIP, string) {
	return func(k *keystores.KMIP, key string) { k.Change(key, func(k *keystores.KMIPKey) { k.Refused = reason }) }
}

// files has the files of a helper.
type files map[string]string

// File implements kmip.Files.
func (f files) File(_ context.Context, name string) ([]byte, error) { return os.ReadFile(f[name]) }

// loopback is a network without sockets whose one address is that of this machine.
type loopback struct{ *pipes }

// Addr implements net.Listener.
func (loopback) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5696} }

// TestTimeToBlockInKMIP revokes keys of a real server of KMIP in each way. The client is here, and not in its helper,
// whose process has a clock of its own: what the helper adds is measured in real time (TestTimeToBlockInStores). As in
// a helper, the question that confirms a refusal may use the connection of the first.
func TestTimeToBlockInKMIP(t *testing.T) {
	chance := chance(t)
	synctest.Test(t, func(t *testing.T) {
		network := loopback{&pipes{conns: make(chan net.Conn), closed: make(chan struct{})}}
		k := keystores.ServeKMIP(t, network)
		server, err := kmip.NewServer(kmip.Config{Address: k.Address, Roots: k.CA(), Dial: network.dial},
			files{kmip.Certificate: k.CertificateFile, kmip.PrivateKey: k.KeyFile})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		open := func(key visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
			return server.Open(key.Unversioned(), key.Name, key.Version)
		}
		timeToBlock(t, chance, revocations, k.Address, slices.Sorted(maps.Keys(kmipWays)),
			func() (opener, error) { return open, nil }, func(key string) { k.MakeKey(key) },
			func(key, way string) { kmipWays[way](k, key) })
	})
}
