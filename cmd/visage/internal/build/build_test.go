package build

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	build := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	at := debug.BuildSetting{Key: "vcs.revision", Value: revision}
	for _, c := range []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"the tag", build("v"+release, at, debug.BuildSetting{Key: "vcs.modified", Value: "false"}), release},
		{"the tag, with changes",
			build("v"+release+"+dirty", at, debug.BuildSetting{Key: "vcs.modified", Value: "true"}),
			release + "-dev+0123456789ab.dirty"},
		{"a commit", build("v0.0.0-20261129010203-0123456789ab", at), release + "-dev+0123456789ab"},
		{"no checkout", build("(devel)"), release + "-dev"},
		{"nothing known", &debug.BuildInfo{}, release + "-dev"},
	} {
		if got := versionOf(c.info); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestChangelogKnowsTheVersion checks that the change log has a section for this version.
func TestChangelogKnowsTheVersion(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, heading := range []string{"\n## [Unreleased]\n", "\n## [" + release + "] - "} {
		if !strings.Contains(string(b), heading) {
			t.Errorf("CHANGELOG.md has no section %q", strings.TrimSpace(heading))
		}
	}
}
