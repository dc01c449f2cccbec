package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/visage-face/visage/vision/pack"
)

// PackFolders returns the folders that model packs are looked for in, most wanted first: that of a server's directory,
// and the one that setup fills in the working directory or beside the program.
func PackFolders(dir string) []string {
	folders := []string{filepath.Join(dir, "packs")}
	for _, base := range bases() {
		folders = append(folders, filepath.Join(base, "models", "packs"))
	}
	return folders
}

// FindPack returns the folder of the model pack to use: the one that was asked for or, when that is empty, the first
// default one there is.
func FindPack(asked, dir string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	var looked []string
	for _, folder := range PackFolders(dir) {
		at := filepath.Join(folder, "default")
		if _, err := os.Stat(filepath.Join(at, pack.ManifestName)); err == nil {
			return at, nil
		}
		looked = append(looked, at)
	}
	return "", fmt.Errorf("no model pack: none in %s; say with --pack where one is: %w", strings.Join(looked, ", "),
		fs.ErrNotExist)
}

// FindLibrary returns the path of the ONNX Runtime library to use: the one that was asked for or, when that is empty,
// the one that the npm package onnxruntime-node has for this machine.
func FindLibrary(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	// The package names folders as Node does.
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	pattern := map[string]string{"linux": "libonnxruntime.so.1*", "darwin": "libonnxruntime*.dylib"}[runtime.GOOS]
	if arch == "" || pattern == "" {
		return "", fmt.Errorf("no ONNX Runtime is packaged for %s/%s: say with --library where one is: %w", runtime.GOOS,
			runtime.GOARCH,
			errors.ErrUnsupported)
	}
	var looked []string
	for _, base := range bases() {
		at := filepath.Join(base, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch)
		found, err := filepath.Glob(filepath.Join(at, pattern))
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
		looked = append(looked, at)
	}
	return "", fmt.Errorf("no ONNX Runtime library in %s: \"make setup\" fetches it, or say with --library where one is: %w",
		strings.Join(looked, ", "), fs.ErrNotExist)
}

// bases are the folders beside which models/ may lie: the working directory, and the folder above that of the program.
func bases() []string {
	var all []string
	if wd, err := os.Getwd(); err == nil {
		all = append(all, wd)
	}
	if exe, err := os.Executable(); err == nil {
		all = append(all, filepath.Dir(filepath.Dir(exe)))
	}
	return slices.Compact(all)
}
