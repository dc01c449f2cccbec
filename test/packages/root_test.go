package packages_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var (
	dist = flag.String("dist", "", "the folder with what packaging has made")
	base = flag.String("root", "/", "the root of a Debian system into which packages are installed; it is not changed")
)

// made returns the one file of the output that matches, below the folder of -dist.
func made(t *testing.T, pattern string) string {
	t.Helper()
	if *dist == "" {
		t.Skip("without -dist: make prove-packages builds packages and runs this test")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can change roots")
	}
	found, err := filepath.Glob(filepath.Join(*dist, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %d files, want 1 (%v)", pattern, len(found), err)
	}
	path, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// root is a root of a system for one test.
type root struct {
	t        *testing.T
	dir      string
	emulator []string // that runs programs of another processor; nil: none is needed
}

// mount mounts something until the test ends.
func mount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v: %s", strings.Join(args, " "), err, out)
	}
	at := args[len(args)-1]
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", at).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", at, err, out)
		}
	})
}

// newRoot is the system of -root with a layer over it that takes all changes.
func newRoot(t *testing.T) root {
	t.Helper()
	layers := t.TempDir()
	mount(t, "-t", "tmpfs", "-o", "mode=755", "packages", layers)
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(layers, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := root{t: t, dir: filepath.Join(layers, "root")}
	mount(t, "-t", "overlay", "-o", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", *base,
		filepath.Join(layers, "upper"), filepath.Join(layers, "work")), "overlay", r.dir)
	r.system()
	return r
}

// system mounts what programs expect of a kernel. /run is empty, as without systemd.
func (r root) system() {
	r.t.Helper()
	for _, name := range []string{"proc", "dev", "run"} {
		if err := os.MkdirAll(r.at(name), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	mount(r.t, "--bind", "/proc", r.at("proc"))
	mount(r.t, "--bind", "/dev", r.at("dev"))
	mount(r.t, "-t", "tmpfs", "-o", "mode=755", "run", r.at("run"))
}

// at is a path of the root as this process sees it.
func (r root) at(path string) string { return filepath.Join(r.dir, path) }

// run runs a program in the root, as root, and returns what it writes.
func (r root) run(name string, args ...string) string {
	r.t.Helper()
	out, err := exec.Command("chroot", append([]string{r.dir, name}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// exists reports whether there is something at a path.
func (r root) exists(path string) bool {
	r.t.Helper()
	_, err := os.Lstat(r.at(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	return err == nil
}

// service is a running service in a root.
type service struct {
	root
	process *exec.Cmd
	user    string
	env     []string
	home    string      // the service's folder in the root
	ended   chan string // what it wrote after it was ready
}

// start runs the service in the root as a user with nothing but an environment, and waits until it serves.
func (r root) start(user, home string, env []string, command ...string) *service {
	r.t.Helper()
	s := &service{root: r, user: user, env: env, home: home, ended: make(chan string, 1)}
	s.process = s.command(command...)
	logs, err := s.process.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.process.Process.Kill() }) // it has ended unless the test has failed
	lines := bufio.NewReader(logs)
	var said strings.Builder
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if err != nil {
			r.t.Fatalf("the service ended: %v\n%s", s.process.Wait(), said.String())
		}
		if strings.Contains(line, "msg=serving") {
			break
		}
	}
	go func() {
		rest, _ := io.ReadAll(lines) // until the process ends
		s.ended <- string(rest)
	}()
	return s
}

// command is a command line as the service's user.
func (s *service) command(args ...string) *exec.Cmd {
	c := exec.Command("chroot", slices.Concat([]string{"--userspec=" + s.user, "--groups=", s.root.dir}, s.emulator,
		args)...)
	c.Env = s.env
	return c
}

// stop ends the service as systemd does.
func (s *service) stop() {
	s.t.Helper()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	logs := <-s.ended
	if err := s.process.Wait(); err != nil {
		s.t.Errorf("the service ended: %v\n%s", err, logs)
	}
}

// visage runs a command of the program as the service's user, and decodes its answer unless into is nil.
func (s *service) visage(into any, args ...string) {
	s.t.Helper()
	if into != nil {
		args = append(args, "-o", "json")
	}
	c := s.command(append([]string{"/usr/bin/visage"}, append(args, "--dir", s.home)...)...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		s.t.Fatalf("visage %s: %v: %s%s", strings.Join(args, " "), err, out, errs.String())
	}
	if into != nil {
		if err := json.Unmarshal(out, into); err != nil {
			s.t.Fatalf("visage %s: %v:\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// call makes one request of the data plane of the resource default, and decodes its answer unless into is nil.
func (s *service) call(method, path, contentType string, body []byte, into any) {
	s.t.Helper()
	var operator struct{ Endpoint, Listen string }
	b, err := os.ReadFile(s.at(filepath.Join(s.home, "operator.json")))
	if err == nil {
		err = json.Unmarshal(b, &operator)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var keys struct{ Key1 string }
	s.visage(&keys, "resource", "keys", "default")
	pem, err := os.ReadFile(s.at(filepath.Join(s.home, "ca.pem")))
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		s.t.Fatal("ca.pem has no certificate")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(s.t.Context(), method, operator.Endpoint+"/face/v1.2"+path,
		bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", keys.Key1)
	req.Header.Set("Content-Type", contentType)
	res, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %s, %v: %s", method, path, res.Status, err, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			s.t.Fatalf("%s %s: %v: %s", method, path, err, answer)
		}
	}
}

// photo is a picture with faces, of the package that the networks come from.
func photo(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "models", "node_modules", "@vladmandic", "face-api", "demo",
		"sample1.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// enrol makes a person with a face, which uses ONNX Runtime and the model pack, and returns the person's id.
func (s *service) enrol() string {
	s.t.Helper()
	s.call("PUT", "/persongroups/staff", "application/json", []byte(`{"name":"staff"}`), nil)
	var person struct{ PersonID string }
	s.call("POST", "/persongroups/staff/persons", "application/json", []byte(`{"name":"Adeline Thornquist"}`), &person)
	var faces []struct {
		FaceRectangle struct{ Left, Top, Width, Height int }
	}
	s.call("POST", "/detect?returnFaceId=false", "application/octet-stream", photo(s.t), &faces)
	if len(faces) == 0 {
		s.t.Fatal("no face was detected on the photo")
	}
	r := faces[0].FaceRectangle
	s.call("POST", fmt.Sprintf("/persongroups/staff/persons/%s/persistedfaces?targetFace=%d,%d,%d,%d", person.PersonID,
		r.Left, r.Top, r.Width, r.Height), "application/octet-stream", photo(s.t), nil)
	return person.PersonID
}

// remembers wants a person whom enrol has made, with the face.
func (s *service) remembers(person string) {
	s.t.Helper()
	var found struct {
		Name             string
		PersistedFaceIDs []string
	}
	s.call("GET", "/persongroups/staff/persons/"+person, "", nil, &found)
	if found.Name != "Adeline Thornquist" || len(found.PersistedFaceIDs) != 1 {
		s.t.Errorf("the person is %+v, want the one that was enrolled, with a face", found)
	}
}

// freePort is a port of this machine that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// arch is the processor of this machine as the names of files have it.
func arch(names map[string]string) string {
	if name := names[runtime.GOARCH]; name != "" {
		return name
	}
	return runtime.GOARCH
}
