package assets_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/console/assets"
)

// open opens a file by its URL.
func open(t *testing.T, name string) (assets.File, bool) {
	t.Helper()
	url := assets.URL(name)
	parts := strings.Split(strings.TrimPrefix(url, "/console/assets/"), "/")
	if len(parts) != 2 || parts[1] != name {
		t.Fatalf("the path of %s is %q", name, url)
	}
	return assets.Open(parts[0], parts[1])
}

// TestFiles opens our own files by the paths that pages get.
func TestFiles(t *testing.T) {
	for name, contentType := range map[string]string{
		"style.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8",
		"icon.svg": "image/svg+xml",
	} {
		f, found := open(t, name)
		if !found || f.ContentType != contentType {
			t.Errorf("%s: found %t, of type %q, want %q", name, found, f.ContentType, contentType)
		}
		own, err := os.ReadFile(filepath.Join("static", name))
		if err != nil || !bytes.Equal(f.Content, own) {
			t.Errorf("%s is not the file (%v)", name, err)
		}
		if f.Gzipped == nil {
			continue
		}
		r, err := gzip.NewReader(bytes.NewReader(f.Gzipped))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := io.ReadAll(r); err != nil || !bytes.Equal(plain, f.Content) {
			t.Errorf("%s decompresses to something else (%v)", name, err)
		}
	}
}

// TestNothingElse wants paths of files that pages do not load, and of other versions, to lead nowhere.
func TestNothingElse(t *testing.T) {
	for _, name := range []string{"README.md", "LICENSE.lucide", "ok.svg", "../assets.go", ""} {
		if url := assets.URL(name); url != "" {
			t.Errorf("%q has the path %s", name, url)
		}
		if _, found := assets.Open("", name); found {
			t.Errorf("%q is served", name)
		}
	}
	if _, found := assets.Open("0000000000000000", "style.css"); found {
		t.Error("another version of style.css is served")
	}
	if icon := assets.Icon("no-such-icon"); icon != "" {
		t.Errorf("an unknown icon is %q", icon)
	}
}

// TestNpm wants what "make setup" fetches to be there, each icon of the list among it.
func TestNpm(t *testing.T) {
	if missing := assets.Missing(); len(missing) > 0 {
		reason := "not embedded: " + strings.Join(missing, ", ") + "; run make setup"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	if f, found := open(t, "htmx.min.js"); !found || f.Gzipped == nil {
		t.Errorf("htmx: found %t, compressed %t", found, f.Gzipped != nil)
	}
	for _, name := range listed(t) {
		icon := string(assets.Icon(name))
		if !strings.HasPrefix(icon, "<svg ") || !strings.HasSuffix(icon, "</svg>") || strings.Count(icon, "<") < 3 ||
			!strings.Contains(icon, `aria-hidden="true"`) {
			t.Errorf("icon %s is %q", name, icon)
		}
	}
}

// listed returns the names of icons.txt.
func listed(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../npm/icons.txt")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			names = append(names, words[0])
		}
	}
	if len(names) < 10 {
		t.Fatalf("the list has %d icons", len(names))
	}
	return names
}

// TestIconsOfPages wants every icon that templates and code name to be in the list.
func TestIconsOfPages(t *testing.T) {
	names := listed(t)
	named := regexp.MustCompile(`\bicon "([^"]*)"|\b[iI]con(?:: | :?= )"([^"]*)"`)
	count := 0
	for _, pattern := range []string{"../templates/*.html", "../*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range named.FindAllStringSubmatch(string(text), -1) {
				count++
				if name := match[1] + match[2]; !slices.Contains(names, name) {
					t.Errorf("%s: icon %q is not in console/npm/icons.txt", file, name)
				}
			}
		}
	}
	if count == 0 {
		t.Error("found no icon in any template")
	}
}

// TestPolicy looks for what the Content-Security-Policy of the console forbids, or would let text become markup.
func TestPolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|` +
		`\.style\b|setAttribute\('style|https?://|url\(|@import`)
	for _, name := range []string{"style.css", "console.js"} {
		f, _ := open(t, name)
		for i, line := range strings.Split(string(f.Content), "\n") {
			if found := forbidden.FindString(line); found != "" {
				t.Errorf("%s:%d: %s", name, i+1, found)
			}
		}
	}
}
