package prove_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/awskms"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// awsCloud answers as KMS and STS do, in their wire formats, in a bubble. Its keys wrap nothing: they name themselves
// in front of what they are given, which is all that is needed to measure time.
type awsCloud struct {
	pipes
	roots *x509.CertPool

	mu      sync.Mutex
	revoked map[string]string // by key id: the way in which the key was revoked
}

const (
	awsPlace   = "awskms://eu-central-1/111122223333"
	awsKeys    = "arn:aws:kms:eu-central-1:111122223333:key/"
	awsSession = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
		`<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>` +
		`secret of the session</SecretAccessKey><SessionToken>session</SessionToken><Expiration>2100-01-01T00:00:00Z` +
		`</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	awsNoRole = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>` +
		`<Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error>` +
		`<RequestId>1</RequestId></ErrorResponse>`
)

// awsWays are the ways to revoke a key, and what KMS says then; empty: STS says it.
var awsWays = map[string]string{
	"rights": "AccessDeniedException", "disabled": "DisabledException", "deletion": "KMSInvalidStateException",
	"gone": "NotFoundException", "role": "",
}

func newAWSCloud(t *testing.T) *awsCloud {
	t.Helper()
	c := &awsCloud{pipes: pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, roots: x509.NewCertPool(),
		revoked: map[string]string{}}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"*.eu-central-1.amazonaws.com"}, IsCA: true,
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
	server := &http.Server{Handler: c, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}},
	}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.ServeTLS(&c.pipes, "", ""); err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return c
}

// way returns how a key was revoked; empty: it was not.
func (c *awsCloud) way(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revoked[key]
}

func (c *awsCloud) revoke(key, way string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked[key] = way
}

// ServeHTTP implements http.Handler.
func (c *awsCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", "1")
	operation, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !isKMS {
		w.Header().Set("Content-Type", "text/xml")
		_, key, _ := strings.Cut(r.PostFormValue("RoleArn"), "visage-")
		if c.way(key) == "role" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, awsNoRole)
			return
		}
		fmt.Fprint(w, awsSession)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var req struct {
		KeyID                     string `json:"KeyId"`
		Plaintext, CiphertextBlob []byte
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key := strings.TrimPrefix(req.KeyID, awsKeys)
	way := c.way(key)
	answer := map[string]any{"KeyId": req.KeyID, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	switch said := awsWays[way]; {
	case said != "" && (operation != "DescribeKey" || way != "deletion"):
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"__type": said, "message": "no"}
	case operation == "DescribeKey":
		about := map[string]any{"Arn": req.KeyID, "KeyId": key, "KeyState": "Enabled", "KeySpec": "SYMMETRIC_DEFAULT",
			"KeyUsage": "ENCRYPT_DECRYPT", "KeyManager": "CUSTOMER"}
		if way == "deletion" {
			about["KeyState"], about["DeletionDate"] = "PendingDeletion", time.Now().AddDate(0, 0, 7).Unix()
		}
		answer = map[string]any{"KeyMetadata": about}
	case operation == "Encrypt":
		answer["CiphertextBlob"] = append([]byte(key), req.Plaintext...)
	default:
		answer["Plaintext"] = req.CiphertextBlob[len(key):]
	}
	_ = json.NewEncoder(w).Encode(answer) // within this process
}

// open returns a source over a key, by a connection of its own or a shared one.
func (c *awsCloud) open(servers *awskms.Servers, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
	role, err := awskms.RoleARN(awsPlace, "visage-"+key.Name)
	if err != nil {
		return nil, err
	}
	return servers.Open(key, awskms.WebIdentity(role, string(as),
		func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil }))
}

// TestTimeToBlockInAWS revokes keys in AWS in each way that its documents have, each at a time of its own, and compares
// the time until the data is refused with the promise of the manual.
func TestTimeToBlockInAWS(t *testing.T) {
	const each, promised, typical = 20, 60 * time.Second, 45 * time.Second
	chance := chance(t)
	synctest.Test(t, func(t *testing.T) {
		cloud := newAWSCloud(t)
		cfg := awskms.Config{Address: awsPlace, Roots: cloud.roots, Dial: cloud.dial}
		shared, err := awskms.NewServers(cfg)
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
				fresh, err := awskms.NewServers(cfg)
				if err != nil {
					return nil, err
				}
				return cloud.open(fresh, key, as)
			},
			Watch: func(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
				return cloud.open(shared, key, as)
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
		for i, way := range slices.Repeat(slices.Sorted(maps.Keys(awsWays)), each) {
			id, key := sealed.SpaceID{1, byte(i >> 8), byte(i)}, visage.NewUUID().String()
			wait := time.Minute + time.Duration(chance.Int64N(int64(2*time.Minute)))
			if err := store.Spaces().Create(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			_, err := keeper.Enable(t.Context(), id, visage.KeyRef{Vault: awsPlace, Name: key}, vaultIdentity)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				time.Sleep(wait)
				if err := read(id); err != nil {
					t.Errorf("%s: before it is revoked: %v", way, err)
					return
				}
				cloud.revoke(key, way)
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
	})
}
