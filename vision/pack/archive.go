package pack

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// maxEntries is the largest number of files and folders in an archive.
const maxEntries = 256

// unpack writes the regular files of an archive, a gzipped tar or a zip, into the folder dir. All must be in one folder
// of the archive; their plain names are kept. Links, devices and names that lead elsewhere are refused.
func unpack(ctx context.Context, archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	start, err := bufio.NewReader(f).Peek(4)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out := &sink{ctx: ctx, dir: dir, left: maxArchive}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		err = untar(f, out)
	case bytes.Equal(start, []byte("PK\x03\x04")):
		err = unzip(f, out)
	default:
		return errors.New("the pack is neither a .tar.gz nor a .zip archive")
	}
	if err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	return nil
}

func untar(f io.Reader, out *sink) error {
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	defer z.Close()
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg:
			err = out.put(h.Name, t)
		case tar.TypeDir, tar.TypeXGlobalHeader:
			err = out.count()
		default:
			err = fmt.Errorf("%q is neither a file nor a folder", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unzip(f *os.File, out *sink) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return err
	}
	for _, e := range z.File {
		switch {
		case e.Mode().IsDir():
			err = out.count()
		case e.Mode().IsRegular():
			err = func() error {
				r, err := e.Open()
				if err != nil {
					return err
				}
				defer r.Close()
				return out.put(e.Name, r)
			}()
		default:
			err = fmt.Errorf("%q is neither a file nor a folder", e.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sink receives the files of an archive within limits.
type sink struct {
	ctx     context.Context
	dir     string
	folder  *string // the one folder of the archive that files come from
	left    int64   // bytes
	entries int
}

func (s *sink) count() error {
	if s.entries++; s.entries > maxEntries {
		return fmt.Errorf("the archive has more than %d entries", maxEntries)
	}
	return nil
}

func (s *sink) put(name string, from io.Reader) error {
	if err := s.count(); err != nil {
		return err
	}
	clean := path.Clean(name)
	folder, base := path.Split(clean)
	if !filepath.IsLocal(clean) || !fileName.MatchString(base) {
		return fmt.Errorf("%q is not the name of a file in a pack", name)
	}
	if s.folder == nil {
		s.folder = &folder
	}
	if folder != *s.folder {
		return fmt.Errorf("%q is not in the same folder as the files before it", name)
	}
	to := filepath.Join(s.dir, base)
	if err := writeFile(s.ctx, to, from, s.left, io.Discard); err != nil {
		return err
	}
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	s.left -= info.Size()
	return nil
}
