package bench_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/vaultapi"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

const (
	vaultDomain  = "vault.localhost"
	customer     = visage.PrincipalID("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
	vaultTenant  = "11111111-1111-4111-8111-111111111111"
	manyRecords  = 1_000_000
	customerTest = "customer keys: "
)

// BenchmarkCustomerKeys drives the life of customers' keys in the built-in vault, over TLS and through the official
// client for keys, as a server does. One resource has a million records, another ten.
func BenchmarkCustomerKeys(b *testing.B) {
	r := newCustodian(b)
	many, few := r.resource(b, 1, manyRecords), r.resource(b, 2, 10)
	b.Run("change", func(b *testing.B) { benchmarkChanges(b, r, many) })
	b.Run("update", func(b *testing.B) { benchmarkUpdate(b, r, many, few) })
	b.Run("revoke", func(b *testing.B) { benchmarkRevocation(b, r, few) })
}

// benchmarkChanges puts a million records under a customer's key, then another key, then the service's key again, while
// a reader reads all the time.
func benchmarkChanges(b *testing.B, r *custodian, id sealed.SpaceID) {
	one, two := r.newKey(b, "one"), r.newKey(b, "two")
	stop := r.read(b, id)
	var enabling, switching, disabling []time.Duration
	used := processorTime(b)
	for b.Loop() {
		if len(enabling) == 3 {
			continue // the median of three is enough
		}
		enabling = append(enabling, r.change(b, id, func() error { return r.enable(b, id, one) }))
		switching = append(switching, r.change(b, id, func() error { return r.enable(b, id, two) }))
		disabling = append(disabling, r.change(b, id, func() error {
			_, err := r.custody.Disable(b.Context(), id)
			return err
		}))
	}
	reads, failed := stop()
	each := (processorTime(b) - used).Seconds() / float64(3*len(enabling))
	note := fmt.Sprintf("median of %d; %.1f s of processor time each, including the concurrent reads", len(enabling),
		each)
	for what, times := range map[string][]time.Duration{"enable": enabling, "switch": switching, "disable": disabling} {
		atMost(b, customerTest+what+", 1,000,000 records", median(times).Seconds(), 3, "s", note)
	}
	atMost(b, customerTest+"reads that failed meanwhile", float64(failed), 0, "errors", fmt.Sprintf("%d reads", reads))
}

// benchmarkUpdate changes to new versions of a key, alternating between a million records and ten.
func benchmarkUpdate(b *testing.B, r *custodian, many, few sealed.SpaceID) {
	var times [2][]time.Duration
	var ratios []float64
	update := func(i int, id sealed.SpaceID, name string) {
		key := r.newKey(b, name)
		start := time.Now()
		if err := r.enable(b, id, key); err != nil {
			b.Fatalf("update: %v", err)
		}
		times[i] = append(times[i], time.Since(start))
	}
	for i, id := range []sealed.SpaceID{many, few} {
		r.change(b, id, func() error { return r.enable(b, id, r.newKey(b, "update"+strconv.Itoa(i))) })
	}
	for b.Loop() {
		for i := range 4 { // take turns at going first
			if i%2 == 0 {
				update(0, many, "update0")
			}
			update(1, few, "update1")
			if i%2 == 1 {
				update(0, many, "update0")
			}
			ratios = append(ratios, float64(times[0][len(times[0])-1])/float64(times[1][len(times[1])-1]))
		}
	}
	slices.Sort(ratios)
	note := fmt.Sprintf("median of %d pairs; %.1f ms and %.1f ms", len(ratios), milliseconds(median(times[0])),
		milliseconds(median(times[1])))
	atMost(b, customerTest+"update to a new version, 1,000,000 records against 10", ratios[len(ratios)/2], 1.2, "times",
		note)
	atMost(b, customerTest+"update to a new version", milliseconds(median(times[0])), 100, "ms", note)
}

// benchmarkRevocation disables a key in the vault and waits for the first read that is refused.
func benchmarkRevocation(b *testing.B, r *custodian, id sealed.SpaceID) {
	key := r.newKey(b, "revoked")
	r.change(b, id, func() error { return r.enable(b, id, key) })
	var times []time.Duration
	for b.Loop() {
		for range 20 {
			start := r.allow(b, key, false)
			for r.readOne(b, id) == nil {
				time.Sleep(100 * time.Microsecond)
			}
			times = append(times, time.Since(start))
			r.allow(b, key, true)
			for r.readOne(b, id) != nil {
				time.Sleep(time.Millisecond)
			}
		}
	}
	atMost(b, customerTest+"revocation to the first refusal, p99", milliseconds(quantile(times, 0.99)), 100, "ms",
		fmt.Sprintf("%d trials, median %.1f ms; built-in vault", len(times), milliseconds(median(times))))
}

// custodian is custody over the embedded engine and the built-in vault, as in a server.
type custodian struct {
	store   *sealed.Store
	custody *custody.Custody
	vaults  *keyvault.Service
	address string // of the vault, without a slash
}

func newCustodian(b *testing.B) *custodian {
	b.Helper()
	r := &custodian{store: openStore(b, b.TempDir())}
	log, err := audit.Open(b.Context(), audit.Config{Store: r.store})
	if err != nil {
		b.Fatalf("open the audit log: %v", err)
	}
	server := httptest.NewUnstartedServer(nil)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	address := func(vault string) string { return "https://" + vault + "." + vaultDomain + ":" + port + "/" }
	r.address = strings.TrimSuffix(address("safe"), "/")
	r.vaults,
		err = keyvault.New(keyvault.Config{Store: r.store, Address: address, Audit: log,
		OnChange: func(id string) {
			if key, err := azure.ParseKey(id, "", ""); err == nil {
				r.custody.Recheck(key)
			}
		}})
	if err != nil {
		b.Fatalf("make the vaults: %v", err)
	}
	plane, err := vaultapi.New(vaultapi.Config{
		Vaults: r.vaults, Address: address, Tokens: trusting{}, Audience: "https://" + vaultDomain + ":" + port,
		Authority: func(tenant string) string { return "https://login.localhost/" + tenant },
	})
	if err != nil {
		b.Fatalf("make the plane of the vaults: %v", err)
	}
	if server.Config.Handler, err = api.New(api.Config{Planes: []api.Plane{plane}}); err != nil {
		b.Fatalf("make the planes: %v", err)
	}
	roots := serveTLS(b, server, "safe."+vaultDomain)
	_, err = r.vaults.CreateVault(b.Context(), visage.Caller{}, keyvault.Vault{
		Name: "safe", Group: "default", Location: "local", Tenant: vaultTenant, PurgeProtection: true,
		Policies: []keyvault.AccessPolicy{{ObjectID: string(customer), Keys: []keyvault.Permission{keyvault.All}}},
	})
	if err != nil {
		b.Fatalf("make a vault: %v", err)
	}
	r.custody = startCustody(b, r.store, log, "."+vaultDomain+":"+port, server.Listener.Addr().String(), roots)
	background(b, log.Run)
	return r
}

// startCustody runs custody over a store; all hosts below domain are reached at address.
func startCustody(
	b *testing.B, store *sealed.Store, log audit.Recorder, domain, address string, roots *x509.CertPool,
) *custody.Custody {
	b.Helper()
	cfg := azure.Config{Hosts: []string{domain}, Roots: roots,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
	shared := azure.NewVaults(cfg)
	c, err := custody.New(b.Context(), custody.Config{
		Store: store, Audit: log,
		Open: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return azure.NewVaults(cfg).Open(key, idToken(as))
		},
		Watch: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return shared.Open(key, idToken(as))
		},
	})
	if err != nil {
		b.Fatalf("make custody: %v", err)
	}
	background(b, c.Run)
	return c
}

