package stores

import (
	"fmt"
	"path/filepath"
	"strings"
)

// FilesIn refuses a description that names a file outside of a folder, links followed. Without that, a person who may
// describe a store could have any file that the service can read, such as the root key, sent to a server of their
// choice as a secret. The fields that name files have JSON names that end in "File".
//
// A description that says what a helper may use is refused for the same reason: it names a library that is run, and
// files and folders, or lowers what is demanded of keys.
func (s Store) FilesIn(folder string) error {
	if s.helped() {
		return fmt.Errorf("a store that is reached through a library of this machine, or has other settings of its " +
			"helper, is named in the settings alone: write it into the file of key-stores, and restart the service")
	}
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return fmt.Errorf("the folder for the files of key stores is missing: %w", err)
	}
	for name, file := range s.Values() {
		if !strings.HasSuffix(name, "File") {
			continue
		}
		if !filepath.IsAbs(file) {
			return fmt.Errorf("%s must be an absolute path; got %.200q", name, file)
		}
		at, err := filepath.EvalSymlinks(file)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if rest, err := filepath.Rel(folder, at); err != nil || !filepath.IsLocal(rest) {
			return fmt.Errorf("%s must be in %s; got %.200q", name, folder, file)
		}
	}
	return nil
}
