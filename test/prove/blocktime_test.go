package prove_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	random "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// cloud is a key store that answers in its own protocol, in a bubble. Its keys wrap nothing: they name themselves in
// front of what they are given, which is all that is needed to measure time.
type cloud struct {
	pipes
	roots *x509.CertPool

	mu      sync.Mutex
	revoked map[string]string // by key: the way in which it was revoked
}

// newCloud starts a store with a certificate for a host.
func newCloud(t *testing.T, host string, answer func(c *cloud, w http.ResponseWriter, r *http.Request)) *cloud {
	t.Helper()
	c := &cloud{pipes: pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, roots: x509.NewCertPool(),
		revoked: map[string]string{}}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.roots.AddCert(leaf)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(c, w, r) })
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}},
		// A pipe has no buffer: a server that sends tickets waits for a client that waits to send its first request.
		SessionTicketsDisabled: true,
	}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.ServeTLS(&c.pipes, "", ""); err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		c.cut()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return c
}

// way returns how a key was revoked; empty: it was not.
func (c *cloud) way(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revoked[key]
}

func (c *cloud) revoke(key, way string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked[key] = way
}

// opener opens sources over keys, by connections that they share.
type opener func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)

// revocations is how many revocations a store has to block in time, if nothing else is said.
const revocations = 200

// timeToBlock is that of a store in a bubble.
func (c *cloud) timeToBlock(
	t *testing.T, chance *random.Rand, place string, ways []string, connect func() (opener, error),
) {
	t.Helper()
	timeToBlock(t, chance, revocations, place, ways, connect, func(string) {}, c.revoke)
}

// timeToBlock revokes n keys of a place, in all ways, each at a time of its own, and compares the time until the data
// is refused with the promise of the manual. connect returns an opener with connections of its own, unless the store
// has none; prepare makes a key.
func timeToBlock(
	t *testing.T, chance *random.Rand, n int, place string, ways []string, connect func() (opener, error),
	prepare func(key string), revoke func(key, way string),
) {
	t.Helper()
	const promised, typical = 60 * time.Second, 45 * time.Second
	shared, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	store, err := sealed.Open(t.Context(), sealed.Config{Engine: "memory:",
		Protectors: []sealed.Protector{{Name: "root", Kind: "fake", Source: sourcetest.NewFake("root")}}})
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := custody.New(t.Context(), custody.Config{
		Store: store, Audit: audit.Discard{},
		Open: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			fresh, err := connect()
			if err != nil {
				return nil, err
			}
			return fresh(key, as)
		},
		Watch: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return shared(key, as)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run custody: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	read := func(id sealed.SpaceID) error {
		return store.Space(id).View(t.Context(), func(sealed.Reader) error { return nil })
	}
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	for i, way := range slices.Repeat(ways, (n+len(ways)-1)/len(ways)) {
		id, key := sealed.SpaceID{1, byte(i >> 8), byte(i)}, visage.NewUUID().String()
		wait := time.Minute + time.Duration(chance.Int64N(int64(2*time.Minute)))
		if err := store.Spaces().Create(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		prepare(key)
		_, err := keeper.Enable(t.Context(), id, visage.KeyRef{Vault: place, Name: key}, vaultIdentity)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			time.Sleep(wait)
			if err := read(id); err != nil {
				t.Errorf("%s: before it is revoked: %v", way, err)
				return
			}
			revoke(key, way)
			start := time.Now()
			for read(id) == nil && time.Since(start) < 2*promised {
				time.Sleep(500 * time.Millisecond)
			}
			now, err := keeper.Status(t.Context(), id)
			if err != nil || now.Code != "EncryptionKeyRevoked" {
				t.Errorf("%s: %+v, %v", way, now, err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(start))
		})
	}
	all.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("nothing was measured")
	}
	p99, most := took[len(took)*99/100], took[len(took)-1]
	t.Logf("%d revocations: median %v, p99 %v, max %v", len(took), took[len(took)/2], p99, most)
	if p99 > typical || most > promised {
		t.Errorf("p99 %v, max %v", p99, most)
	}
}
