package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/recovery"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
	"github.com/visage-face/visage/test/postgres"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"visage": main})
}

// running is the server of a script.
type running struct {
	cancel context.CancelFunc // nil: none runs
	ended  chan error
	vault  *keystores.Vault // nil: none runs
	siteCA []byte           // PEM: the authority of the site
}

func (r *running) stop() error {
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	r.cancel = nil
	return <-r.ended
}

type runningKey struct{}

// TestScripts runs the stories in testdata/script. "server DIR [URL]" starts a server with made-up faces on a
// directory, without TLS where something stands before it at a public URL, "halt" stops it ("stop" would end the
// script), "group DIR PUT|DELETE ID" makes or deletes a person group as an application does, and "damage DIR" changes a
// bit of the epoch key of the default resource. "safe DIR" makes a vault with a key whose identifier is in $KEY from
// then on, and "allow DIR true|false" says whether that may be used. "until DIR NAME STATE" waits until the key of a
// resource is in a state, such as revoked: unlocking has the key asked, and does not wait for the answer. "vault DIR"
// starts a HashiCorp Vault with the key "faces", whose address is in $STORE and whose authority is in $CA from then on,
// and "permit DIR NAME" lets a resource use that key. "site DIR" serves the files of a folder over HTTPS, at $ISSUER
// and with the authority in $SITECA, and "server DIR issuer=URL" starts a server whose tokens for key stores state that
// issuer. "database" makes an empty PostgreSQL database, at $DATABASE, and "server DIR engine=URL" starts a server over
// it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			r := &running{}
			env.Values[runningKey{}] = r
			env.Defer(func() {
				if err := r.stop(); err != nil {
					t.Errorf("server: %v", err)
				}
			})
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": func(ts *testscript.TestScript, _ bool, args []string) {
				cfg := server.Config{}
				for _, arg := range args[1:] { // protectors of the root key, recipients, the issuer, a proxy
					if entry, ok := strings.CutPrefix(arg, "root-key="); ok {
						cfg.RootKeys = append(cfg.RootKeys, entry)
					} else if issuer, ok := strings.CutPrefix(arg, "issuer="); ok {
						cfg.FederationIssuer = issuer
					} else if name, ok := strings.CutPrefix(arg, "recipient="); ok {
						cfg.RecoveryRecipients = append(cfg.RecoveryRecipients, name)
					} else if url, ok := strings.CutPrefix(arg, "engine="); ok {
						cfg.Engine = url
					} else if least, ok := strings.CutPrefix(arg, "recovery-threshold="); ok {
						n, err := strconv.Atoi(least)
						ts.Check(err)
						cfg.RecoveryThreshold = n
					} else {
						cfg.PublicURL, cfg.PlainHTTP = arg, true
					}
				}
				startServer(ts, args[0], cfg)
			},
			"database": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("DATABASE", postgres.Shared(t).Database(t))
			},
			"halt": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(ts.Value(runningKey{}).(*running).stop())
			},
			"safe": func(ts *testscript.TestScript, _ bool, args []string) {
				s, err := openSafe(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Check(s.make(context.Background()))
				ts.Setenv("KEY", "https://"+s.host()+"/keys/faces")
			},
			"allow": func(ts *testscript.TestScript, _ bool, args []string) {
				s, err := openSafe(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Check(s.allow(context.Background(), args[1] == "true"))
			},
			"vault": func(ts *testscript.TestScript, _ bool, args []string) {
				v := keystores.StartVault(t)
				v.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
				ca := filepath.Join(ts.MkAbs(args[0]), "keystores", "ca.pem")
				ts.Check(os.WriteFile(ca, []byte(v.CA), 0o600))
				ts.Setenv("CA", ca)
				ts.Setenv("STORE", "hashivault://"+v.Address+"/transit")
				ts.Value(runningKey{}).(*running).vault = v
			},
			"site": func(ts *testscript.TestScript, _ bool, args []string) {
				site := startSite(ts.MkAbs(args[0]))
				ts.Defer(site.Close)
				r := ts.Value(runningKey{}).(*running)
				r.siteCA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw})
				ts.Check(os.WriteFile(ts.MkAbs("site.pem"), r.siteCA, 0o600))
				ts.Setenv("SITECA", ts.MkAbs("site.pem"))
				ts.Setenv("ISSUER", site.URL)
			},
			"permit": func(ts *testscript.TestScript, _ bool, args []string) {
				r := ts.Value(runningKey{}).(*running)
				ts.Check(permit(r.vault, ts.MkAbs(args[0]), args[1], r.siteCA))
			},
			"until": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(until(t.Context(), ts.MkAbs(args[0]), args[1], args[2]))
			},
			"group": func(ts *testscript.TestScript, refused bool, args []string) {
				err := group(ts.MkAbs(args[0]), args[1], args[2])
				if refused != (err != nil) {
					ts.Fatalf("%s of the group %s: %v", args[1], args[2], err)
				}
			},
			"forge": func(ts *testscript.TestScript, _ bool, args []string) {
				b, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Replace(b, []byte("guests"), []byte("others"), 1),
					0o600))
			},
			"person": func(ts *testscript.TestScript, _ bool, args []string) {
				key, err := rsa.GenerateKey(rand.Reader, 4096)
				ts.Check(err)
				public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
				ts.Check(err)
				private, err := x509.MarshalPKCS8PrivateKey(key)
				ts.Check(err)
				fingerprint, err := recovery.Fingerprint(&key.PublicKey)
				ts.Check(err)
				ts.Setenv(strings.ToUpper(args[0]), fingerprint)
				for name, block := range map[string]*pem.Block{
					".pem": {Type: "PUBLIC KEY", Bytes: public}, ".key": {Type: "PRIVATE KEY", Bytes: private},
				} {
					ts.Check(os.WriteFile(ts.MkAbs(args[0]+name), pem.EncodeToMemory(block), 0o600))
				}
			},
			"damage": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(damage(ts.MkAbs(args[0]))) },
		},
	})
}

