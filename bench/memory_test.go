package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// BenchmarkMemory starts the program with the default model pack and reads its resident memory: idle after the start,
// and idle after some photos.
func BenchmarkMemory(b *testing.B) {
	const what = "memory: service, idle, models loaded"
	if _, err := os.Stat("/proc/self/status"); err != nil {
		skipped(b, what, "this system has no /proc")
	}
	pipeline, err := openPipeline(root(b), nil)
	if err != nil {
		skipped(b, what, err.Error())
	}
	if err := pipeline.Close(); err != nil {
		b.Fatalf("close the pipeline: %v", err)
	}
	pictures, err := onePhoto()
	if err != nil {
		skipped(b, what, err.Error())
	}
	program := filepath.Join(b.TempDir(), "visage")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/visage-face/visage/cmd/visage").
		CombinedOutput(); err != nil {
		b.Fatalf("build the program: %v\n%s", err, out)
	}
	var idle, worked float64
	for b.Loop() {
		if idle != 0 {
			continue // one run is enough
		}
		s := serve(b, program)
		idle = s.residentMB(b)
		for range 5 {
			s.detect(b, pictures.Small)
		}
		worked = s.residentMB(b)
		s.stop(b)
	}
	atMost(b, what, idle, 200, "MB", "VmRSS of visage serve after its start")
	told(b, "memory: service, idle again after 5 photos", worked, "MB", "VmRSS")
}

type served struct {
	cmd      *exec.Cmd
	dir      string
	program  string
	endpoint string
}

func serve(b *testing.B, program string) *served {
	b.Helper()
	s := &served{dir: filepath.Join(b.TempDir(), "visage"), program: program}
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	s.cmd = exec.CommandContext(ctx, program, "serve", "--dir", s.dir, "--listen", "127.0.0.1:0", "--log-format",
		"json")
	s.cmd.Dir = root(b)
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "VISAGE_") })
	log, err := s.cmd.StderrPipe()
	if err != nil {
		b.Fatalf("start the service: %v", err)
	}
	if err := s.cmd.Start(); err != nil {
		b.Fatalf("start the service: %v", err)
	}
	lines := bufio.NewScanner(log)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		var entry struct{ Msg, Endpoint string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
			s.endpoint = entry.Endpoint
			go func() { // ends with the process
				for lines.Scan() {
				}
			}()
			return s
		}
	}
	b.Fatalf("the service ended before it served:\n%s", strings.Join(said, "\n"))
	return nil
}

// residentMB returns the resident memory of the process, in megabytes of a million bytes.
func (s *served) residentMB(b *testing.B) float64 {
	b.Helper()
	n, ok := residentBytes(b, s.cmd.Process.Pid)
	if !ok {
		b.Fatal("the process has no VmRSS")
	}
	return float64(n) / 1e6
}

// detect sends a photo to the service.
func (s *served) detect(b *testing.B, photo []byte) {
	b.Helper()
	out, err := exec.Command(s.program, "resource", "keys", "default", "-o", "json", "--dir", s.dir).Output()
	if err != nil {
		b.Fatalf("read the keys: %v", err)
	}
	var keys struct{ Key1 string }
	if err := json.Unmarshal(out, &keys); err != nil {
		b.Fatalf("read the keys: %v", err)
	}
	ca, err := os.ReadFile(filepath.Join(s.dir, "ca.pem"))
	if err != nil {
		b.Fatalf("read the authority: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	web := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer web.CloseIdleConnections()
	req, err := http.NewRequestWithContext(b.Context(), "POST", s.endpoint+"/face/v1.2/detect", bytes.NewReader(photo))
	if err != nil {
		b.Fatalf("detect: %v", err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Ocp-Apim-Subscription-Key", keys.Key1)
	resp, err := web.Do(req)
	if err != nil {
		b.Fatalf("detect: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("detect: status %d", resp.StatusCode)
	}
}

func (s *served) stop(b *testing.B) {
	b.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatalf("stop the service: %v", err)
	}
	if err := s.cmd.Wait(); err != nil {
		b.Fatalf("the service did not stop cleanly: %v", err)
	}
}
