package settings

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// brokenConfigs are the errors of each file in testdata/config. Every file must be here, and give exactly these lines.
var brokenConfigs = map[string][]string{
	"boolean.yaml":   {`boolean.yaml:1: plain-http: is "maybe"; allowed: true or false`},
	"documents.yaml": {`documents.yaml: has 2 documents; allowed: one`},
	"duration.yaml":  {`duration.yaml:1: drain-timeout: is "-3s"; allowed: a duration such as 20s`},
	"list.yaml":      {`list.yaml:1: listen: is a sequence; allowed: host:port`},
	"map.yaml": {`map.yaml:1: root-key: is a mapping; allowed: ` +
		`file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH, tpm:DEVICE, a key in a key store`},
	"null.yaml":     {`null.yaml:1: dir: is a null; allowed: a path`},
	"quote.yaml":    {`quote.yaml: is not YAML: [1:9] could not find end character of double-quoted text`},
	"sequence.yaml": {`sequence.yaml: is not a list of settings, "name: value" in each line`},
	"models.yaml": {
		`models.yaml:1: model: is "recognition_04"; allowed: MODEL=PACK, the pack by its name or folder`,
		`models.yaml:1: model: names recognition_03 twice; allowed: MODEL=PACK, the pack by its name or folder`,
		`model: unknown recognition model "recognition_05"; ` +
			`allowed: recognition_01, recognition_02, recognition_03, recognition_04`,
	},
	"several.yaml": {
		`several.yaml:2: parallel: is "many"; allowed: a number from 1 to 256`,
		`several.yaml:3: log-level: is "loud"; allowed: debug, info, warn, error`,
		`listen: must be host:port, such as 127.0.0.1:8443; got "here"`,
	},
	"twice.yaml": {`twice.yaml: is not YAML: [2:1] mapping key "listen" already defined at [1:1]`},
	"unit.yaml":  {`unit.yaml:1: gallery-memory: is "12"; allowed: a size such as 512MiB or 4GiB, at least 1MiB`},
	"unknown.yaml": {
		`unknown.yaml:2: lissten: unknown setting; allowed: dir, store, store-password-file, epoch-keys, ` +
			`epoch-keys-secret-file, listen, public-url, trusted-proxy, ` +
			`domain, public-port, names, cert-file, key-file, plain-http, pack, model, closed-pack, library, ` +
			`parallel, gallery-memory, disk-reserve, rate, vault-rate, management-rate, token-rate, connections, ` +
			`anchors, accept-rollback, shared, peer-listen, peer-address, partition-memory, partition-copies, ` +
			`allow-private-urls, auto-approve, key-grace, azure-tenant, ` +
			`azure-client, azure-secret-file, azure-resources, key-stores, federation-issuer, trust-issuer, ` +
			`console-issuer, console-issuer-secret-file, issuer-ca-file, identity-endpoint, identity-endpoint-for, ` +
			`identity-endpoint-imds, root-key, root-key-wait, recovery-recipient, recovery-threshold, ` +
			`stop-delay, drain-timeout, log-level, log-format`,
	},
	"words.yaml": {`words.yaml: is not a list of settings, "name: value" in each line`},
}

func TestBrokenConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) != len(brokenConfigs) {
		t.Fatalf("%d files, %d expectations (%v)", len(files), len(brokenConfigs), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := given(t, "", nil, "--config", file)
			failure, ok := errors.AsType[*command.Failure](err)
			if !ok || failure.Code != command.ExitUsage {
				t.Fatalf("got %v; want a failure with the exit code for usage", err)
			}
			want := strings.Join(brokenConfigs[filepath.Base(file)], "\n")
			if got := strings.ReplaceAll(err.Error(), "testdata/config/", ""); got != want {
				t.Errorf("said\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// given loads settings from args, an environment and the text of a file.
func given(t *testing.T, file string, env map[string]string, args ...string) (*Settings, error) {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	if file != "" {
		path := filepath.Join(t.TempDir(), "visage.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Define(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(fs)
}

func TestFlagBeforeEnvironmentBeforeFile(t *testing.T) {
	file := "dir: /from/file\nlisten: 127.0.0.1:1\ndomain: file.test\nnames: [a.test, b.test]\nplain-http: " +
		"false\ngallery-memory: 2GiB\n"
	c, err := given(t, file, map[string]string{"VISAGE_LISTEN": "127.0.0.1:2", "VISAGE_DOMAIN": "env.test",
		"VISAGE_NAMES": "c.test,d.test"},
		"--domain", "flag.test")
	if err != nil {
		t.Fatal(err)
	}
	s := c.Server
	if s.Dir != "/from/file" || s.Listen != "127.0.0.1:2" || s.Domain != "flag.test" ||
		strings.Join(s.Names, " ") != "c.test d.test" ||
		s.PlainHTTP || s.GalleryBytes != 2<<30 {
		t.Errorf("got %+v", s)
	}
}

func TestEverySettingHasThreePlaces(t *testing.T) {
	values := map[string]string{
		"store": "postgres://visage@localhost/visage", "store-password-file": "/p",
		"epoch-keys": "file:///k", "epoch-keys-secret-file": "/s",
		"dir": "/x", "listen": "127.0.0.1:1", "domain": "x.test", "public-port": "443", "public-url": "https://x.test",
		"trusted-proxy": "10.0.0.0/8", "names": "y.test", "cert-file": "/c", "key-file": "/k",
		"plain-http": "true", "pack": "/p", "model": "recognition_04=p", "closed-pack": "p", "library": "/l",
		"parallel": "3", "gallery-memory": "5MiB", "disk-reserve": "6MiB",
		"allow-private-urls": "true", "auto-approve": "true", "rate": "50", "connections": "100", "vault-rate": "1",
		"management-rate": "1", "token-rate": "1", "anchors": "/a", "accept-rollback": "true", "shared": "true",
		"peer-listen": "127.0.0.1:1", "peer-address": "x.test:1", "partition-memory": "1MiB", "partition-copies": "3",
		"key-grace": "5m", "azure-tenant": "contoso.example", "azure-client": "x", "azure-secret-file": "/s",
		"azure-resources":            "/subscriptions/0f00c31a-9aa7-41cd-a6aa-b60cbd57f2b4",
		"key-stores":                 "/s",
		"federation-issuer":          "https://issuer.example/visage",
		"trust-issuer":               "https://login.example=visage",
		"issuer-ca-file":             "/i",
		"console-issuer":             "https://login.example=visage",
		"console-issuer-secret-file": "https://login.example=/s",
		"identity-endpoint":          "127.0.0.1:8444",
		"identity-endpoint-for":      "shop-app", "identity-endpoint-imds": "true",
		"root-key": "env:X", "root-key-wait": "1m",
		"recovery-recipient": strings.Repeat("0a", 32), "recovery-threshold": "2",
		"stop-delay": "3s", "drain-timeout": "3s", "log-level": "warn", "log-format": "json",
	}
	for _, s := range table {
		value, known := values[s.name]
		if !known {
			t.Errorf("setting %s has no value in this test", s.name)
			continue
		}
		t.Run(s.name+" by flag", func(t *testing.T) {
			_, err := given(t, "", nil, "--"+s.name+"="+value)
			wantNone(t, s.name, err)
		})
		t.Run(s.name+" by environment", func(t *testing.T) {
			_, err := given(t, "", map[string]string{s.variable(): value})
			wantNone(t, s.name, err)
		})
		t.Run(s.name+" by file", func(t *testing.T) {
			_, err := given(t, s.name+": "+value+"\n", nil)
			wantNone(t, s.name, err)
		})
	}
}

// leastSize is the least value of a setting, as the text about its allowed values names it.
var leastSize = regexp.MustCompile(`at least ([0-9]+[A-Za-z]+)`)

// TestTheLeastSizesAreAllowed wants a size that the text about a setting names as allowed to be.
func TestTheLeastSizesAreAllowed(t *testing.T) {
	sizes := 0
	for _, s := range table {
		if !strings.HasPrefix(s.allowed, "a size") {
			continue
		}
		sizes++
		least := leastSize.FindStringSubmatch(s.allowed)
		if least == nil {
			t.Errorf("%s: %q names no least size", s.name, s.allowed)
			continue
		}
		_, err := given(t, "", nil, "--"+s.name+"="+least[1])
		wantNone(t, s.name, err)
	}
	if sizes < 3 {
		t.Errorf("found %d settings that are sizes", sizes)
	}
}

// wantNone wants no mistake, except those of a certificate without its key, and of a replica without a database: this
// test sets each setting alone.
func wantNone(t *testing.T, name string, err error) {
	t.Helper()
	if err != nil && !strings.Contains(err.Error(), "go together: set") &&
		!strings.Contains(err.Error(), "peer-listen: is for replicas that share a store") &&
		!strings.Contains(err.Error(), "shared: needs a store that several servers can open") {
		t.Errorf("%s: %v", name, err)
	}
}

func TestTheSameValueTwiceIsNoMistake(t *testing.T) {
	if c, err := given(t, "", nil, "--dir", "/a", "--dir", "/a"); err != nil || c.Server.Dir != "/a" {
		t.Errorf("the same folder twice: %v", err)
	}
	if _, err := given(t, "", nil, "--dir", "/a", "--dir", "/b"); err == nil ||
		!strings.Contains(err.Error(), "--dir: is given 2 times; allowed: a path, once") {
		t.Errorf("two folders: %v", err)
	}
}

func TestUnknownVariable(t *testing.T) {
	_, err := given(t, "", map[string]string{"VISAGE_LISTN": "127.0.0.1:1", "VISAGE_SECRET_ROOT": "anything"})
	if err == nil || !strings.HasPrefix(err.Error(),
		"VISAGE_LISTN: unknown setting; allowed: VISAGE_CONFIG, VISAGE_DIR,") {
		t.Errorf("got %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "VISAGE_SECRET_ROOT: there") {
		t.Errorf("a secret's variable was refused: %v", err)
	}
}
