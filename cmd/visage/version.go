package main

import (
	"context"
	"crypto/fips140"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
)

// release is the version that this source is, or that it becomes: RELEASING.md says when it rises.
const release = "0.1.0"

// versionOf names a build: the number alone where it was made of the release's own tag, with nothing changed; else the
// number, "-dev", and the revision as far as it is known.
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

// buildSettings are those that a program was built with.
func buildSettings(info *debug.BuildInfo) map[string]string {
	build := map[string]string{}
	for _, b := range info.Settings {
		build[b.Key] = b.Value
	}
	return build
}

func versionCommand() command {
	c := command{
		name: "version", summary: "Say what was built, from what, and in which state the cryptographic module is.",
		example: "visage version"}
	c.define = func(*flag.FlagSet) func(context.Context, streams, []string) error {
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments")
			}
			return runVersion(s)
		}
	}
	return c
}

func runVersion(s streams) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
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
		module = "of the Go release, not certified by itself"
	}
	secrets := "no: keys are wiped, copies the compiler makes may stay"
	if strings.Contains(build["GOEXPERIMENT"], "runtimesecret") ||
		strings.Contains(runtime.Version(), "runtimesecret") {
		secrets = "yes"
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "visage\t%s\n", versionOf(info))
	fmt.Fprintf(t, "built from\t%s %s\n", orUnknown(build["vcs.revision"]), modified(build["vcs.modified"]))
	fmt.Fprintf(t, "go\t%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(t, "FIPS 140-3 mode\t%s\n", fips)
	fmt.Fprintf(t, "FIPS 140-3 module\t%s\n", module)
	fmt.Fprintf(t, "runtime secrets\t%s\n", secrets)
	return t.Flush()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func modified(s string) string {
	if s == "true" {
		return "with changes"
	}
	return ""
}
