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

// PackFolders returns the folders in which model packs are searched, in order: the one in a server's directory, the one
// that setup fills in the working directory or beside the program, and the one of an installed package.
func PackFolders(dir string) []string {
	folders := []string{filepath.Join(dir, "packs")}
	for _, base := range bases() {
		folders = append(folders, filepath.Join(base, "models", "packs"))
	}
	if p := prefix(); p != "" {
		folders = append(folders, filepath.Join(p, "share", "visage", "packs"))
	}
	return folders
}

// FindPack returns the folder of a model pack: asked is a folder, or the name of a pack in PackFolders; empty: the pack
// of new stores. The error wraps fs.ErrNotExist when no such pack is installed.
func FindPack(asked, dir string) (string, error) {
	if asked == "" {
		asked = newStorePack
	}
	if strings.ContainsRune(asked, filepath.Separator) || strings.HasPrefix(asked, ".") {
		return asked, nil
	}
	var looked []string
	for _, folder := range PackFolders(dir) {
		at := filepath.Join(folder, asked)
		if isPack(at) {
			return at, nil
		}
		looked = append(looked, at)
	}
	if isPack(asked) { // a folder of the working directory
		return asked, nil
	}
	return "",
		fmt.Errorf(
			"the model pack %s is not installed: looked for %s; \"make setup\" makes the packs of this version, "+
				"\"visage models install\" installs others: %w", asked, strings.Join(looked, ", "), fs.ErrNotExist)
}

// isPack reports whether a folder holds a model pack, complete or not.
func isPack(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, pack.ManifestName))
	return err == nil
}

// FindLibrary returns the path of the ONNX Runtime library: the requested one or, when that is empty, the one for this
// machine in the npm package onnxruntime-node, or the one of an installed package.
func FindLibrary(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	// The package names folders as Node does.
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	pattern := map[string]string{"linux": "libonnxruntime.so.1*", "darwin": "libonnxruntime*.dylib"}[runtime.GOOS]
	if arch == "" || pattern == "" {
		return "", fmt.Errorf("no ONNX Runtime is packaged for %s/%s: set its path with --library: %w",
			runtime.GOOS,
			runtime.GOARCH,
			errors.ErrUnsupported)
	}
	var folders []string
	for _, base := range bases() {
		folders = append(folders,
			filepath.Join(base, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch))
	}
	if p := prefix(); p != "" {
		folders = append(folders, filepath.Join(p, "lib", "visage"))
	}
	for _, at := range folders {
		found, err := filepath.Glob(filepath.Join(at, pattern))
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf(
		"no ONNX Runtime library in %s: \"make setup\" fetches it, or set its path with --library: %w",
		strings.Join(folders, ", "), fs.ErrNotExist)
}

// bases are the folders that may contain models/: the working directory, and the parent of the program's folder.
func bases() []string {
	var all []string
	if wd, err := os.Getwd(); err == nil {
		all = append(all, wd)
	}
	if p := prefix(); p != "" {
		all = append(all, p)
	}
	return slices.Compact(all)
}

// prefix is the parent of the program's folder, such as /usr for /usr/bin/visage: packages and archives have packs in
// its share/visage/packs and the ONNX Runtime library in its lib/visage. It is empty if the system does not say where
// the program is.
func prefix() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(exe))
}
