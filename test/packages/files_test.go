package packages_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var sources = filepath.Join("..", "..", "packaging")

// needs skips a test that needs a program which is not installed; under CI=true that is a failure.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
}

// TestUnitIsConfined wants a low exposure of the unit, as systemd counts it: 0 is least, 10 is most.
func TestUnitIsConfined(t *testing.T) {
	needs(t, "systemd-analyze")
	const most = 1.5
	unit := filepath.Join(sources, "files", "visage.service")
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unit).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no exposure in:\n%s", out)
	}
	if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > most {
		t.Errorf("exposure %s, want at most %g:\n%s", m[1], most, out)
	}
	// Unknown directives and groups of system calls are ignored, with a line like these.
	if ignored := regexp.MustCompile(`(?m)^.*visage\.service:\d+:.*$`).FindAll(out, -1); ignored != nil {
		t.Errorf("systemd does not understand the unit: %q", ignored)
	}
}

// TestUnitPermitsWhatIsNeeded compares the unit with what the service and the processes of key stores do.
func TestUnitPermitsWhatIsNeeded(t *testing.T) {
	unit := unitFile(t)
	for key, want := range map[string][]string{
		// vision's sandbox of image decoders makes machine code, and helpers read /proc/sys/crypto
		"MemoryDenyWriteExecute": nil,
		"ProcSubset":             nil,
		"LimitMEMLOCK":           {"infinity"},
		// wrong settings, and a PIN that a token would lock
		"RestartPreventExitStatus": {"2 6"},
		"User":                     {"visage"},
		"StateDirectory":           {"visage"},
		"StateDirectoryMode":       {"0700"},
		"LoadCredential":           {"visage:/etc/visage/credentials"},
	} {
		if got := unit[key]; strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	permitted := strings.Fields(unit["SystemCallFilter"][0])
	for _, call := range []string{
		"@system-service", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
	} {
		if !strings.Contains(" "+strings.Join(permitted, " ")+" ", " "+call+" ") {
			t.Errorf("the unit does not permit %s", call)
		}
	}
}

// unitFile reads the section Service of the unit.
func unitFile(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(sources, "files", "visage.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, service, _ := strings.Cut(string(b), "[Service]\n")
	service, _, found := strings.Cut(service, "[Install]\n")
	if !found {
		t.Fatal("the unit has no sections Service and Install")
	}
	unit := map[string][]string{}
	for line := range strings.Lines(service) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found && key[0] != '#' {
			unit[key] = append(unit[key], value)
		}
	}
	return unit
}

// TestComponentsOfTheRuntimeAreOfItsVersion wants the list of what ONNX Runtime contains to be made anew with each
// version of it.
func TestComponentsOfTheRuntimeAreOfItsVersion(t *testing.T) {
	var npm struct{ Dependencies map[string]string }
	b, err := os.ReadFile(filepath.Join("..", "..", "models", "package.json"))
	if err == nil {
		err = json.Unmarshal(b, &npm)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(sources, "licences", "NOTICE.onnxruntime-components"))
	if err != nil {
		t.Fatal(err)
	}
	want := "What libonnxruntime " + npm.Dependencies["onnxruntime-node"] + " contains of others\n"
	if first, _, _ := strings.Cut(string(list), "\n"); first+"\n" != want {
		t.Errorf("the list begins with %q, want %q", first, want)
	}
}

// TestScriptsAreSound runs shellcheck over the scripts of packages, for the shell that Debian has.
func TestScriptsAreSound(t *testing.T) {
	needs(t, "shellcheck")
	scripts, err := filepath.Glob(filepath.Join(sources, "scripts", "*.sh"))
	if err != nil || len(scripts) != 4 {
		t.Fatalf("scripts %q, %v; want 4", scripts, err)
	}
	out, err := exec.Command("shellcheck", append([]string{"--shell=sh"}, scripts...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestScriptsDeleteNothing holds that data is deleted by its operator alone.
func TestScriptsDeleteNothing(t *testing.T) {
	deletes := regexp.MustCompile(`^\s*(rm|rmdir|userdel|groupdel|find|unlink)\b|[;&|]\s*(rm|rmdir|userdel|unlink)\b`)
	scripts, err := filepath.Glob(filepath.Join(sources, "scripts", "*.sh"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts %q, %v", scripts, err)
	}
	for _, script := range scripts {
		b, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "echo ") && deletes.MatchString(line) {
				t.Errorf("%s: %s", script, line)
			}
		}
	}
}
