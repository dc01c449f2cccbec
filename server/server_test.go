package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/vision"
)

// call makes a request with the key of the default resource and returns the status and body.
func call(t *testing.T, s *servertest.Server, method, url, key string, body []byte) (int, string) {
	t.Helper()
	if strings.HasPrefix(url, "/") {
		url = s.URL + url
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", key)
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func detect(t *testing.T, s *servertest.Server, key string) (int, string) {
	t.Helper()
	return call(t, s, http.MethodPost, "/face/v1.2/detect", key, servertest.Photo(1, "ada"))
}

func TestFirstStartMakesEverything(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	for path, mode := range map[string]fs.FileMode{
		"": 0o700 | fs.ModeDir, "data": 0o700 | fs.ModeDir, "keys": 0o700 | fs.ModeDir, "keys/root.key": 0o600,
		"operator.json": 0o600,
		"ca.pem":        0o600,
	} {
		info, err := os.Stat(filepath.Join(s.Dir(), path))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: got %v, %v, want mode %v", path, info, err, mode)
		}
	}
	onFile, err := server.ReadOperator(filepath.Join(s.Dir(), server.OperatorFile))
	if err != nil || onFile != s.Operator() || onFile.Endpoint != s.URL || onFile.ClientSecret == "" {
		t.Errorf("operator.json says %+v, %v", onFile, err)
	}
	if status, body := detect(t, s, s.Key); status != http.StatusOK || !strings.Contains(body, "faceId") {
		t.Errorf("detect: %d %s", status, body)
	}
	if status, _ := detect(t, s, strings.Repeat("0", 32)); status != http.StatusUnauthorized {
		t.Errorf("detect with a wrong key: %d", status)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok",
		"/metrics":      "visage_api_requests_total",
		"/openapi.json": `"/face/v1.2/identify"`} {
		if status, body := call(t, s, http.MethodGet, path, "", nil); status != http.StatusOK || !strings.Contains(body,
			want) {
			t.Errorf("%s: %d, want 200 and %q", path, status, want)
		}
		if status, _ := call(t, s, http.MethodPost, path, "", nil); status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d, want 405", path, status)
		}
	}
}

func TestRestartKeepsKeysAuthorityAndSecret(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	operator, key := s.Operator(), s.Key
	ca, err := os.ReadFile(operator.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = servertest.Start(t, server.Config{Dir: s.Dir()})
	again := s.Operator()
	again.Endpoint, again.Listen = operator.Endpoint, operator.Listen // another free port
	if again != operator {
		t.Errorf("operator.json went from %+v to %+v", operator, again)
	}
	if after, err := os.ReadFile(operator.CAFile); err != nil || !bytes.Equal(after, ca) {
		t.Errorf("the authority changed (%v)", err)
	}
	if status, body := detect(t, s, key); status != http.StatusOK {
		t.Errorf("the old key: %d %s", status, body)
	}
}

func TestLostOperatorFileIsWrittenWithANewSecret(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	before := s.Operator()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Dir(), server.OperatorFile)); err != nil {
		t.Fatal(err)
	}
	s = servertest.Start(t, server.Config{Dir: s.Dir()})
	after := s.Operator()
	if after.ClientSecret == before.ClientSecret || after.SubscriptionID != before.SubscriptionID {
		t.Errorf("went from %+v to %+v, want a new secret for the same subscription", before, after)
	}
	if status := authenticate(t, s, before); status != http.StatusUnauthorized {
		t.Errorf("the old secret: %d, want 401", status)
	}
	if status, body := manage(t, s, s.Token(t, "https://management.azure.com")); status != http.StatusOK ||
		!strings.Contains(body,
			`"name":"default"`) {
		t.Errorf("the new secret: %d %s", status, body)
	}
}

