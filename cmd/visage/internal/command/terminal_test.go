//go:build linux

package command_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// terminal returns a terminal, and a file that reads its output.
func terminal(t *testing.T) (tty, read *os.File) {
	t.Helper()
	read, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this system has no pseudoterminals: %v", err)
	}
	t.Cleanup(func() { read.Close() })
	number, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("this system has no pseudoterminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(read.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this system has no pseudoterminals: %v", err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, read
}

func TestColoursOnTerminalsAlone(t *testing.T) {
	tty, _ := terminal(t)
	file, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if got := command.Paint(tty, command.Red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("on a terminal: %q", got)
	}
	if got := command.Paint(file, command.Red, "x"); got != "x" {
		t.Errorf("in a file: %q", got)
	}
	if got := command.Paint(&strings.Builder{}, command.Red, "x"); got != "x" {
		t.Errorf("in memory: %q", got)
	}
	t.Setenv("TERM", "dumb")
	if got := command.Paint(tty, command.Red, "x"); got != "x" {
		t.Errorf("on a dumb terminal: %q", got)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if got := command.Paint(tty, command.Red, "x"); got != "x" {
		t.Errorf("with NO_COLOR: %q", got)
	}
}

func TestTableColoursStatesWithoutMovingColumns(t *testing.T) {
	tty, read := terminal(t)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	var table command.Table
	table.Row("NAME", "STATE", "NOTE")
	table.Row("vip", "locked", "x")
	if err := table.Write(tty); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := read.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	const want = "NAME  STATE   NOTE\r\nvip   \x1b[31mlocked\x1b[0m  x\r\n"
	if got := string(b[:n]); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProgressIsABarOnTerminals(t *testing.T) {
	tty, read := terminal(t)
	t.Setenv("TERM", "xterm")
	command.Progress{W: tty, What: "photos", Every: 100}.Done(1, 2)
	b := make([]byte, 1024)
	n, err := read.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b[:n]), "\r[###############               ] 1 of 2 photos"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
