// Package keystores starts the key stores of other vendors for tests: their own engines, in programs of their own that
// listen on this machine alone. make test builds the programs.
package keystores

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Vault is a running HashiCorp Vault with the transit engine at transit and keys/of/team, the KV engine of version 2 at
// kv, and the login methods jwt and approle. Its administrator may do everything.
type Vault struct {
	Address string // host and port
	CA      string // PEM of the authority that signed its certificate
	Root    string // the administrator's token
	Roots   *x509.CertPool
	tb      testing.TB
	client  *http.Client
}

// StartVault starts a Vault that ends with the test.
func StartVault(tb testing.TB) *Vault {
	tb.Helper()
	v := &Vault{tb: tb}
	v.start()
	return v
}

func (v *Vault) start() {
	v.tb.Helper()
	var ready struct{ Address, CA, RootToken string }
	launch(v.tb, "vault", &ready)
	v.Address, v.CA, v.Root, v.Roots = ready.Address, ready.CA, ready.RootToken, x509.NewCertPool()
	v.Roots.AppendCertsFromPEM([]byte(ready.CA))
	v.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: v.Roots,
	}}}
}

// Do sends a request of the administrator below /v1/, fails the test unless it succeeds, and returns the data of the
// answer.
func (v *Vault) Do(method, path string, body any) map[string]any {
	v.tb.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		v.tb.Fatal(err)
	}
	req, err := http.NewRequest(method, "https://"+v.Address+"/v1/"+path, bytes.NewReader(raw))
	if err != nil {
		v.tb.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.Root)
	res, err := v.client.Do(req)
	if err != nil {
		v.tb.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		v.tb.Fatalf("%s %s: status %d %s, %v", method, path, res.StatusCode, text, err)
	}
	var answer struct{ Data map[string]any }
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			v.tb.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return answer.Data
}

// Post is Do with POST.
func (v *Vault) Post(path string, body map[string]any) map[string]any {
	v.tb.Helper()
	return v.Do(http.MethodPost, path, body)
}

// Permit sets a policy: the capabilities at each path, which may end with a star.
func (v *Vault) Permit(policy string, rules map[string][]string) {
	v.tb.Helper()
	var all []map[string]any
	for path, capabilities := range rules {
		all = append(all, map[string]any{"path": path, "capabilities": capabilities})
	}
	v.Post("test/policies/"+policy, map[string]any{"rules": all})
}

// RevokeTokens ends every token but the administrator's.
func (v *Vault) RevokeTokens() {
	v.tb.Helper()
	v.Post("test/revoke", nil)
}

// Seal seals or unseals the server.
func (v *Vault) Seal(sealed bool) {
	v.tb.Helper()
	v.Post("test/seal", map[string]any{"sealed": sealed})
}

// launch starts a built program, which ends with the test, and decodes the line of JSON that it prints when it answers.
func launch(tb testing.TB, name string, ready any) {
	tb.Helper()
	cmd := exec.Command(program(tb, name))
	cmd.Env = append(os.Environ(), "GODEBUG=") // the rules of FIPS 140 are for this service, not for the stores
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", name, err)
	}
	tb.Cleanup(func() {
		_ = stdin.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			tb.Errorf("%s: %v\n%s", name, err, said.Bytes())
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, ready)
	}
	if err != nil {
		tb.Fatalf("start %s: %v\n%s", name, err, said.Bytes())
	}
}

// program returns the path of a built program, or skips the test with the reason; in CI it fails.
func program(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "RELEASING.md")); err == nil {
			break
		}
		if above := filepath.Dir(dir); above != dir {
			dir = above
			continue
		}
		tb.Fatal("this is not a checkout")
	}
	path := filepath.Join(dir, "bin", "keystores", name)
	if _, err := os.Stat(path); err != nil {
		reason := "the key store " + name + " is not built: run make test, or make bin/keystores/" + name
		if os.Getenv("CI") == "true" {
			tb.Fatal(reason)
		}
		tb.Skip(reason)
	}
	return path
}