// authenticate asks for a token with the secret of operator and returns the status.
func authenticate(t *testing.T, s *servertest.Server, operator server.Operator) int {
	t.Helper()
	res, err := s.Client.PostForm(s.URL+"/"+operator.TenantID+"/oauth2/token", url.Values{
		"grant_type": {"client_credentials"}, "resource": {"https://management.azure.com/"},
		"client_id": {operator.ClientID}, "client_secret": {operator.ClientSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// manage lists the accounts with a bearer token.
func manage(t *testing.T, s *servertest.Server, secret string) (int, string) {
	t.Helper()
	url := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.CognitiveServices/accounts?api-version=2025-09-01",
		s.URL, s.Operator().SubscriptionID)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestManagementIsForTheOperatorAlone(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	for name, secret := range map[string]string{
		"nothing": "", "a resource's key": s.Key, "the operator's secret": s.Operator().ClientSecret,
		"a token for faces": s.Token(t, "https://cognitiveservices.azure.com"),
	} {
		status, body := manage(t, s, secret)
		var said struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &said); err != nil || status != http.StatusUnauthorized ||
			said.Error.Code == "" {
			t.Errorf("%s: %d %s, want 401 and a code", name, status, body)
		}
		if strings.Contains(body, "accounts/") {
			t.Errorf("%s: the answer names resources: %s", name, body)
		}
	}
}

// TestStartFailures checks that each failure of a root key has its own error, and that none changes anything.
func TestStartFailures(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, cfg *server.Config)
		class error
		says  string
	}{
		{"key file gone", func(t *testing.T, cfg *server.Config) { remove(t, cfg.Dir, "keys/root.key") },
			keysource.ErrUnknown, "is missing: restore it from its backup"},
		{"key file of another instance", func(t *testing.T, cfg *server.Config) {
			write(t, cfg.Dir, "keys/root.key", []byte("another key, as random as can be"), 0o600)
		}, keysource.ErrWrong, "put that file back"},
		{"key file of zeros", func(t *testing.T, cfg *server.Config) {
			write(t, cfg.Dir, "keys/root.key", make([]byte, 32), 0o600)
		}, keysource.ErrDenied, "is all zeros"},
		{"key file readable by others",
			func(t *testing.T, cfg *server.Config) { chmod(t, cfg.Dir, "keys/root.key", 0o644) },
			keysource.ErrDenied, "run \"chmod 600"},
		{"key file cut short", func(t *testing.T, cfg *server.Config) {
			write(t, cfg.Dir, "keys/root.key", []byte("short"),
				0o600)
		},
			keysource.ErrUnknown, "has 5 bytes, not 32"},
		{
			"another kind of key", func(t *testing.T,
				cfg *server.Config) {
				cfg.RootKeys = []string{"env:VISAGE_SECRET_ROOT"}
			},
			nil, "it is protected by file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := server.Config{Dir: filepath.Join(t.TempDir(), "visage"), Listen: "127.0.0.1:0",
				Recogniser: servertest.Faces{}}
			s := servertest.Start(t, server.Config{Dir: cfg.Dir})
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			key, err := os.ReadFile(filepath.Join(cfg.Dir, "keys/root.key"))
			if err != nil {
				t.Fatal(err)
			}
			good := cfg
			c.spoil(t, &cfg)
			err = startAndFail(t, cfg)
			if c.class != nil && !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want class %v and %q", err, c.class, c.says)
			}
			write(t, cfg.Dir, "keys/root.key", key, 0o600)
			chmod(t, cfg.Dir, "keys/root.key", 0o600)
			if status, body := detect(t, servertest.Start(t, good), s.Key); status != http.StatusOK {
				t.Errorf("after the key was restored: %d %s", status, body)
			}
		})
	}
}

// rootHex is a root key, as a variable has it.
const rootHex = "a0f1c2d3e4b5968778695a4b3c2d1e0f102132435465768798a9bacbdcedfe0f"