// background runs a function until the end of the benchmark.
func background(b *testing.B, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Errorf("in the background: %v", err)
		}
	})
}

// idToken is a credential whose tokens are principal ids, and trusting accepts them: the cost of tokens is measured
// elsewhere.
type idToken visage.PrincipalID

func (t idToken) Token(context.Context, string) (string, time.Time, error) {
	return string(t), time.Now().Add(time.Hour), nil
}

type trusting struct{}

func (trusting) Token(_ context.Context, bearer, _ string) (visage.Principal, error) {
	return visage.Principal{Method: "token", ObjectID: bearer, Tenant: vaultTenant}, nil
}

// serveTLS starts a server with a certificate for a host, and returns the pool of roots that trusts it.
func serveTLS(b *testing.B, server *httptest.Server, host string) *x509.CertPool {
	b.Helper()
	certificate, err := certificateFor(host)
	if err != nil {
		b.Fatalf("make a certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	b.Cleanup(server.Close)
	return roots
}

// certificateFor makes a self-signed certificate.
func certificateFor(host string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// resource makes a space with the given number of records.
func (r *custodian) resource(b *testing.B, number byte, records int) sealed.SpaceID {
	b.Helper()
	id := sealed.SpaceID{number}
	fill(b, makeSpace(b, r.store, id), records)
	return id
}

// newKey makes a key, or a new version of an existing one.
func (r *custodian) newKey(b *testing.B, name string) visage.KeyRef {
	b.Helper()
	made, err := r.vaults.CreateKey(b.Context(), r.owner(), keyvault.Ref{Vault: "safe", Name: name},
		keyvault.NewKey{Type: "RSA", Attributes: keyvault.Attributes{Enabled: true}})
	if err != nil {
		b.Fatalf("make a key: %v", err)
	}
	return visage.KeyRef{Vault: r.address, Name: name, Version: made.Version}
}

func (r *custodian) owner() visage.Caller {
	return visage.Caller{Principal: visage.Principal{Method: "token", ObjectID: string(customer), Tenant: vaultTenant}}
}

// allow enables or disables a key, and returns the time at which the vault confirmed that.
func (r *custodian) allow(b *testing.B, key visage.KeyRef, on bool) time.Time {
	b.Helper()
	start := time.Now()
	_, err := r.vaults.UpdateKey(b.Context(), r.owner(),
		keyvault.Ref{Vault: "safe", Name: key.Name, Version: key.Version},
		keyvault.KeyChange{Enabled: &on})
	if err != nil {
		b.Fatalf("change a key: %v", err)
	}
	return start
}

func (r *custodian) enable(b *testing.B, id sealed.SpaceID, key visage.KeyRef) error {
	_, err := r.custody.Enable(b.Context(), id, key, customer)
	return err
}

// change makes a change and returns how long it took to complete.
func (r *custodian) change(b *testing.B, id sealed.SpaceID, make func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := make(); err != nil {
		b.Fatalf("change: %v", err)
	}
	for {
		s, err := r.custody.Status(b.Context(), id)
		if err != nil {
			b.Fatalf("change: %v", err)
		}
		switch s.Operation.Progress {
		case custody.Succeeded:
			return time.Since(start)
		case custody.Failed:
			b.Fatalf("change: %+v", s.Operation)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *custodian) readOne(b *testing.B, id sealed.SpaceID) error {
	return r.store.Space(id).View(b.Context(), func(rd sealed.Reader) error {
		_, err := blobs.In("all").Get(rd, "7")
		return err
	})
}

// read reads records until the returned function is called, which returns the number of reads and of failures.
func (r *custodian) read(b *testing.B, id sealed.SpaceID) (stop func() (reads, failed int64)) {
	var reads, failed atomic.Int64
	ended := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
			}
			err := r.store.Space(id).View(context.Background(), func(rd sealed.Reader) error {
				_, err := blobs.In("all").Get(rd, strconv.Itoa(i*7919%manyRecords))
				return err
			})
			reads.Add(1)
			// At most a thousand requests a second: the change needs the processors as well.
			time.Sleep(time.Millisecond)
			if err != nil && failed.Add(1) == 1 {
				b.Logf("read: %v", err)
			}
		}
	})
	return func() (int64, int64) {
		close(ended)
		all.Wait()
		return reads.Load(), failed.Load()
	}
}
