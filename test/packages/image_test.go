package packages_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// descriptor, manifest and config are the parts of OCI's format that are looked at.
type descriptor struct {
	Digest   string
	Platform struct{ OS, Architecture string }
}

type manifest struct {
	Manifests, Layers []descriptor
	Config            descriptor
}

type config struct {
	Architecture string
	Config       struct {
		User            string
		Env             []string
		Entrypoint, Cmd []string
		Labels          map[string]string
		ExposedPorts    map[string]any
		Volumes         map[string]any
		Healthcheck     struct{ Test []string }
	}
}

// TestImage unpacks the image and runs it as a runtime does: as its user, with nothing writable but the volume.
func TestImage(t *testing.T) {
	archive := made(t, "visage-*.oci.tar")
	needs(t, "chroot")
	layout := t.TempDir()
	unpack(t, archive, layout, false)
	blob := func(digest string, into any) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(layout, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:")))
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var top, list manifest
	b, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err == nil {
		err = json.Unmarshal(b, &top)
	}
	if err != nil || len(top.Manifests) != 1 {
		t.Fatalf("index.json: %v, %d entries, want the list of images", err, len(top.Manifests))
	}
	blob(top.Manifests[0].Digest, &list)
	ran := false
	for _, d := range list.Manifests {
		var m manifest
		var c config
		blob(d.Digest, &m)
		blob(m.Config.Digest, &c)
		t.Run(d.Platform.Architecture, func(t *testing.T) {
			checkConfig(t, c, d)
			r := root{t: t, dir: t.TempDir()}
			for _, layer := range m.Layers {
				blob := strings.TrimPrefix(layer.Digest, "sha256:")
				unpack(t, filepath.Join(layout, "blobs", "sha256", blob), r.dir, true)
			}
			checkContents(r)
			if c.Architecture == runtime.GOARCH {
				ran = true
				runImage(r, c)
			} else {
				runForeign(r, c)
			}
		})
	}
	if !ran {
		t.Errorf("no image for %s", runtime.GOARCH)
	}
}

func checkConfig(t *testing.T, c config, d descriptor) {
	t.Helper()
	if d.Platform.OS != "linux" || d.Platform.Architecture != c.Architecture {
		t.Errorf("the list says %+v of an image for %s", d.Platform, c.Architecture)
	}
	if c.Config.User != "65532:65532" {
		t.Errorf("it runs as %q, want 65532:65532", c.Config.User)
	}
	if want := []string{"CMD", "/usr/bin/visage", "health"}; !slices.Equal(c.Config.Healthcheck.Test, want) {
		t.Errorf("its health check is %q, want %q", c.Config.Healthcheck.Test, want)
	}
	for _, label := range []string{"title", "version", "created", "source", "licenses", "revision"} {
		if c.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("it has no label %s", label)
		}
	}
	if c.Config.Volumes["/var/lib/visage"] == nil || c.Config.ExposedPorts["8443/tcp"] == nil {
		t.Errorf("volumes %v, ports %v", c.Config.Volumes, c.Config.ExposedPorts)
	}
}

// checkContents wants one program and the libraries that it loads, nothing that could run a command, and no file that
// has the rights of another user.
func checkContents(r root) {
	r.t.Helper()
	n := 0
	for _, path := range tree(r.t, r.dir) {
		info, err := os.Lstat(path)
		if err != nil {
			r.t.Fatal(err)
		}
		name := strings.TrimPrefix(path, r.dir)
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			r.t.Errorf("%s has mode %v", name, info.Mode())
		}
		if info.IsDir() {
			continue
		}
		n++
		isLibrary := strings.HasPrefix(name, "/lib/") || strings.HasPrefix(name, "/lib64/ld-linux")
		if info.Mode()&0o111 != 0 && name != "/usr/bin/visage" && !isLibrary {
			r.t.Errorf("%s can be executed", name)
		}
	}
	for _, name := range []string{"/bin", "/usr/bin/sh", "/usr/bin/env", "/sbin", "/usr/sbin"} {
		if r.exists(name) {
			r.t.Errorf("there is %s", name)
		}
	}
	r.t.Logf("%d files", n)
}

// runImage starts the image, in an emulator if one is named, enrols somebody and checks its health.
func runImage(r root, c config, emulator ...string) {
	r.t.Helper()
	r.emulator = emulator
	mount(r.t, "--bind", r.dir, r.dir)
	mount(r.t, "-t", "tmpfs", "-o", "mode=0700,uid=65532,gid=65532", "volume", r.at("var/lib/visage"))
	mount(r.t, "-t", "tmpfs", "-o", "mode=1777", "tmp", r.at("tmp"))
	for _, name := range []string{"proc", "dev"} { // runtimes make them, as far as they are not there
		if err := os.Mkdir(r.at(name), 0o755); err != nil {
			r.t.Fatal(err)
		}
		mount(r.t, "--bind", "/"+name, r.at(name))
	}
	if out, err := exec.Command("mount", "-o", "remount,bind,ro", r.dir).CombinedOutput(); err != nil {
		r.t.Fatalf("make the root read-only: %v: %s", err, out)
	}
	if err := os.WriteFile(r.at("written"), nil, 0o600); err == nil {
		r.t.Fatal("the root can be written to")
	}
	env := append(slices.Clone(c.Config.Env), "VISAGE_LISTEN=127.0.0.1:"+fmt.Sprint(freePort(r.t)))
	s := r.start(c.Config.User, "/var/lib/visage", env, slices.Concat(c.Config.Entrypoint, c.Config.Cmd)...)
	s.remembers(s.enrol())
	if out, err := s.command(c.Config.Healthcheck.Test[1:]...).CombinedOutput(); err != nil {
		r.t.Errorf("its health: %v: %s", err, out)
	}
	s.stop()
	if out, err := s.command(c.Config.Healthcheck.Test[1:]...).CombinedOutput(); err == nil {
		r.t.Errorf("it is well after its end: %s", out)
	}
}

// runForeign runs the program of another processor's image in an emulator, as far as one is installed.
func runForeign(r root, c config) {
	r.t.Helper()
	emulator := "qemu-" + map[string]string{"arm64": "aarch64", "amd64": "x86_64"}[c.Architecture] + "-static"
	path, err := exec.LookPath(emulator)
	if err != nil {
		r.t.Skipf("%s is not installed: the image was looked at, and not run", emulator)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.at("emulator"), b, 0o755); err != nil {
		r.t.Fatal(err)
	}
	if said := r.run("/emulator", "/usr/bin/visage", "version"); !strings.Contains(said, "linux/"+c.Architecture) {
		r.t.Errorf("it says:\n%s", said)
	}
	runImage(r, c, "/emulator")
}

// unpack unpacks an archive with its owners, if asked to.
func unpack(t *testing.T, archive, dir string, packed bool) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var from io.Reader = f
	if packed {
		if from, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsLocal(h.Name) {
			t.Fatalf("%s has an entry %q", archive, h.Name)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = writeFrom(path, r)
			}
		}
		if err == nil {
			err = os.Chown(path, h.Uid, h.Gid)
		}
		if err == nil {
			err = os.Chmod(path, h.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeFrom(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
