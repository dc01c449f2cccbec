package keystores

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/payloads"
)

// KMIP is a running KMIP server that keeps its keys in memory. Who asks must have a certificate of its authority.
type KMIP struct {
	Address string // kmip://HOST:PORT
	CAFile  string
	// CertificateFile and KeyFile prove the application.
	CertificateFile, KeyFile string

	tb        testing.TB
	authority *x509.Certificate
	signer    *ecdsa.PrivateKey
	tls       *tls.Config

	mu      sync.Mutex
	keys    map[string]*KMIPKey // by unique identifier
	next    int
	refusal kmip.ResultReason // of every operation; 0: none
}

// KMIPKey is a key of the server.
type KMIPKey struct {
	Name                  string
	State                 kmip.State
	Usage                 kmip.CryptographicUsageMask
	Bits                  int32
	Extractable, Readable bool
	Unsaid                []kmip.AttributeName // attributes that the server does not have
	Until                 time.Time            // zero: no end
	Denied                bool                 // to everybody
	Refused               kmip.ResultReason    // of every operation with it; 0: none

	id       string
	material []byte
}

// StartKMIP starts a server that ends with the test.
func StartKMIP(tb testing.TB) *KMIP {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return ServeKMIP(tb, listener)
}

// ServeKMIP is StartKMIP on a listener, whose address says 127.0.0.1.
func ServeKMIP(tb testing.TB, plain net.Listener) *KMIP {
	tb.Helper()
	k := &KMIP{tb: tb, keys: map[string]*KMIPKey{}}
	dir := tb.TempDir()
	k.authority, k.signer = k.issue(dir, "ca", nil)
	k.CAFile, k.CertificateFile, k.KeyFile = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "application.pem"),
		filepath.Join(dir, "application-key.pem")
	k.issue(dir, "server", net.IPv4(127, 0, 0, 1))
	k.issue(dir, "application", nil)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem"))
	k.must(err)
	roots := x509.NewCertPool()
	roots.AddCert(k.authority)
	k.tls = &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert,
		// A listener without buffers has no room for tickets that nobody reads yet.
		SessionTicketsDisabled: true,
	}
	listener := tls.NewListener(plain, k.tls)
	k.Address = "kmip://" + listener.Addr().String()
	server := kmipserver.NewServer(listener, k.executor())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve() }()
	tb.Cleanup(func() {
		k.must(server.Shutdown())
		if err := <-ended; !errors.Is(err, kmipserver.ErrShutdown) {
			tb.Error(err)
		}
	})
	return k
}

// CA returns the authority, in PEM.
func (k *KMIP) CA() string {
	k.tb.Helper()
	raw, err := os.ReadFile(k.CAFile)
	k.must(err)
	return string(raw)
}

// Impostor returns the address of a server with the same certificate, which answers the first requests of each
// connection with some bytes each and ends the connection.
func (k *KMIP) Impostor(answers ...[]byte) string {
	k.tb.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", k.tls)
	k.must(err)
	var ended sync.WaitGroup
	k.tb.Cleanup(func() {
		k.must(listener.Close())
		ended.Wait()
	})
	ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // of Close
			}
			for _, answer := range answers {
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					_, _ = conn.Write(answer) // to whoever is still there
				}
			}
			_ = conn.Close() // as above
		}
	})
	return "kmip://" + listener.Addr().String()
}

func (k *KMIP) must(err error) {
	k.tb.Helper()
	if err != nil {
		k.tb.Fatal(err)
	}
}

// issue makes a certificate, and writes it and its private key into a folder. The first is the authority.
func (k *KMIP) issue(dir, name string, ip net.IP) (*x509.Certificate, *ecdsa.PrivateKey) {
	k.tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	k.must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := k.authority, k.signer
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		template.ExtKeyUsage = nil
		parent, signer = template, private
	}
	if ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	k.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	k.must(err)
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: raw}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		k.must(os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600))
	}
	cert, err := x509.ParseCertificate(raw)
	k.must(err)
	return cert, private
}

// MakeKey makes an active key that is fit to protect a resource, but for what change says, and returns its unique
// identifier.
func (k *KMIP) MakeKey(name string, change ...func(*KMIPKey)) string {
	k.tb.Helper()
	made := &KMIPKey{Name: name, State: kmip.StateActive, Bits: 256, material: make([]byte, 32),
		Usage: kmip.CryptographicUsageEncrypt | kmip.CryptographicUsageDecrypt}
	rand.Read(made.material) // never fails: the runtime ends the process instead
	for _, c := range change {
		c(made)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next++
	made.id = fmt.Sprintf("key-%d", k.next)
	k.keys[made.id] = made
	return made.id
}

// Change changes the keys with a name, and returns how many there are.
func (k *KMIP) Change(name string, change func(*KMIPKey)) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, found := range k.keys {
		if found.Name == name {
			change(found)
			n++
		}
	}
	return n
}

// Names returns the names of all keys.
func (k *KMIP) Names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, key := range k.keys {
		all = append(all, key.Name)
	}
	return all
}

// Rekey gives a name to a new key, and returns its unique identifier. The earlier one stays active.
func (k *KMIP) Rekey(name string) string {
	k.Change(name, func(old *KMIPKey) { old.Name = "" })
	return k.MakeKey(name)
}

