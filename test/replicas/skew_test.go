//go:build linux

package replicas_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/server/servertest"
)

// clockEnv makes the test binary a program that says what its clocks show, once for each line that it reads.
const clockEnv = "VISAGE_TEST_CLOCK"

func sayClocks() {
	begun := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		now := time.Now()
		fmt.Println(now.Unix(), int64(now.Sub(begun)/time.Second))
	}
}

// TestTheClockOfAProcessJumps shows that the clock of one process can be set, and no other clock is.
func TestTheClockOfAProcessJumps(t *testing.T) {
	if !skewable {
		t.Skip("the clock of a process cannot be set on this processor")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(servertest.Environ(), clockEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(out)
	ask := func() (wall, monotonic int64) {
		t.Helper()
		_, err := io.WriteString(in, "\n")
		if err == nil {
			_, err = fmt.Fscan(answers, &wall, &monotonic)
		}
		if err != nil {
			t.Fatal(err)
		}
		return wall, monotonic
	}
	ask() // a process that has just begun has not been given the vDSO yet
	for _, by := range []time.Duration{0, time.Hour, -24 * time.Hour, 0} {
		if err := setClock(t.Context(), cmd.Process.Pid, by); err != nil {
			t.Fatal(err)
		}
		wall, monotonic := ask()
		if d := wall - time.Now().Add(by).Unix(); d < -60 || d > 60 || monotonic < 0 || monotonic > 600 {
			t.Errorf("set by %v, the clock of the wall differs by %d s from that, and the other one shows %d s",
				by, d, monotonic)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
