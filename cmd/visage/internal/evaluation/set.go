// Package evaluation measures how well a model pack tells people apart, on a folder of photos of known people, and
// calibrates the pack's confidence on it.
package evaluation

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of photos of known people.
type Set struct {
	Photos []Photo
	// Pairs are the pairs to compare, by index into Photos; nil means every photo with every other.
	Pairs [][2]int
	// Folds is the number of parts of equal size of the list of pairs, from its first line; 0: not divided.
	Folds int
	// Groupings divide the people.
	Groupings []Grouping
}

// Photo is one photo of one person.
type Photo struct {
	Person string
	Path   string
}

var photoEndings = []string{".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".heic", ".heif", ".avif"}

// ReadFolder reads a folder with one folder of photos for each person, named after them.
func ReadFolder(dir string) (Set, error) {
	s, err := readFolder(dir)
	if err == nil && len(s.Photos) == 0 {
		err = fmt.Errorf("%s has no photos: it must have a folder for each person, with their photos in it", dir)
	}
	return s, err
}

func readFolder(dir string) (Set, error) {
	var s Set
	people, err := os.ReadDir(dir)
	if err != nil {
		return Set{}, fmt.Errorf("read photos: %w", err)
	}
	for _, person := range people {
		if !isFolder(dir, person) {
			continue
		}
		files, err := os.ReadDir(filepath.Join(dir, person.Name()))
		if err != nil {
			return Set{}, fmt.Errorf("read photos of %s: %w", person.Name(), err)
		}
		for _, f := range files {
			path := filepath.Join(dir, person.Name(), f.Name())
			if !slices.Contains(photoEndings, strings.ToLower(filepath.Ext(f.Name()))) {
				continue
			}
			// A broken link is a photo that cannot be read.
			if info, err := os.Stat(path); err != nil || info.Mode().IsRegular() {
				s.Photos = append(s.Photos, Photo{person.Name(), path})
			}
		}
	}
	return s, nil
}

// isFolder reports whether an entry of dir is a folder, or a link to one, as in sets that are parts of another set.
func isFolder(dir string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(filepath.Join(dir, e.Name()))
	return err == nil && info.IsDir()
}

// maxPairs bounds the pairs of a file.
const maxPairs = 1_000_000

// ReadPairs reads a pairs file as LFW has it, for the photos in dir: lines of "person n m" for two photos of one person
// and "person n other m" for two people, with tabs or blanks between, after a line with their number. Photo n of a
// person is person/person_000n.jpg.
func ReadPairs(file, dir string) (Set, error) {
	f, err := os.Open(file)
	if err != nil {
		return Set{}, fmt.Errorf("read pairs: %w", err)
	}
	defer f.Close()
	var s Set
	s.Pairs = [][2]int{}
	indices := map[Photo]int{}
	photo := func(person, number string) (int, error) {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 9999 {
			return 0, fmt.Errorf("%q is not the number of a photo", number)
		}
		if person == "" || person != filepath.Base(person) || person == ".." || person == "." {
			return 0, fmt.Errorf("%q is not a person's name", person)
		}
		p := Photo{person, filepath.Join(dir, person, fmt.Sprintf("%s_%04d.jpg", person, n))}
		i, found := indices[p]
		if !found {
			if _, err := os.Stat(p.Path); errors.Is(err, fs.ErrNotExist) {
				return 0, fmt.Errorf("photo %s does not exist", p.Path)
			}
			i = len(s.Photos)
			indices[p] = i
			s.Photos = append(s.Photos, p)
		}
		return i, nil
	}
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		var first, second int
		var err error
		switch {
		case len(fields) == 0:
			continue
		case number == 1 && len(fields) <= 2: // the numbers of folds and pairs
			if len(fields) == 2 {
				folds, err := strconv.Atoi(fields[0])
				if err != nil || folds < 0 {
					return Set{}, fmt.Errorf("%s:1: %q is not a number of folds", file, fields[0])
				}
				s.Folds = folds
			}
			continue
		case len(fields) == 3:
			first, err = photo(fields[0], fields[1])
			if err == nil {
				second, err = photo(fields[0], fields[2])
			}
		case len(fields) == 4:
			first, err = photo(fields[0], fields[1])
			if err == nil {
				second, err = photo(fields[2], fields[3])
			}
		default:
			err = fmt.Errorf("%d words, not 3 or 4", len(fields))
		}
		if err == nil && len(s.Pairs) == maxPairs {
			err = fmt.Errorf("more than %d pairs", maxPairs)
		}
		if err != nil {
			return Set{}, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		s.Pairs = append(s.Pairs, [2]int{first, second})
	}
	if err := lines.Err(); err != nil {
		return Set{}, fmt.Errorf("read pairs: %w", err)
	}
	if len(s.Pairs) == 0 {
		return Set{}, fmt.Errorf("%s has no pairs", file)
	}
	return s, nil
}
