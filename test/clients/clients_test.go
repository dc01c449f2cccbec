package clients_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

var (
	every  = flag.Bool("every", false, "fail for every client that is not installed")
	update = flag.Bool("update", false, "write the table of the page")
)

// client is a section of the page.
type client struct {
	name    string
	needs   string // the program that must be installed
	imports string // the Python module that must be installed
	keeper  bool   // signs in by the managed identity endpoint
	port443 bool   // accepts no port in the address of a vault
	imds    bool   // finds its identity as on a virtual machine
}

var clients = []client{
	{name: "curl", needs: "curl"},
	{name: "az", needs: "az"},
	{name: "Go", needs: "go"},
	{name: "JavaScript", needs: "node"},
	{name: "Python", needs: "/usr/bin/python3", imports: "azure.mgmt.cognitiveservices"},
	{name: "Terraform's library", needs: "azuresdk"},
	{name: "JavaScript, managed identity", needs: "node", keeper: true},
	{name: "Python, managed identity", needs: "/usr/bin/python3", imports: "azure.keyvault.keys", keeper: true},
	{name: "sops", needs: "sops", keeper: true},
	{name: "sigstore", needs: "sigstore", keeper: true},
	{name: "go-kms-wrapping", needs: "kmswrapping", keeper: true},
	{name: "Go CDK, port 443", needs: "gocloud", keeper: true, port443: true},
	{name: "Go, as on a virtual machine", needs: "go", keeper: true, imds: true},
	{name: "JavaScript, as on a virtual machine", needs: "node", keeper: true, imds: true},
	{name: "az, as on a virtual machine", needs: "az", keeper: true, imds: true},
}

// builtHere are the programs that make clients builds from the modules in the folders below.
var builtHere = []string{"azuresdk", "gocloud", "kmswrapping", "sigstore", "sops"}

// TestClients runs the page, client by client, each against a server of its own.
func TestClients(t *testing.T) {
	all := readPage(t)
	known := []string{"setup", "keeper", "route"}
	var order []string
	for _, c := range clients {
		known, order = append(known, c.name), append(order, c.name)
	}
	for _, b := range all {
		about := []string{b.name}
		if b.kind == "file" {
			about = b.clients()
		}
		for _, name := range about {
			if !slices.Contains(known, name) {
				t.Errorf("clients.md:%d: this test has no client %q", b.line, name)
			}
		}
	}
	var mu sync.Mutex
	rows := map[string]string{}
	t.Run("client", func(t *testing.T) {
		for _, c := range clients {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				done := c.run(t, all)
				mu.Lock()
				defer mu.Unlock()
				rows[c.name] = row(c.name, done)
			})
		}
	})
	if !t.Failed() {
		checkTable(t, order, rows, *update)
	}
}

// absent ends the test of a client that is not installed. CI requires the clients of Debian; those that make clients
// builds may be missing there.
func absent(t *testing.T, built bool, format string, args ...any) {
	t.Helper()
	if *every || os.Getenv("CI") == "true" && !built {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// run runs the blocks of a client and returns the completed flows.
func (c client) run(t *testing.T, all []block) map[string]bool {
	t.Helper()
	bin := c.programs(t)
	blocks := of(all, "block", c.name)
	if len(blocks) == 0 {
		t.Fatal("the page has no block for this client")
	}
	home := t.TempDir()
	for _, b := range all {
		if b.kind == "file" && slices.Contains(b.clients(), c.name) {
			write(t, filepath.Join(home, b.name), b.text)
		}
	}
	write(t, filepath.Join(home, "photo.jpg"), string(servertest.Photo(1, "ann")))
	c.libraries(t, home)
	script := "set -euo pipefail\n"
	if c.apart() {
		port := map[bool]int{true: 443, false: 8443}[c.port443]
		script += fmt.Sprintf(standalone, port, c.imds)
	} else {
		s := servertest.Start(
			t, server.Config{AutoApprove: true, IdentityEndpoint: "127.0.0.1:0",
				IdentityEndpointFor: []string{"keeper"}},
		)
		if err := os.Symlink(s.Dir(), filepath.Join(home, ".visage")); err != nil {
			t.Fatal(err)
		}
	}
	preamble := "setup"
	if c.keeper {
		preamble = "keeper"
	}
	before := of(all, "block", preamble)
	if c.imds {
		before = append(before, of(all, "block", "route")...)
	}
	for _, b := range append(before, blocks...) {
		script += b.text + fmt.Sprintf("echo '::passed %d'\n", b.line)
	}
	said, err := c.bash(t, home, bin, script)
	done := map[string]bool{}
	for _, b := range blocks {
		if !strings.Contains(said, fmt.Sprintf("::passed %d\n", b.line)) {
			t.Fatalf("the block at clients.md:%d failed (%v):\n%s", b.line, err, said)
		}
		for flow := range strings.SplitSeq(b.about, ", ") {
			if !slices.Contains(flows, flow) {
				t.Fatalf("clients.md:%d: unknown flow %q", b.line, flow)
			}
			done[flow] = true
		}
	}
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	return done
}

// apart reports whether a client needs a network of its own, in which all ports and routes are free.
func (c client) apart() bool { return c.port443 || c.imds }

// standalone starts a server in the network namespace of the script. Its arguments are the port and whether to serve
// IMDS.
const standalone = `ip link set lo up
port=%d
visage serve --listen 127.0.0.1:$port --identity-endpoint 127.0.0.1:8444 --identity-endpoint-for keeper --identity-endpoint-imds=%t 2> serve.log &
serving=$!
trap 'kill $serving 2> /dev/null; wait $serving || true' EXIT
until curl -fsS --cacert ~/.visage/ca.pem https://localhost:$port/readyz > /dev/null 2>&1; do kill -0 $serving || { cat serve.log; exit 1; }; sleep 0.2; done
`

// built is the folder of the command; empty before it is built.
var built string

// visageProgram is the command, built once.
var visageProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "visage-clients-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "visage")
	build := exec.Command("go", "build", "-o", path, "./cmd/visage")
	build.Dir = module
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build visage: %w: %s", err, said)
	}
	return path, nil
})

