package pack_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// manifest is a small valid manifest, for a network file of the given bytes.
func manifest(network []byte) map[string]any {
	input := map[string]any{
		"name": "in", "width": 112, "height": 112, "channels": "BGR",
		"mean": []float64{0, 0, 0}, "divisor": []float64{1, 1, 1},
	}
	return map[string]any{
		"format": 1, "name": "small", "origin": "a test", "licence": "Apache-2.0",
		"files": []any{map[string]any{"name": "net.onnx", "bytes": len(network), "sha256": sum(network)}},
		"detector": map[string]any{"file": "net.onnx", "kind": "yunet", "input": input, "minScore": 0.6,
			"maxOverlap": 0.3},
		"recogniser": map[string]any{
			"file": "net.onnx", "output": "out", "length": 128, "input": input,
			"alignment": [][]float64{{38, 52}, {74, 52}, {56, 72}, {42, 92}, {71, 92}},
		},
		"calibration": map[string]any{
			"pairs": 10, "people": 5, "method": "guessed",
			"rates": []any{
				map[string]any{"distance": 0.2, "falseAccepts": 1e-5},
				map[string]any{"distance": 0.4, "falseAccepts": 1e-3},
				map[string]any{"distance": 0.8, "falseAccepts": 0.5},
			},
		},
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// entry is a file of an archive; link makes it a symbolic link.
type entry struct {
	name, link string
	data       []byte
}

var network = []byte("these are the bytes of a network")

// good are the files of a valid pack.
func good(t testing.TB) []entry {
	return []entry{
		{name: "small-1.0/README.md", data: []byte("not part of the pack")},
		{name: "small-1.0/net.onnx", data: network},
		{name: "small-1.0/pack.json", data: encode(t, manifest(network))},
	}
}

func tarGz(t testing.TB, entries []entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t testing.TB, entries []entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(0o644)
		if e.link != "" {
			h.SetMode(0o777 | os.ModeSymlink)
			e.data = []byte(e.link)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// save writes bytes to a file in a new folder and returns its path.
func save(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInstall(t *testing.T) {
	archive, packed := tarGz(t, good(t)), zipped(t, good(t))
	folder := t.TempDir()
	for _, e := range good(t) {
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(e.name)), e.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/small.tar.gz" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(archive) // the client reports an error
	}))
	defer server.Close()

	for _, row := range []struct {
		name string
		src  pack.Source
	}{
		{"tar", pack.Source{Location: save(t, "a.tgz", archive), SHA256: sum(archive)}},
		{"zip", pack.Source{Location: save(t, "a.zip", packed), SHA256: strings.ToUpper(sum(packed))}},
		{"folder", pack.Source{Location: folder, SHA256: sum(encode(t, manifest(network)))}},
		{"URL", pack.Source{Location: server.URL + "/small.tar.gz", SHA256: sum(archive)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "packs")
			p, err := pack.Install(t.Context(), root, row.src)
			if err != nil {
				t.Fatal(err)
			}
			if p.Name() != "small" || p.Dim() != 128 || p.Dir() != filepath.Join(root, "small") {
				t.Errorf("got %s of %d in %s", p.Name(), p.Dim(), p.Dir())
			}
			if _, err := pack.Open(p.Dir()); err != nil {
				t.Error(err)
			}
			onlyHolds(t, root, "small")
			onlyHolds(t, p.Dir(), "net.onnx", "pack.json")
			if _, err := pack.Install(t.Context(), root, row.src); !errors.Is(err, pack.ErrExists) {
				t.Errorf("installed twice: %v", err)
			}
		})
	}
	t.Run("not found", func(t *testing.T) {
		refused(t, pack.Source{Location: server.URL + "/other", SHA256: sum(archive)}, "404")
	})
}

// onlyHolds fails unless the folder holds exactly these names.
func onlyHolds(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if strings.Join(have, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %v, want %v", dir, have, names)
	}
}

// refused fails unless installing fails with an error that contains the words and leaves no files behind.
func refused(t *testing.T, src pack.Source, words string) error {
	t.Helper()
	root := t.TempDir()
	p, err := pack.Install(t.Context(), root, src)
	if err == nil {
		t.Fatalf("installed %s", p.Dir())
	}
	if !strings.Contains(err.Error(), words) {
		t.Errorf("%q does not say %q", err, words)
	}
	onlyHolds(t, root)
	return err
}

func TestInstallRefuses(t *testing.T) {
	change := func(at int, e entry) []entry {
		all := good(t)
		all[at] = e
		return all
	}
	for _, row := range []struct {
		name    string
		entries []entry
		words   string
	}{
		{"a path that leaves", change(1, entry{name: "../net.onnx", data: network}), "not the name of a file"},
		{"an absolute path", change(1, entry{name: "/net.onnx", data: network}), "not the name of a file"},
		{"a hidden climb", change(1, entry{name: "small-1.0/../../net.onnx", data: network}), "not the name of a file"},
		{"a link", change(1, entry{name: "small-1.0/net.onnx", link: "/etc/passwd"}), "neither a file nor a folder"},
		{"two folders", change(1, entry{name: "other/net.onnx", data: network}), "not in the same folder"},
		{"a file twice", append(good(t), good(t)[1]), "file exists"},
		{"other bytes", change(1, entry{name: "small-1.0/net.onnx", data: []byte("those are the bytes of a network")}),
			"SHA-256"},
		{"fewer bytes", change(1, entry{name: "small-1.0/net.onnx", data: network[1:]}), "bytes, the manifest says"},
		{"no network", good(t)[2:], "net.onnx"},
		{"no manifest", good(t)[:2], "pack.json"},
		{"too many files", append(good(t), crowd(300)...), "more than 256 entries"},
	} {
		t.Run(row.name, func(t *testing.T) {
			archive, packed := tarGz(t, row.entries), zipped(t, row.entries)
			refused(t, pack.Source{Location: save(t, "a.tgz", archive), SHA256: sum(archive)}, row.words)
			refused(t, pack.Source{Location: save(t, "a.zip", packed), SHA256: sum(packed)}, row.words)
		})
	}

	archive := tarGz(t, good(t))
	path := save(t, "a.tgz", archive)
	if err := refused(t, pack.Source{Location: path, SHA256: sum(network)}, "SHA-256"); !errors.Is(err,
		pack.ErrDigest) {
		t.Errorf("%v is not ErrDigest", err)
	}
	refused(t, pack.Source{Location: path}, "required")
	refused(t, pack.Source{Location: path, SHA256: "abc"}, "64 hexadecimal digits")
	refused(t, pack.Source{Location: "ftp://example.com/a.tgz", SHA256: sum(archive)}, "only http and https")
	refused(t, pack.Source{Location: filepath.Join(t.TempDir(), "none"), SHA256: sum(archive)}, "no such file")
	cut := archive[:len(archive)-20]
	refused(t, pack.Source{Location: save(t, "a.tgz", cut), SHA256: sum(cut)}, "unpack archive")
	refused(t, pack.Source{Location: save(t, "a.txt", network), SHA256: sum(network)}, "neither a .tar.gz nor a .zip")
}

func crowd(n int) (entries []entry) {
	for i := range n {
		entries = append(entries, entry{name: fmt.Sprintf("small-1.0/f%d", i), data: []byte("x")})
	}
	return entries
}

func TestInstallStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	root := t.TempDir()
	src := pack.Source{Location: server.URL, SHA256: sum(network)}
	if _, err := pack.Install(ctx, root, src); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	onlyHolds(t, root)
}

func TestOpenVerifiesFiles(t *testing.T) {
	archive := tarGz(t, good(t))
	p, err := pack.Install(t.Context(), t.TempDir(),
		pack.Source{Location: save(t, "a.tgz", archive), SHA256: sum(archive)})
	if err != nil {
		t.Fatal(err)
	}
	bent := bytes.Clone(network)
	bent[7] ^= 1
	if err := os.WriteFile(p.Path("net.onnx"), bent, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Open(p.Dir()); !errors.Is(err, pack.ErrDigest) {
		t.Errorf("opened a pack with a flipped bit: %v", err)
	}
}