// TestInterruptedFirstStart has the first start of an instance end early: the next one makes what is left, the default
// resource among it, which nobody gets back who deletes it.
func TestInterruptedFirstStart(t *testing.T) {
	t.Setenv("VISAGE_SECRET_ROOT", rootHex)
	for name, interrupt := range map[string]func(cfg *server.Config) (mend func() error){
		"before the root key is there": func(cfg *server.Config) func() error {
			cfg.RootKeys, cfg.RootKeyWait = []string{"tpm:" + filepath.Join(cfg.Dir, "none")}, time.Nanosecond
			return func() error {
				cfg.RootKeys = []string{"env:VISAGE_SECRET_ROOT"}
				return nil
			}
		},
		"before the operator is there": func(cfg *server.Config) func() error {
			link := filepath.Join(cfg.Dir, server.OperatorFile)
			if err := os.Symlink("elsewhere", link); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(link) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := server.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Recogniser: servertest.Faces{}}
			mend := interrupt(&cfg)
			if err := startAndFail(t, cfg); err == nil {
				t.Fatal("the first start was not interrupted")
			}
			if err := mend(); err != nil {
				t.Fatal(err)
			}
			s := servertest.Start(t, cfg) // uses the default resource
			const page = "/console/resources/default/delete"
			if said := s.Browser(t, "").Submit(page, page, nil); said.Status != http.StatusSeeOther {
				t.Fatalf("delete the default resource: %d %s", said.Status, said.Body)
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			srv, ended, stop := starting(t, cfg)
			<-srv.Ready()
			if keys, err := srv.Keys(t.Context(), "default"); err == nil {
				t.Errorf("the deleted resource is there again, with the keys %v", keys)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// startAndFail runs a server that must fail to start.
func startAndFail(t *testing.T, cfg server.Config) error {
	t.Helper()
	srv, err := server.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-srv.Ready():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err = srv.Run(ctx); err == nil {
		t.Fatal("the server served")
	}
	return err
}

func TestRootKeyFromEnvironmentAndPassphrase(t *testing.T) {
	t.Setenv("VISAGE_SECRET_ROOT", rootHex)
	t.Setenv("VISAGE_SECRET_WORDS", "correct horse battery staple")
	dir := filepath.Join(t.TempDir(), "visage")
	s := servertest.Start(t, server.Config{Dir: dir, RootKeys: []string{"env:VISAGE_SECRET_ROOT",
		"passphrase-env:VISAGE_SECRET_WORDS"}})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys", "root.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file was created that is not configured (%v)", err)
	}
	for _, alone := range []string{"env:VISAGE_SECRET_ROOT", "passphrase-env:VISAGE_SECRET_WORDS"} {
		again := servertest.Start(t, server.Config{Dir: dir, RootKeys: []string{alone}})
		if again.Key != s.Key {
			t.Errorf("%s alone opened other data", alone)
		}
		if err := again.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResourcesAnswerAtTheirOwnHost(t *testing.T) {
	s := servertest.Start(t, server.Config{Domain: "faces.test"})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	// The names do not resolve: the connection goes to the server in any case, and the certificate is checked against
	// them.
	transport := s.Client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
	}
	photo := servertest.Photo(1, "ada")
	for _, host := range []string{"default.faces.test", "DEFAULT.faces.test", "faces.test"} {
		status, body := call(t, s, http.MethodPost, "https://"+host+":"+port+"/face/v1.0/detect", s.Key, photo)
		if status != http.StatusOK {
			t.Errorf("at %s: %d %s", host, status, body)
		}
	}
	conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{
		RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "nobody.faces.test", MinVersion: tls.VersionTLS12,
	})
	if err == nil {
		conn.Close()
		t.Error("there is a certificate for the host of a resource that does not exist")
	}
}

func TestSlashesAreNotRedirected(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	status, body := call(t, s, http.MethodPost, s.URL+"//face/v1.0/detect", s.Key, servertest.Photo(1, "ada"))
	if status != http.StatusOK {
		t.Errorf("got %d %s, want 200", status, body)
	}
}

func TestConfigMistakesComeTogether(t *testing.T) {
	_, err := server.New(server.Config{
		Listen: "nowhere", Domain: "UPPER", CertFile: "a.pem", Parallel: -1,
		RootKeys: []string{"floppy:A", "env:X", "env:X"},
	})
	if err == nil {
		t.Fatal("a broken configuration was accepted")
	}
	for _, want := range []string{
		`listen: must be host:port`, `domain: must be a host name in lower case; got "UPPER"`, "cert-file: a certificate and its key go together",
		"parallel: must be between 1 and 256; got -1",
		"root-key: the entry is none of", `root-key: "env:X" is given twice`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestPlainHTTPIsForLoopback(t *testing.T) {
	_, err := server.New(server.Config{Listen: "0.0.0.0:8080", PlainHTTP: true})
	if err == nil || !strings.Contains(err.Error(), "listen must be a loopback address") {
		t.Errorf("got %v, want a refusal", err)
	}
	s := servertest.Start(t, server.Config{PlainHTTP: true})
	if !strings.HasPrefix(s.URL, "http://") {
		t.Errorf("the endpoint is %s", s.URL)
	}
	if status, body := detect(t, s, s.Key); status != http.StatusOK {
		t.Errorf("detect: %d %s", status, body)
	}
}

func TestTwoServersOnOneDirectory(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	err := startAndFail(t, server.Config{Dir: s.Dir(), Listen: "127.0.0.1:0", Recogniser: servertest.Faces{}})
	if err == nil {
		t.Fatal("the second server started")
	}
	if status, _ := detect(t, s, s.Key); status != http.StatusOK {
		t.Errorf("the first server answers %d", status)
	}
}

func TestOpenStoreMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nothing")
	if _, err := server.OpenStore(t.Context(), server.Config{Dir: dir}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was created (%v)", err)
	}
}

func TestStoppedServerVerifies(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	for range 3 {
		if status, body := detect(t, s, s.Key); status != http.StatusOK {
			t.Fatalf("detect: %d %s", status, body)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	store, err := server.OpenStore(t.Context(), server.Config{Dir: s.Dir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tally, err := store.Maintenance().Verify(t.Context(), func(f sealed.Finding) { t.Errorf("found %v", f.Err) })
	if err != nil || tally.Records < 3 {
		t.Errorf("got %+v, %v", tally, err)
	}
	if _, err := account.IDOf(t.Context(), store, "default"); err != nil {
		t.Errorf("the default resource is gone (%v)", err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name string, content []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, mode); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, dir, name string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
		t.Fatal(err)
	}
}

// slow holds every detection until it is released.
type slow struct {
	servertest.Faces
	entered chan struct{}
	release chan struct{}
}

func (s slow) Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	s.entered <- struct{}{}
	<-s.release
	return s.Faces.Detect(ctx, photo, want)
}

func TestStopLetsRequestsFinish(t *testing.T) {
	held := slow{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := servertest.Start(t, server.Config{Recogniser: held, PlainHTTP: true})
	type answer struct {
		status int
		body   string
	}
	answered := make(chan answer, 1)
	go func() {
		status, body := detect(t, s, s.Key)
		answered <- answer{status, body}
	}()
	<-held.entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	// New connections are refused as soon as the server stops listening; this is the only sign that it has begun to
	// stop.
	address := strings.TrimPrefix(s.URL, "http://")
	for {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		conn.Close()
	}
	close(held.release)
	if a := <-answered; a.status != http.StatusOK || !strings.Contains(a.body, "faceId") {
		t.Errorf("the request under way was answered %d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestStopDelayTellsBalancersFirst: a server that is to stop says so where balancers ask, and answers requests until
// the delay is over.
func TestStopDelayTellsBalancersFirst(t *testing.T) {
	s := servertest.Start(t, server.Config{PlainHTTP: true, StopDelay: 3 * time.Second})
	if status, body := detect(t, s, s.Key); status != http.StatusOK {
		t.Fatalf("before: %d %s", status, body)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	told, served := false, false
	for {
		res, err := client.Get(s.URL + "/readyz")
		if err != nil {
			break // it listens no more
		}
		res.Body.Close()
		if told = told || res.StatusCode == http.StatusServiceUnavailable; !told || served {
			continue
		}
		if res, err = client.Get(s.URL + "/healthz"); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("while it waits: %v, %v", res, err)
		}
		res.Body.Close()
		status, body := detect(t, s, s.Key)
		if served = status == http.StatusOK; !served {
			t.Fatalf("while it waits: %d %s", status, body)
		}
	}
	if !told || !served {
		t.Errorf("told before it stopped listening: %t, served meanwhile: %t", told, served)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
