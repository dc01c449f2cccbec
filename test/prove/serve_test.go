package prove_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// buildProgram builds the program once for all tests of this run and returns its path.
var buildProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "visage")
	out, err := exec.Command("go", "build", "-o", path, "github.com/visage-face/visage/cmd/visage").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

func program(t *testing.T) string {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// service is a running `visage serve`, or the serve child, which differs only in its recogniser.
type service struct {
	cmd      *exec.Cmd
	endpoint string
	dir      string
	program  string
	log      *servertest.Tail
}

// startService starts the service on dir and waits until it serves.
func startService(t *testing.T, dir string, real bool) *service {
	t.Helper()
	return startServiceAt(t, dir, real, "127.0.0.1:0")
}

// again starts the service at the same address: the identifiers of keys in its vaults contain it.
func (s *service) again(t *testing.T) *service {
	t.Helper()
	return startServiceAt(t, s.dir, false,
		strings.Replace(strings.TrimPrefix(s.endpoint, "https://"), "localhost", "127.0.0.1", 1))
}

func startServiceAt(t *testing.T, dir string, real bool, listen string) *service {
	t.Helper()
	s := &service{dir: dir, program: program(t), log: &servertest.Tail{}}
	args := []string{"serve", "--dir", dir, "--listen", listen, "--log-format", "json"}
	if real {
		s.cmd = exec.CommandContext(t.Context(), s.program, args...)
		s.cmd.Dir = filepath.Join("..", "..") // the folder of the models
		s.cmd.Env = servertest.Environ()
	} else {
		self, err := os.Executable()
		if err != nil {
			t.Fatalf("find the test binary: %v", err)
		}
		s.cmd = exec.CommandContext(t.Context(), self, dir, listen)
		s.cmd.Env = append(servertest.Environ(), childEnv+"=serve")
	}
	said, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatalf("start the service: %v", err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start the service: %v", err)
	}
	lines := bufio.NewReader(said)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			_ = s.cmd.Wait() // its log has the reason
			t.Fatalf("the service ended before it served:\n%s", s.log)
		}
		_, _ = s.log.Write(line) // it never fails
		var entry struct{ Msg, Endpoint string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
			s.endpoint = entry.Endpoint
			break
		}
	}
	go func() { // ends with the process, whose end closes the pipe
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			_, _ = s.log.Write(line) // it never fails
		}
	}()
	return s
}

// kill ends the service like a power cut of the process: none of its code runs any more.
func (s *service) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("kill the service: %v", err)
	}
	_ = s.cmd.Wait() // reports that it was killed
	if status, ok := s.cmd.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !status.Signaled() {
		t.Fatalf("the service ended by itself:\n%s", s.log)
	}
}

// client returns a client of a resource.
func (s *service) client(t *testing.T, key string) *client {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(s.dir, "ca.pem"))
	if err != nil {
		t.Fatalf("read the authority's certificate: %v", err)
	}
	c, err := newClient(s.endpoint, key, ca)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs a command of the program against this service's directory and returns what it printed.
func (s *service) run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := runProgram(s.program, append(args, "--dir", s.dir)...)
	if err != nil {
		t.Fatalf("visage %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// key returns the first key of a resource, which it creates unless it is the default one.
func (s *service) key(t *testing.T, resource string) string {
	t.Helper()
	if resource != "default" {
		s.run(t, "resource", "create", resource)
	}
	var keys struct{ Key1 string }
	if err := json.Unmarshal(s.run(t, "resource", "keys", resource, "-o", "json"), &keys); err != nil {
		t.Fatalf("read the keys of %s: %v", resource, err)
	}
	return keys.Key1
}

// verify runs `visage verify`, which opens every record, on a directory without a running service.
func verify(t *testing.T, dir string) error {
	t.Helper()
	_, err := runProgram(program(t), "verify", "--dir", dir)
	return err
}

// runProgram runs the program; its error contains the program's error output.
func runProgram(path string, args ...string) ([]byte, error) {
	cmd := exec.Command(path, args...)
	cmd.Dir = filepath.Join("..", "..") // the folder of the models, which serve needs first
	cmd.Env = servertest.Environ()
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s%s", err, out.Bytes(), complaints.Bytes())
	}
	return out.Bytes(), nil
}

// serveChild serves like `visage serve`, except that it recognises synthetic people without networks, and that its user
// may read its memory.
func serveChild(args []string) error {
	if len(args) != 2 {
		return errors.New("want the arguments: directory, address")
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	const rate = 1 << 20
	srv, err := server.New(server.Config{
		Dir: args[0], Listen: args[1], Logger: log, Recogniser: servertest.Faces{},
		Rate: rate, VaultRate: rate, ManagementRate: rate, TokenRate: rate,
	})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(context.Background()) }()
	select {
	case err := <-stopped:
		return err
	case <-srv.Ready():
	}
	if err := letOthersRead(); err != nil {
		return err
	}
	log.Info("serving", "endpoint", srv.Endpoint())
	return <-stopped
}
