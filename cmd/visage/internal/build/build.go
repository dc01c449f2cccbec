// Package build implements "visage version", and names the build for other commands.
package build

import (
	"context"
	"crypto/fips140"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/sealed"
)

// release is the version of this source, or the next one; RELEASING.md says when it changes.
const release = "0.1.0"

// versionOf names a build: the version alone if it was built from the release's own tag without changes; else the
// version, "-dev", and the revision if it is known.
func versionOf(info *debug.BuildInfo) string {
	if info.Main.Version == "v"+release {
		return release
	}
	build := buildSettings(info)
	revision := build["vcs.revision"]
	if revision == "" {
		return release + "-dev"
	}
	version := release + "-dev+" + revision[:min(12, len(revision))]
	if build["vcs.modified"] == "true" {
		version += ".dirty"
	}
	return version
}

// buildSettings returns the settings of a build by name.
func buildSettings(info *debug.BuildInfo) map[string]string {
	build := map[string]string{}
	for _, b := range info.Settings {
		build[b.Key] = b.Value
	}
	return build
}

// Command is "visage version".
func Command() *cobra.Command {
	c := command.New("version", "Show the version, the build, and the state of the cryptographic module",
		"visage version")
	return command.Run(c, func(_ context.Context, s command.Streams, _ []string) error { return show(s) })
}

func show(s command.Streams) error {
	info := buildInfo()
	build := buildSettings(info)
	fips := "off"
	if fips140.Enabled() {
		fips = "on"
	}
	if fips140.Enforced() {
		fips += ", enforced"
	}
	module := build["GOFIPS140"]
	if module == "" {
		module = "of the Go release, which has no certificate of its own"
	}
	secrets := "no: keys are wiped, but copies made by the compiler may stay in memory"
	if strings.Contains(build["GOEXPERIMENT"], "runtimesecret") ||
		strings.Contains(runtime.Version(), "runtimesecret") {
		secrets = "yes"
	}
	var t command.Table
	t.Row("visage", versionOf(info))
	t.Row("store format", fmt.Sprintf("%d; stores of an older format are upgraded when they open", sealed.Format))
	t.Row("built from", revisionOf(build))
	t.Row("go", fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH))
	t.Row("FIPS 140-3 mode", fips)
	t.Row("FIPS 140-3 module", module)
	t.Row("runtime secrets", secrets)
	return t.Write(s.Out)
}

// revisionOf returns the commit of a build, if it is known.
func revisionOf(build map[string]string) string {
	revision := build["vcs.revision"]
	switch {
	case revision == "":
		return "an unknown revision"
	case build["vcs.modified"] == "true":
		return revision + " with changes"
	}
	return revision
}

// Version names this build, for example "0.1.0-dev+0123456789ab".
func Version() string { return versionOf(buildInfo()) }

// buildInfo returns the build information of this program; empty if there is none.
func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}
