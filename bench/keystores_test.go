package bench_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/test/keystores"
)

const (
	pollEvery  = 30 * time.Second // as custody polls, at random within a fifth of it
	pollsFirst = pollEvery        // the first polls, which make the connections, are not measured
	pollsTimed = 4 * pollEvery    // two minutes
	// how long an assertion is used, as identity.Directory.RecentAssertion says: longer than the polls are timed
	signedFor = 5 * time.Minute
)

// storeAdmin lets identities use one key of a running store.
type storeAdmin struct {
	about stores.Store
	key   string // its name
	trust func(s *tokenSite)
	grant func(s *tokenSite, all []visage.PrincipalID)
}

// BenchmarkKeyStores asks after a key as a thousand resources do, each as itself, at the times at which custody polls:
// for each poll a login with an assertion of the resource, and the opening of its probe. It measures the processor time
// of this process, without that of the store, which is another one, with the signatures that are due in that time
// instead of those that fall into it. The part of custody is in BenchmarkHeartbeat.
func BenchmarkKeyStores(b *testing.B) {
	for name, start := range map[string]func(b *testing.B) storeAdmin{
		"transit": startTransit, "AWS KMS": startAWS, "Google Cloud KMS": startGoogle,
	} {
		b.Run(name, func(b *testing.B) {
			admin := start(b)
			s := newTokenSite(b)
			all := make([]visage.PrincipalID, customers)
			for i := range all {
				p, err := s.identities.EnsureManaged(b.Context(), vaultTenant, "/r/"+strconv.Itoa(i),
					identity.SystemAssigned)
				if err != nil {
					b.Fatal(err)
				}
				all[i] = visage.PrincipalID(p.ID)
			}
			admin.trust(s)
			admin.grant(s, all)
			share, failed, polls := s.poll(b, admin, all)
			signature := s.signature(b)
			due := customers*float64(pollsTimed)/float64(signedFor) - float64(s.signed)
			share += due * float64(signature) / float64(pollsTimed)
			each := share * pollEvery.Seconds() * 1000 / customers
			atMost(b, "key stores: 1,000 resources in "+name, share*100, 5, "% of a core", fmt.Sprintf(
				"%.2f of the goal; %d polls in %v, %d failed; %.2f ms each, as long as %.1f signatures of %.2f ms",
				share*20, polls, pollsTimed, failed, each, each/milliseconds(signature), milliseconds(signature)))
			if failed > 0 {
				b.Errorf("%s: %d polls failed", name, failed)
			}
		})
	}
}

