package keystores

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TPM is a running TPM 2.0 in software, swtpm, which listens on a Unix socket and keeps its state in a directory.
type TPM struct {
	Socket string
	dir    string
	tb     testing.TB
	cmd    *exec.Cmd
	said   *bytes.Buffer
}

// StartTPM starts a new TPM that ends with the test. Where swtpm is not installed, the test is skipped; in CI it fails.
func StartTPM(tb testing.TB) *TPM {
	tb.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		const missing = "swtpm is not installed: apt-get install swtpm"
		if os.Getenv("CI") == "true" {
			tb.Fatal(missing)
		}
		tb.Skip(missing)
	}
	dir, err := os.MkdirTemp("", "tpm") // short, since the path of a socket is limited to 108 bytes
	if err != nil {
		tb.Fatal(err)
	}
	t := &TPM{Socket: filepath.Join(dir, "socket"), dir: dir, tb: tb}
	tb.Cleanup(func() {
		t.Stop()
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	t.Start()
	return t
}

// Start starts the TPM again after Stop, as after a restart of the machine.
func (t *TPM) Start() {
	t.tb.Helper()
	// The socket listens before the program runs: nobody has to wait for it.
	l, err := net.Listen("unix", t.Socket)
	if err != nil {
		t.tb.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	defer l.Close() // the program has a copy
	handle, err := l.(*net.UnixListener).File()
	if err != nil {
		t.tb.Fatal(err)
	}
	defer handle.Close()
	t.said = &bytes.Buffer{}
	t.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.dir, "--server", "type=unixio,fd=3",
		"--flags", "not-need-init,startup-clear")
	t.cmd.ExtraFiles = []*os.File{handle} // number 3
	t.cmd.Stdout, t.cmd.Stderr = t.said, t.said
	if err := t.cmd.Start(); err != nil {
		t.tb.Fatalf("start swtpm: %v", err)
	}
}

// Stop ends the TPM, if it runs.
func (t *TPM) Stop() {
	if t.cmd == nil {
		return
	}
	_ = t.cmd.Process.Kill() // it may have ended
	_ = t.cmd.Wait()         // which says that it was killed
	_ = os.Remove(t.Socket)  // it may be gone
	if t.tb.Failed() {
		t.tb.Logf("swtpm: %s", t.said)
	}
	t.cmd = nil
}