// Remake gives the keys with a name other material, under the same unique identifier.
func (k *KMIP) Remake(name string) {
	k.Change(name, func(key *KMIPKey) {
		key.material = make([]byte, len(key.material))
		rand.Read(key.material) // as above
	})
}

// Refuse refuses every operation for a reason; 0 ends that.
func (k *KMIP) Refuse(reason kmip.ResultReason) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refusal = reason
}

func (k *KMIP) executor() *kmipserver.BatchExecutor {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the server logs there
	x := kmipserver.NewBatchExecutor()
	x.Route(kmip.OperationLocate, kmipserver.HandleFunc(k.locate))
	x.Route(kmip.OperationGetAttributes, kmipserver.HandleFunc(k.attributes))
	x.Route(kmip.OperationEncrypt, kmipserver.HandleFunc(k.encrypt))
	x.Route(kmip.OperationDecrypt, kmipserver.HandleFunc(k.decrypt))
	return x
}

// find returns a key. mu is held.
func (k *KMIP) find(id string) (*KMIPKey, error) {
	if k.refusal != 0 {
		return nil, kmipserver.Errorf(k.refusal, "as the test wants")
	}
	found := k.keys[id]
	if found == nil {
		return nil, kmipserver.ErrItemNotFound
	}
	if found.Denied {
		return nil, kmipserver.ErrPermissionDenied
	}
	if found.Refused != 0 {
		return nil, kmipserver.Errorf(found.Refused, "as the test wants")
	}
	return found, nil
}

func (k *KMIP) locate(
	_ context.Context, q *payloads.LocateRequestPayload,
) (*payloads.LocateResponsePayload, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refusal != 0 {
		return nil, kmipserver.Errorf(k.refusal, "as the test wants")
	}
	var a payloads.LocateResponsePayload
	for _, want := range q.Attribute {
		name, ok := want.AttributeValue.(kmip.Name)
		if !ok {
			return nil, kmipserver.ErrFeatureNotSupported
		}
		for id, key := range k.keys {
			if key.Name == name.NameValue {
				a.UniqueIdentifier = append(a.UniqueIdentifier, id)
			}
		}
	}
	return &a, nil
}

func (k *KMIP) attributes(
	_ context.Context, q *payloads.GetAttributesRequestPayload,
) (*payloads.GetAttributesResponsePayload, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, err := k.find(q.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	a := &payloads.GetAttributesResponsePayload{UniqueIdentifier: key.id}
	name := kmip.Name{NameValue: key.Name, NameType: kmip.NameTypeUninterpretedTextString}
	all := map[kmip.AttributeName]any{
		kmip.AttributeNameName:                   name,
		kmip.AttributeNameObjectType:             kmip.ObjectTypeSymmetricKey,
		kmip.AttributeNameCryptographicAlgorithm: kmip.CryptographicAlgorithmAES,
		kmip.AttributeNameCryptographicLength:    key.Bits,
		kmip.AttributeNameCryptographicUsageMask: key.Usage,
		kmip.AttributeNameState:                  key.State,
		kmip.AttributeNameExtractable:            key.Extractable,
		kmip.AttributeNameSensitive:              !key.Readable,
	}
	if !key.Until.IsZero() {
		all[kmip.AttributeNameDeactivationDate] = key.Until
	}
	for _, want := range q.AttributeName {
		if value, has := all[want]; has && !slices.Contains(key.Unsaid, want) {
			a.Attribute = append(a.Attribute, kmip.Attribute{AttributeName: want, AttributeValue: value})
		}
	}
	return a, nil
}

func (key *KMIPKey) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(key.material)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// encrypt chooses the nonce, whatever is asked for, as servers may.
func (k *KMIP) encrypt(
	_ context.Context, q *payloads.EncryptRequestPayload,
) (*payloads.EncryptResponsePayload, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, err := k.find(q.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	if key.State != kmip.StateActive {
		return nil, kmipserver.Errorf(kmip.ResultReasonIllegalOperation, "wrong key lifecycle state")
	}
	aead, err := key.aead()
	if err != nil {
		return nil, err
	}
	const nonce, tag = 12, 16
	sealed := aead.Seal(nil, nil, q.Data, q.AuthenticatedEncryptionAdditionalData)
	at := len(sealed) - tag
	return &payloads.EncryptResponsePayload{UniqueIdentifier: key.id, IVCounterNonce: sealed[:nonce],
		Data: sealed[nonce:at], AuthenticatedEncryptionTag: sealed[at:]}, nil
}

// decrypt decrypts with deactivated keys as well, as the standard permits.
func (k *KMIP) decrypt(
	_ context.Context, q *payloads.DecryptRequestPayload,
) (*payloads.DecryptResponsePayload, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, err := k.find(q.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	aead, err := key.aead()
	if err != nil {
		return nil, err
	}
	sealed := slices.Concat(q.IVCounterNonce, q.Data, q.AuthenticatedEncryptionTag)
	plain, err := aead.Open(nil, nil, sealed, q.AuthenticatedEncryptionAdditionalData)
	if err != nil {
		return nil, kmipserver.Errorf(kmip.ResultReasonCryptographicFailure, "the tag does not match")
	}
	return &payloads.DecryptResponsePayload{UniqueIdentifier: key.id, Data: plain}, nil
}