// poll asks after the key as all identities, and returns the share of a core that it took.
func (s *tokenSite) poll(b *testing.B, admin storeAdmin, all []visage.PrincipalID) (share float64, failed, n int64) {
	b.Helper()
	set, err := stores.NewSet([]stores.Store{admin.about}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	var last sync.Map // the assertion of each identity
	var signatures atomic.Int64
	shared := set.Connect(func(
		ctx context.Context, as visage.PrincipalID, audience string,
	) (string, time.Time, error) {
		token, expires, err := s.identities.RecentAssertion(ctx, string(as), audience)
		if before, known := last.Swap(as, token); known && before != token {
			signatures.Add(1)
		}
		return token, expires, err
	}, func(visage.KeyRef, visage.PrincipalID) stores.Asker { return stores.Asker{} })
	key, err := stores.ParseKey(admin.about.Address, admin.key, "")
	if err != nil {
		b.Fatal(err)
	}
	type probe struct {
		src  keysource.Source
		blob []byte
		ref  keysource.Ref
	}
	probes := make([]probe, len(all))
	var work sync.WaitGroup
	next := make(chan int)
	for range 16 {
		work.Go(func() {
			for i := range next {
				p := &probes[i]
				var err error
				if p.src, err = shared.Open(key, all[i]); err == nil {
					inner := make([]byte, 61) // as long as a sealed data key
					rand.Read(inner)
					p.blob, p.ref, err = p.src.Wrap(b.Context(), inner)
				}
				if err != nil {
					b.Errorf("wrap: %v", err)
				}
			}
		})
	}
	for i := range probes {
		next <- i
	}
	close(next)
	work.Wait()
	if b.Failed() {
		return 0, 0, 0
	}
	ctx, stop := context.WithCancel(b.Context())
	var polls, failures atomic.Int64
	for i, p := range probes {
		at := time.Duration(i) * pollEvery / time.Duration(len(probes))
		work.Go(func() {
			for turn := 0; ; turn++ {
				select {
				case <-time.After(at):
				case <-ctx.Done():
					return
				}
				_, err := p.src.Unwrap(ctx, p.ref, p.blob)
				if ctx.Err() != nil {
					return
				}
				if polls.Add(1); err != nil && failures.Add(1) == 1 {
					b.Logf("poll: %v", err)
				}
				at = pollEvery + time.Duration((i+turn)%13-6)*pollEvery/30
			}
		})
	}
	time.Sleep(pollsFirst)
	for b.Loop() {
		if share == 0 { // one run is enough
			used, start := processorTime(b), time.Now()
			before, wrong, signed := polls.Load(), failures.Load(), signatures.Load()
			time.Sleep(pollsTimed)
			share = float64(processorTime(b)-used) / float64(time.Since(start))
			n, failed, s.signed = polls.Load()-before, failures.Load()-wrong, signatures.Load()-signed
		}
	}
	stop()
	work.Wait()
	return share, failed, n
}

// siteVariable has a folder; the program then publishes it instead of a benchmark.
const siteVariable = "VISAGE_BENCH_SITE"

// publish serves a folder. It does not return.
func publish(dir string) { playServer(dir, "localhost", http.FileServer(http.Dir(dir))) }

// tokenSite is the identities of an instance, whose keys a web server in another process publishes: the stores of tests
// fetch them at every login, and those of vendors do not.
type tokenSite struct {
	identities   *identity.Directory
	issuer, keys string
	ca           string // PEM of the web server's authority
	signed       int64  // assertions, while polls were timed
}

func newTokenSite(b *testing.B) *tokenSite {
	b.Helper()
	dir := b.TempDir()
	address, ca := startOther(b, siteVariable, dir)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	s := &tokenSite{issuer: "https://localhost:" + port, ca: string(ca)}
	s.keys = s.issuer + "/keys"
	s.identities, err = identity.Open(b.Context(), identity.Config{
		Store: openStore(b, b.TempDir()), Tenant: vaultTenant, Issuer: func(string) string { return s.issuer },
		Audience: func(string) bool { return false },
		Place:    func(context.Context, string) (identity.Place, error) { return identity.Place{}, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"keys": s.identities.PublicKeys()})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "keys"), raw, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// signature returns the processor time of one assertion.
func (s *tokenSite) signature(b *testing.B) time.Duration {
	b.Helper()
	p, err := s.identities.EnsureManaged(b.Context(), vaultTenant, "/r/0", identity.SystemAssigned)
	if err != nil {
		b.Fatal(err)
	}
	const times = 200
	used := processorTime(b)
	for range times {
		if _, _, err := s.identities.Assertion(b.Context(), p.ID, "store.example"); err != nil {
			b.Fatal(err)
		}
	}
	return (processorTime(b) - used) / times
}

// authority writes the authority of a store's certificate to a file.
func authority(b *testing.B, ca string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte(ca), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func startTransit(b *testing.B) storeAdmin {
	v := keystores.StartVault(b)
	v.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	v.Permit("visage", map[string][]string{"transit/keys/faces": {"read"}, "transit/encrypt/faces": {"update"},
		"transit/decrypt/faces": {"update"}})
	return storeAdmin{
		about: stores.Store{Address: "hashivault://" + v.Address + "/transit", CAFile: authority(b, v.CA),
			Login: stores.Login{Method: "jwt", Audience: "vault.example"}},
		key: "faces",
		trust: func(s *tokenSite) {
			v.Post("auth/jwt/config", map[string]any{"jwks_url": s.keys, "jwks_ca_pem": s.ca, "bound_issuer": s.issuer})
		},
		grant: func(_ *tokenSite, all []visage.PrincipalID) {
			for _, who := range all {
				v.Post("auth/jwt/role/visage-"+string(who), map[string]any{
					"role_type": "jwt", "user_claim": "sub", "bound_subject": string(who),
					"bound_audiences": "vault.example", "token_policies": "visage", "token_type": "batch",
					"token_ttl": "10m",
				})
			}
		},
	}
}

func startAWS(b *testing.B) storeAdmin {
	k := keystores.StartKMS(b)
	key := k.CreateKey(map[string]any{})
	return storeAdmin{
		about: stores.Store{Address: keystores.KMSStore, Endpoint: "https://" + k.Address,
			LoginEndpoint: "https://" + k.Address, CAFile: authority(b, k.CA),
			Login: stores.Login{Method: "web-identity"}},
		key:   key,
		trust: func(*tokenSite) {}, // each role has its own
		grant: func(s *tokenSite, all []visage.PrincipalID) {
			for _, who := range all {
				role := "visage-" + string(who)
				k.Role(role, &keystores.Trust{Issuer: s.issuer, JWKS: s.keys, CA: s.ca, Subject: string(who),
					Audience: keystores.KMSStore})
				k.PermitRole(role, keystores.KMSUse, key)
			}
		},
	}
}

func startGoogle(b *testing.B) storeAdmin {
	c := keystores.StartCloudKMS(b)
	c.Key("faces", "", nil)
	return storeAdmin{
		about: stores.Store{Address: "gcpkms://" + keystores.CloudRing, Endpoint: "https://" + c.Address,
			CAFile: authority(b, c.CA),
			Login:  stores.Login{Method: "workload-identity", Provider: keystores.CloudProvider}},
		key: "faces",
		trust: func(s *tokenSite) {
			c.Provider(map[string]any{"issuer": s.issuer, "jwksUrl": s.keys, "ca": s.ca})
		},
		grant: func(_ *tokenSite, all []visage.PrincipalID) {
			members := make([]string, len(all))
			for i, who := range all {
				members[i] = keystores.CloudPrincipal(string(who))
			}
			c.Permit("faces", keystores.CloudRoles, members...)
		},
	}
}
