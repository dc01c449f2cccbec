package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// pack is the model pack that packages contain: the one of new stores.
const pack = "mobileface"

// target is a system and a processor, in Go's names.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "-" + t.arch }

// compilers are the C compilers for processors other than that of this machine, from the Debian packages gcc-….
var compilers = map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}

// compiler is the C compiler for a processor.
func compiler(arch string) string {
	if arch == runtime.GOARCH {
		return "gcc"
	}
	return compilers[arch]
}

// libraries are the ONNX Runtime libraries, below bin/napi-v6 of the npm package onnxruntime-node.
var libraries = map[target]string{
	{"linux", "amd64"}: "linux/x64/libonnxruntime.so.1",
	{"linux", "arm64"}: "linux/arm64/libonnxruntime.so.1",
}

// product is one checkout, and what was built of it.
type product struct {
	source  string // the checkout
	out     string
	version string // of the program, such as 0.1.0 or 0.1.0-dev+0123456789ab
	time    time.Time
	built   map[target]string // programs by target
	host    string            // the program for this machine, which writes manual pages and completion
}

// open builds the program for this machine, and asks it for the version unless that is given.
func open(ctx context.Context, source, out, version string) (*product, error) {
	source, err := filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	p := &product{source: source, out: out, version: version, built: map[target]string{}}
	if err := os.MkdirAll(filepath.Join(out, "work"), 0o755); err != nil {
		return nil, err
	}
	if p.time, err = sourceTime(ctx, source); err != nil {
		return nil, err
	}
	if p.host, err = p.program(ctx, target{runtime.GOOS, runtime.GOARCH}); err != nil {
		return nil, err
	}
	if p.version == "" {
		said, err := p.output(ctx, p.host, "--version")
		if err != nil {
			return nil, err
		}
		p.version = strings.TrimPrefix(strings.TrimSpace(string(said)), "visage version ")
	}
	return p, nil
}

// sourceTime is the time that everything gets which is made of a checkout: SOURCE_DATE_EPOCH, or that of the commit.
func sourceTime(ctx context.Context, source string) (time.Time, error) {
	said := os.Getenv("SOURCE_DATE_EPOCH")
	if said == "" {
		b, err := exec.CommandContext(ctx, "git", "-C", source, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("read the time of the commit: %w; without a git checkout, set "+
				"SOURCE_DATE_EPOCH", err)
		}
		said = strings.TrimSpace(string(b))
	}
	seconds, err := strconv.ParseInt(said, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q, want seconds since 1970", said)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// program builds the program for a target, once, and returns its path.
func (p *product) program(ctx context.Context, t target) (string, error) {
	if path := p.built[t]; path != "" {
		return path, nil
	}
	cc := compiler(t.arch)
	if _, err := exec.LookPath(cc); err != nil {
		return "", fmt.Errorf("a C compiler for %s is missing: install the packages gcc-%s and "+
			"libc6-dev-%s-cross: %w", t, strings.ReplaceAll(strings.TrimSuffix(cc, "-gcc"), "_", "-"), t.arch, err)
	}
	path := filepath.Join(p.out, "work", "visage-"+t.String())
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./cmd/visage")
	cmd.Dir = p.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOOS="+t.os, "GOARCH="+t.arch, "CC="+cc, "GOWORK=off",
		"GOAMD64=v1", "GOARM64=v8.0", "CGO_CFLAGS=-O2 -g", "CGO_LDFLAGS=-O2 -g")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the program for %s: %w", t, err)
	}
	p.built[t] = path
	return path, nil
}

// output runs a program in the checkout, with nothing of this machine's settings of Visage, and returns what it writes.
func (p *product) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.source
	var errs bytes.Buffer
	cmd.Stderr = &errs
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, errs.String())
	}
	return b, nil
}

// revision is the commit that a program was built from, as its build information says; empty if it says nothing.
func revision(program string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("read the build information of %s: %w", program, err)
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value, nil
		}
	}
	return "", nil
}