func startServer(ts *testscript.TestScript, dir string, cfg server.Config) {
	cfg.Dir, cfg.Listen, cfg.Recogniser = ts.MkAbs(dir), "127.0.0.1:0", servertest.Faces{}
	srv, err := server.New(cfg)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	r := ts.Value(runningKey{}).(*running)
	r.cancel, r.ended = cancel, make(chan error, 1)
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	select {
	case err := <-ended:
		r.cancel = nil
		cancel()
		ts.Fatalf("server: %v", err)
	case <-srv.Ready():
		r.ended = ended
	}
}

// startSite serves the files of a folder. Beside them it has what a check must refuse: a redirect to the files, and an
// answer without end.
func startSite(dir string) *httptest.Server {
	const configuration = "/.well-known/openid-configuration"
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	mux.Handle("/moved"+configuration, http.RedirectHandler(configuration, http.StatusFound))
	mux.HandleFunc("/long"+configuration, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return // the client has gone
			}
		}
	})
	return httptest.NewTLSServer(mux)
}

// permit lets the identity of a resource use the key "faces", as docs/operations/key-stores.md has it. siteCA is the
// authority of the site for a server that has its issuer there.
func permit(v *keystores.Vault, dir, name string, siteCA []byte) error {
	c, err := operator.Dial(dir)
	if err != nil {
		return err
	}
	var one armwire.Account
	if err := c.Manage(context.Background(), http.MethodGet, operator.Path(name), nil, &one); err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodGet, c.Operator.Endpoint+"/"+c.Operator.TenantID+
		"/.well-known/openid-configuration", http.NoBody)
	if err != nil {
		return err
	}
	_, body, err := c.Send(req)
	if err != nil {
		return err
	}
	var issuer struct {
		URL  string `json:"issuer"`
		Keys string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &issuer); err != nil {
		return err
	}
	ca, err := os.ReadFile(c.Operator.CAFile)
	if err != nil {
		return err
	}
	if public := c.Operator.FederationIssuer; public != "" {
		issuer.URL, issuer.Keys, ca = public, identity.PublicKeysURL(public), siteCA
	}
	v.Post("auth/jwt/config", map[string]any{
		"jwks_url": issuer.Keys, "jwks_ca_pem": string(ca), "bound_issuer": issuer.URL,
	})
	v.Permit("visage-faces", map[string][]string{"transit/keys/faces": {"read"}, "transit/encrypt/faces": {"update"},
		"transit/decrypt/faces": {"update"}})
	v.Post("auth/jwt/role/visage-"+one.Identity.PrincipalID, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": one.Identity.PrincipalID,
		"bound_audiences": "vault.example", "token_policies": "visage-faces", "token_type": "batch",
	})
	return nil
}

// until waits for a state of a resource's key.
func until(ctx context.Context, dir, name, state string) error {
	c, err := operator.Dial(dir)
	if err != nil {
		return err
	}
	for tick := time.Tick(10 * time.Millisecond); ; {
		var one armwire.Account
		if err := c.Manage(ctx, http.MethodGet, operator.Path(name), nil, &one); err != nil {
			return err
		}
		if e := one.Properties.Encryption; e != nil && e.Status != nil && e.Status.State == state {
			return nil
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// group makes a person group or deletes it.
func group(dir, method, id string) error {
	c, err := operator.Dial(dir)
	if err != nil {
		return err
	}
	var keys armwire.AccountKeys
	err = c.Manage(context.Background(), http.MethodPost, operator.Path("default")+"/listKeys", nil, &keys)
	if err != nil {
		return err
	}
	body := `{"name":"x","recognitionModel":"recognition_04"}`
	req, err := http.NewRequest(method, c.Operator.Endpoint+"/face/v1.2/persongroups/"+id, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Ocp-Apim-Subscription-Key", keys.Key1)
	if res, b, err := c.Send(req); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s (%v)", method, b, err)
	}
	return nil
}

// damage flips a bit in the epoch key of the default resource, which is the one beside the operator's own.
func damage(dir string) error {
	keys, err := filepath.Glob(filepath.Join(dir, "keys", "epochs", "*", "*", "*"))
	if err != nil {
		return err
	}
	for _, key := range keys {
		if filepath.Base(filepath.Dir(key)) == strings.Repeat("0", 31)+"1" {
			continue
		}
		b, err := os.ReadFile(key)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(key, b, 0o600)
	}
	return errors.New("no epoch key to damage")
}

// TestServeServesUntilItIsTold starts the true program on the true model pack, which setup makes.
func TestServeServesUntilItIsTold(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	pack := filepath.Join(root, "models", "packs", "mobileface")
	if _, err := os.Stat(filepath.Join(pack, "pack.json")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the model pack must be there in CI: %v", err)
		}
		t.Skip("there is no model pack: make setup makes it")
	}
	t.Chdir(root) // beside which the library is found
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	errs, said := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := command.Execute(ctx, program(), command.Streams{Out: io.Discard, Err: said}, []string{
			"serve", "--dir", filepath.Join(t.TempDir(), "visage"), "--listen", "127.0.0.1:0", "--pack", pack,
		})
		said.Close()
		ended <- code
	}()
	var log bytes.Buffer
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		log.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "msg=serving endpoint=https://localhost:") {
			stop()
		}
	}
	if code := <-ended; code != command.ExitOK || !strings.Contains(log.String(), "msg=serving") ||
		!strings.Contains(log.String(), "msg=stopping") {
		t.Errorf("exit code %d; it said\n%s", code, log.String())
	}
}
