package bench_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

const (
	vaultVariable = "VISAGE_BENCH_VAULT" // a folder; the program then acts as a vault instead of a benchmark
	vaultHost     = "far." + vaultDomain
	customers     = 1000
	heartbeat     = 90 * time.Second // three polls of each key
	connections   = 61 * time.Second // longer than idle connections stay open
)

// BenchmarkHeartbeat has a thousand resources under a thousand customers' keys, in a vault that is another process, and
// measures the cost of polling them at rest: processor time and memory of this process alone.
func BenchmarkHeartbeat(b *testing.B) {
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		skipped(b, customerTest+"heartbeat of 1,000", "this system has no /proc")
	}
	address, roots := startVault(b)
	dir := b.TempDir()
	put := func(b *testing.B) { // in the place that a start reads
		store, log := openWithAudit(b, dir)
		c := startCustody(b, store, log, "."+vaultDomain, address, roots)
		for i := range customers {
			id := sealed.SpaceID{3, byte(i >> 8), byte(i)}
			makeSpace(b, store, id)
			key := visage.KeyRef{Vault: "https://" + vaultHost, Name: "k" + strconv.Itoa(i),
				Version: fmt.Sprintf("%032x", i)}
			if _, err := c.Enable(b.Context(), id, key, customer); err != nil {
				b.Fatalf("enable: %v", err)
			}
		}
		waitActive(b, c)
	}
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			if _, err := os.Stat(filepath.Join(dir, "data")); err != nil {
				put(b)
			}
		}
	})
	b.Run("rest", func(b *testing.B) {
		time.Sleep(connections)
		before := resident(b)
		store, log := openWithAudit(b, dir)
		c := startCustody(b, store, log, "."+vaultDomain, address, roots)
		waitActive(b, c)
		time.Sleep(heartbeat) // connections of the start are closed by then, those of the polls are open
		var work float64
		for b.Loop() {
			if work == 0 { // one run is enough
				start, used := time.Now(), processorTime(b)
				time.Sleep(heartbeat)
				work = float64(processorTime(b)-used) / float64(time.Since(start))
			}
		}
		if n := c.Conditions()[custody.Active]; n != customers {
			b.Fatalf("%d of %d resources are active", n, customers)
		}
		atMost(b, customerTest+"heartbeat of 1,000 keys", work*100, 5, "% of a core",
			"user and system time of the process over 90 s")
		each := (resident(b) - before) / customers / 1024
		atMost(b, customerTest+"memory of a resource at rest", each, 40, "KB",
			"resident memory after a start with 1,000 open resources, with connections, less that before")
	})
}

func openWithAudit(b *testing.B, dir string) (*sealed.Store, *audit.Log) {
	b.Helper()
	store := openStore(b, dir)
	log, err := audit.Open(b.Context(), audit.Config{Store: store})
	if err != nil {
		b.Fatalf("open the audit log: %v", err)
	}
	background(b, log.Run)
	return store, log
}

func waitActive(b *testing.B, c *custody.Custody) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); c.Conditions()[custody.Active] <
		customers; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("resources: %v", c.Conditions())
		}
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the resident memory of the process in bytes, after unused memory was returned to the system.
func resident(b *testing.B) float64 {
	b.Helper()
	debug.FreeOSMemory()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(raw))[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize())
}

// startVault starts this program again as a vault, and returns its address and the roots that trust it.
func startVault(b *testing.B) (address string, roots *x509.CertPool) {
	b.Helper()
	address, ca := startOther(b, vaultVariable, b.TempDir())
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		b.Fatal("the vault sent an invalid certificate")
	}
	return address, roots
}

// startOther starts this program again as a server that has a folder, and returns its address and the authority of its
// certificate, in PEM.
func startOther(b *testing.B, variable, dir string) (address string, ca []byte) {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		_, err = cmd.StdinPipe() // whose end ends it, also when this process is killed
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("start a server: %v", err)
	}
	b.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("read the address of a server: %v", err)
	}
	if ca, err = os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(address), ca
}

// playVault answers as a vault in which every key exists: it keeps each wrapped key and returns it for its ticket. It
// does not return.
func playVault(dir string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		exit(err)
	}
	vault := &tickets{modulus: base64.RawURLEncoding.EncodeToString(key.N.Bytes()), kept: map[string]string{}}
	playServer(dir, "*."+vaultDomain, vault)
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// playServer prints its address and answers until the process ends.
func playServer(dir, host string, h http.Handler) {
	certificate, err := certificateFor(host)
	if err != nil {
		exit(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), block, 0o600); err != nil {
		exit(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		exit(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the process that has started this one ends
		os.Exit(0)
	}()
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}}
	exit(server.ServeTLS(listener, "", ""))
}

type tickets struct {
	modulus string // of every key: one that resources accept

	mu   sync.Mutex
	kept map[string]string
}

func (v *tickets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.localhost/`+vaultTenant+
			`", resource="https://`+vaultDomain+`"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // keys, name, version, verb
	if len(parts) < 3 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	kid := "https://" + r.Host + "/" + strings.Join(parts[:3], "/")
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{
		"key": map[string]any{
			"kid": kid, "kty": "RSA", "key_ops": []string{"wrapKey", "unwrapKey"}, "e": "AQAB",
			"n": v.modulus,
		},
		"attributes": map[string]any{"enabled": true, "recoveryLevel": "Recoverable"},
	}
	if len(parts) == 4 {
		var asked struct {
			Value string `json:"value"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		v.mu.Lock()
		value := v.kept[kid+asked.Value]
		if parts[3] == "wrapkey" {
			ticket := make([]byte, 256)
			rand.Read(ticket)
			value = base64.RawURLEncoding.EncodeToString(ticket)
			v.kept[kid+value] = asked.Value
		}
		v.mu.Unlock()
		answer = map[string]any{"kid": kid, "value": value}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
