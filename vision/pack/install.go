package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Source is where a pack comes from.
type Source struct {
	// Location is an http or https URL of an archive, or the path of an archive (.tar.gz, .tgz, .zip) or of a folder.
	Location string
	// SHA256 is the digest, 64 hexadecimal digits, of the archive; for a folder, of its manifest, which in turn names
	// the digests of the other files. Required.
	SHA256 string
	// Check, if set, is called with the pack after all its files were compared with its manifest; if it returns an
	// error, the pack is not installed.
	Check func(*Pack) error
}

// maxArchive is the largest size of an archive, and of its unpacked files, in bytes.
const maxArchive = 1 << 30

// ErrExists says that a pack of the same name is installed already.
var ErrExists = errors.New("a pack of this name is installed already")

var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Install fetches the pack at src, verifies it, and puts it into the folder root under its own name, as a whole or not
// at all. Errors: ErrDigest when the fetched bytes do not have the promised digest, ErrExists.
func Install(ctx context.Context, root string, src Source) (*Pack, error) {
	p, err := install(ctx, root, src)
	if err != nil {
		return nil, fmt.Errorf("install model pack: %w", err)
	}
	return p, nil
}

func install(ctx context.Context, root string, src Source) (*Pack, error) {
	src.SHA256 = strings.ToLower(src.SHA256)
	if !digest.MatchString(src.SHA256) {
		return nil, errors.New("the SHA-256 of the pack is required, as 64 hexadecimal digits")
	}
	tmp, err := stage(root)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	files := filepath.Join(tmp, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return nil, err
	}

	if err := bring(ctx, tmp, files, src); err != nil {
		return nil, err
	}
	p, err := OpenToCalibrate(files)
	if err != nil {
		return nil, err
	}
	if err := keepListed(files, p.manifest.Files); err != nil {
		return nil, err
	}
	into := filepath.Join(root, p.Name())
	if _, err := os.Lstat(into); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrExists, into)
	}
	if src.Check != nil {
		if err := src.Check(p); err != nil {
			return nil, err
		}
	}
	p.dir = into
	if err := publish(files, p.dir); err != nil {
		return nil, err
	}
	return p, nil
}

// bring writes the files of the pack into the folder files; tmp is a folder for the archive.
func bring(ctx context.Context, tmp, files string, src Source) error {
	scheme, _, isURL := strings.Cut(src.Location, "://")
	if isURL && scheme != "http" && scheme != "https" {
		return fmt.Errorf("cannot fetch %s: only http and https are supported", scheme)
	}
	if !isURL {
		info, err := os.Stat(src.Location)
		if err != nil {
			return err
		}
		if info.IsDir() {
			return copyFolder(ctx, files, src)
		}
	}
	archive := filepath.Join(tmp, "archive")
	if err := fetch(ctx, archive, src, isURL); err != nil {
		return err
	}
	return unpack(ctx, archive, files)
}

// fetch writes the archive at src to a file and compares its digest, before the archive is opened.
func fetch(ctx context.Context, path string, src Source, isURL bool) (err error) {
	var from io.ReadCloser
	if isURL {
		from, err = download(ctx, src.Location)
	} else {
		from, err = os.Open(src.Location)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	sum := sha256.New()
	if err := writeFile(ctx, path, from, maxArchive, sum); err != nil {
		return err
	}
	return compareDigest(src.Location, sum, src.SHA256)
}

// download opens the body of a URL. The connection need not be trusted, because the digest is compared.
func download(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		ResponseHeaderTimeout: 30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		DisableKeepAlives:     true,
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("fetch pack: the server answered %s", resp.Status)
	}
	return resp.Body, nil
}

// copyFolder copies an unpacked pack from a folder. It reads only files that the manifest names.
func copyFolder(ctx context.Context, files string, src Source) error {
	raw, err := readManifest(src.Location)
	if err != nil {
		return err
	}
	sum := sha256.New()
	sum.Write(raw)
	if err := compareDigest(filepath.Join(src.Location, ManifestName), sum, src.SHA256); err != nil {
		return err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(src.Location, ManifestName), err)
	}
	if err := os.WriteFile(filepath.Join(files, ManifestName), raw, 0o644); err != nil {
		return err
	}
	for _, f := range m.Files {
		from, err := os.Open(filepath.Join(src.Location, f.Name))
		if err != nil {
			return err
		}
		err = writeFile(ctx, filepath.Join(files, f.Name), from, f.Bytes, io.Discard)
		from.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func compareDigest(what string, sum hash.Hash, want string) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("%s: %w: it is %s, not %s", what, ErrDigest, got, want)
	}
	return nil
}

// writeFile copies at most limit bytes to a new file, and to sum. More is an error.
func writeFile(ctx context.Context, path string, from io.Reader, limit int64, sum io.Writer) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(io.MultiWriter(f, sum), &reader{ctx, io.LimitReader(from, limit+1)})
	if err != nil {
		return err
	}
	if n > limit {
		return fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), limit)
	}
	return f.Close()
}

// reader stops when its context ends.
type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.from.Read(p)
}

// keepListed removes the other files of an archive, such as a README.
func keepListed(dir string, files []File) error {
	keep := map[string]bool{ManifestName: true}
	for _, f := range files {
		keep[f.Name] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
