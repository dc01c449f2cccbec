package packages_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// installed starts the service as the unit does, under the credential that its operator has made.
func (r root) installed(unit map[string][]string) *service {
	r.t.Helper()
	user := unit["User"][0]
	home := "/var/lib/" + unit["StateDirectory"][0]
	r.run("install", "-d", "-o", user, "-g", unit["Group"][0], "-m", unit["StateDirectoryMode"][0], home)
	name, folder, _ := strings.Cut(unit["LoadCredential"][0], ":")
	const passed = "/run/credentials/visage.service"
	r.run("install", "-d", "-o", user, "-m", "0500", passed)
	found, err := os.ReadDir(r.at(folder))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range found {
		r.run("install", "-o", user, "-m", "0400", filepath.Join(folder, f.Name()),
			filepath.Join(passed, name+"_"+f.Name()))
	}
	return r.start(user+":"+unit["Group"][0], home, []string{"CREDENTIALS_DIRECTORY=" + passed, "HOME=" + home},
		strings.Fields(unit["ExecStart"][0])...)
}

// configure is what an operator does after an installation.
func (r root) configure() {
	r.t.Helper()
	r.run("sh", "-c", "umask 077 && head -c 32 /dev/urandom > /etc/visage/credentials/root.key")
	settings := r.at("/etc/visage/visage.yaml")
	b, err := os.ReadFile(settings)
	if err != nil {
		r.t.Fatal(err)
	}
	text := strings.Replace(string(b), "127.0.0.1:8443", fmt.Sprintf("127.0.0.1:%d", freePort(r.t)), 1)
	text = strings.Replace(text, "# root-key:", "root-key:", 1)
	if text == string(b) || !strings.Contains(text, "\nroot-key: file:/run/credentials/") {
		r.t.Fatalf("the settings are not as expected:\n%s", b)
	}
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// files are what every package has to have.
var files = []string{
	"/usr/bin/visage", "/usr/lib/visage/libonnxruntime.so.1", "/usr/share/visage/packs/mobileface/pack.json",
	"/usr/lib/systemd/system/visage.service", "/usr/lib/sysusers.d/visage.conf", "/usr/lib/tmpfiles.d/visage.conf",
	"/usr/share/man/man1/visage.1.gz", "/usr/share/man/man1/visage-serve.1.gz",
	"/usr/share/bash-completion/completions/visage", "/usr/share/fish/vendor_completions.d/visage.fish",
	"/usr/share/doc/visage/LICENSE", "/usr/share/doc/visage/NOTICE", "/usr/share/doc/visage/THIRD-PARTY-NOTICES",
	"/usr/share/doc/visage/visage.cdx.json", "/etc/visage/visage.yaml",
}

// manager is what differs between package managers.
type manager struct {
	install, upgrade, remove, purge func(path string) string
}

// TestDeb installs, upgrades, removes and purges the deb.
func TestDeb(t *testing.T) {
	older, newer := made(t, "older/visage_*_"+arch(nil)+".deb"), made(t, "visage_*_"+arch(nil)+".deb")
	needs(t, "dpkg", "chroot")
	r := newRoot(t)
	life(r, older, newer, manager{
		install: func(path string) string { return r.run("dpkg", "--install", path) },
		// Without a terminal, dpkg fails where it would ask about a file that was changed.
		upgrade: func(path string) string { return r.run("dpkg", "--install", path) },
		remove:  func(string) string { return r.run("dpkg", "--remove", "visage") },
		purge:   func(string) string { return r.run("dpkg", "--purge", "visage") },
	})
}

// TestRPM does the same with the rpm. The root is one of Debian, so what the package requires is not looked for.
func TestRPM(t *testing.T) {
	names := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	older, newer := made(t, "older/visage-*."+arch(names)+".rpm"), made(t, "visage-*."+arch(names)+".rpm")
	needs(t, "rpm", "chroot")
	r := newRoot(t)
	rpm := func(args ...string) string {
		t.Helper()
		c := exec.Command("rpm", append([]string{"--root", r.dir, "--dbpath", "/var/lib/rpm"}, args...)...)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	rpm("--initdb")
	scripts := rpm("-qp", "--scripts", newer)
	for _, kind := range []string{"preinstall", "postinstall", "preuninstall", "postuninstall"} {
		if !strings.Contains(scripts, kind+" scriptlet") {
			t.Errorf("the package has no %s scriptlet", kind)
		}
	}
	if got := strings.TrimSpace(rpm("-qp", "--configfiles", newer)); got != "/etc/visage/visage.yaml" {
		t.Errorf("configuration files %q, want the settings alone", got)
	}
	flags := rpm("-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", newer)
	if !strings.Contains(flags, "/etc/visage/visage.yaml cn\n") { // configuration, not replaced
		t.Errorf("the settings would be replaced:\n%s", flags)
	}
	life(r, older, newer, manager{
		install: func(path string) string { return rpm("--install", "--nodeps", path) },
		upgrade: func(path string) string { return rpm("--upgrade", "--nodeps", path) },
		remove:  func(string) string { return rpm("--erase", "--nodeps", "visage") },
		purge:   nil, // it has none
	})
}

// life installs the older package and starts the service as its unit does, enrols somebody, upgrades, finds the data
// again, and removes the package, with the data left.
func life(r root, older, newer string, m manager) {
	t := r.t
	// The root may have no /tmp of this process.
	for name, path := range map[string]*string{"/var/older": &older, "/var/newer": &newer} {
		b, err := os.ReadFile(*path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.at(name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inRoot := func(name string) string { return name }
	if m.purge == nil { // rpm reads packages as this process does
		inRoot = r.at
	}
	unit := unitFile(t)

	said := m.install(inRoot("/var/older"))
	if !strings.Contains(said, "systemctl enable --now visage") && m.purge != nil {
		t.Errorf("the installation does not say what to do next:\n%s", said)
	}
	for _, file := range files {
		if !r.exists(file) {
			t.Errorf("%s is not installed", file)
		}
	}
	notices, err := os.ReadFile(r.at("/usr/share/doc/visage/THIRD-PARTY-NOTICES"))
	for _, text := range []string{ // of a module's licence, of libraries' and of what ONNX Runtime contains
		"Redistribution and use in source and binary forms", "GNU LESSER GENERAL PUBLIC LICENSE",
		"What libonnxruntime ",
	} {
		if err != nil || !strings.Contains(string(notices), text) {
			t.Errorf("the notices lack a text with %q: %v", text, err)
		}
	}
	if !strings.Contains(r.run("getent", "passwd", "visage"), ":/var/lib/visage:") {
		t.Error("the installation makes no user with its folder")
	}
	if mode := strings.TrimSpace(r.run("stat", "-c", "%U %a", "/etc/visage/credentials")); mode != "root 700" {
		t.Errorf("the folder of credentials is %s, want root 700", mode)
	}
	if r.exists("/var/lib/visage/data") {
		t.Error("the installation has started the service")
	}

	r.configure()
	s := r.installed(unit)
	person := s.enrol()
	s.remembers(person)
	s.stop()
	settings, err := os.ReadFile(r.at("/etc/visage/visage.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	m.upgrade(inRoot("/var/newer"))
	if now, err := os.ReadFile(r.at("/etc/visage/visage.yaml")); err != nil || string(now) != string(settings) {
		t.Errorf("the upgrade has changed the settings: %v\n%s", err, now)
	}
	s = r.installed(unit)
	s.remembers(person)
	s.visage(nil, "health")
	s.stop()

	stored := tree(t, r.at("/var/lib/visage"))
	if len(stored) == 0 {
		t.Fatal("there is no data to keep")
	}
	m.remove("")
	if r.exists("/usr/bin/visage") || r.exists("/usr/lib/visage") {
		t.Error("the program is there after its removal")
	}
	if m.purge != nil {
		if !r.exists("/etc/visage/visage.yaml") {
			t.Error("the settings are gone without a purge")
		}
		said = m.purge("")
		if !strings.Contains(said, "rm -rf /var/lib/visage /etc/visage") {
			t.Errorf("the purge does not say how data is deleted:\n%s", said)
		}
	}
	if now := tree(t, r.at("/var/lib/visage")); !slices.Equal(now, stored) {
		t.Errorf("the removal has changed the data: %q, before %q", now, stored)
	}
	if !r.exists("/etc/visage/credentials/root.key") {
		t.Error("the removal has deleted the root key")
	}
}

// tree lists files below a folder.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
