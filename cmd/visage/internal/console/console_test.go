package console

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestWhereThereIsADesktop(t *testing.T) {
	for _, c := range []struct{ system, variable, want string }{
		{"linux", "", ""}, {"linux", "DISPLAY", "xdg-open"}, {"linux", "WAYLAND_DISPLAY", "xdg-open"},
		{"darwin", "", "open"}, {"freebsd", "DISPLAY", "xdg-open"},
	} {
		got := opener(c.system, func(name string) string {
			if name == c.variable {
				return ":0"
			}
			return ""
		})
		if got != c.want {
			t.Errorf("%s with %q: %q, want %q", c.system, c.variable, got, c.want)
		}
	}
}

// TestAddressIsNotOnACommandLine has a program in place of the browser's keep what it was started with.
func TestAddressIsNotOnACommandLine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs the desktop's programs of Linux")
	}
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" > " + dir + "/arguments\ncp \"$1\" " + dir + "/page\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("DISPLAY", ":0")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	const address = "https://localhost:8443/console/signin/secret"
	for range 2 { // the second replaces the file of the first
		if err := open(t.Context(), address); err != nil {
			t.Fatal(err)
		}
	}
	arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "page"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(arguments), "secret") || !strings.Contains(string(page), `url=`+address+`"`) {
		t.Errorf("started with %q, the page is %q", arguments, page)
	}
	info, err := os.Stat(strings.TrimSpace(string(arguments)))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the page: %v, %v", info, err)
	}
}