// TestMain removes the built command.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// programs returns the folders of a client's programs, and skips the test if they are missing.
func (c client) programs(t *testing.T) (folders string) {
	t.Helper()
	others, err := filepath.Abs(filepath.Join(module, "bin", "clients")) // where make clients builds them
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(others, c.needs)); err != nil {
		if _, err := exec.LookPath(c.needs); err != nil {
			absent(t, slices.Contains(builtHere, c.needs), "%s is not installed", c.needs)
		}
	}
	if c.imds {
		if _, err := exec.LookPath("nft"); err != nil {
			absent(t, false, "nft is not installed")
		}
	}
	if c.imports != "" {
		if said, err := exec.CommandContext(t.Context(), c.needs, "-c", "import "+c.imports).
			CombinedOutput(); err != nil {
			absent(t, false, "Python's module %s is not installed: %s", c.imports, said)
		}
	}
	visage, err := visageProgram()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(visage) + ":" + others + ":" + os.Getenv("PATH")
}

// libraries copies the libraries that a client's language would have downloaded.
func (c client) libraries(t *testing.T, home string) {
	t.Helper()
	switch c.needs {
	case "node":
		modules, err := filepath.Abs(filepath.Join(module, "test", "sdk", "node_modules"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(modules); err != nil {
			absent(t, false, "the official clients are not installed: run npm ci --ignore-scripts in test/sdk")
		}
		if err := os.Symlink(modules, filepath.Join(home, "node_modules")); err != nil {
			t.Fatal(err)
		}
	case "go":
		for _, name := range []string{"go.mod", "go.sum"} {
			b, err := os.ReadFile(filepath.Join(module, name))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(home, name), string(b))
		}
	}
}

// names match the hosts below localhost on the page. Not every system resolves such names by itself.
var names = regexp.MustCompile(`\b(curl|az|go|js|py|keeper)-(faces|safe)\b`)

// bash runs a script of the page in its own home, with hosts that resolve, and returns its output.
func (c client) bash(t *testing.T, home, path, script string) (string, error) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	hosts := "127.0.0.1 localhost vault.localhost\n"
	for _, name := range names.FindAllString(string(b), -1) {
		hosts += "127.0.0.1 " + name + ".localhost " + name + ".vault.localhost\n"
	}
	write(t, filepath.Join(home, "hosts"), hosts)
	write(t, filepath.Join(home, "page.sh"), script)
	apart := []string{"--mount"}
	if os.Getuid() != 0 {
		apart = append(apart, "--map-root-user")
	}
	if c.apart() {
		apart = append(apart, "--net")
	}
	if err := exec.CommandContext(t.Context(), "unshare",
		append(apart, "mount", "--bind", filepath.Join(home, "hosts"), "/etc/hosts")...).Run(); err != nil {
		absent(t, false, "the names do not resolve: no mount namespace: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare",
		append(apart, "bash", "-c", "mount --bind hosts /etc/hosts && exec bash page.sh")...)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + path, "LANG=C.UTF-8", "AZURE_CORE_COLLECT_TELEMETRY=no",
		"GOFLAGS=-mod=mod"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY"} {
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
	}
	machine := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	for setting, pattern := range map[string]string{
		"VISAGE_PACK": "models/packs/default",
		"VISAGE_LIBRARY": filepath.Join("models/node_modules/onnxruntime-node/bin/napi-v*/linux", machine,
			"libonnxruntime.so*"),
	} {
		if found, err := filepath.Glob(filepath.Join(module, pattern)); err == nil && len(found) > 0 && c.apart() {
			at, err := filepath.Abs(found[0])
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, setting+"="+at)
		}
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// including the server that the script started
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	return said.String(), err
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
