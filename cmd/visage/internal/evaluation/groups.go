package evaluation

import (
	"bufio"
	"cmp"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/visage-face/visage/vision"
)

// Grouping divides people by one property.
type Grouping struct {
	// Name is the property, such as "region".
	Name string
	// Of is the group of each person. A person who is missing, or has an empty group, belongs to none.
	Of map[string]string
}

// group is some photos of the set; its pairs are those with both photos in it.
type group struct {
	grouping, name string
}

// leastPeople is the least size of a group that is reported. mostGroups is the largest number of a set's own groups:
// together with those by measured properties, they fit a mask of 64 bits.
const (
	leastPeople = 20
	mostGroups  = 48
)

// checkGroups refuses too many groups before the photos are processed.
func (s *Set) checkGroups() error {
	people := map[string]bool{}
	for _, p := range s.Photos {
		people[p.Person] = true
	}
	groups := 0
	for _, g := range s.Groupings {
		size := map[string]int{}
		for person := range people {
			if name := g.Of[person]; name != "" {
				size[name]++
			}
		}
		for _, n := range size {
			if n >= leastPeople {
				groups++
			}
		}
	}
	if groups > mostGroups {
		return fmt.Errorf("there are %d groups of at least %d people, at most %d are allowed: merge some",
			groups, leastPeople, mostGroups)
	}
	return nil
}

// group sorts the usable photos into groups: those of the set's groupings, and those by measured properties.
func (f *Faces) group() {
	type key struct{ grouping, name string }
	photos := map[key][]int32{}
	var groupings []string
	add := func(grouping, name string, photo int32) {
		if name != "" {
			photos[key{grouping, name}] = append(photos[key{grouping, name}], photo)
		}
	}
	for _, g := range f.set.Groupings {
		groupings = append(groupings, g.Name)
		for _, i := range f.usable {
			add(g.Name, g.Of[f.set.Photos[i].Person], i)
		}
	}
	for _, m := range measures {
		groupings = append(groupings, m.grouping)
		for _, i := range f.usable {
			add(m.grouping, m.name(&f.seen[i]), i)
		}
	}
	f.masks = make([]uint64, len(f.seen))
	for _, grouping := range groupings {
		names := slices.SortedFunc(maps.Keys(photos), func(a, b key) int { return cmp.Compare(a.name, b.name) })
		for _, k := range names {
			if k.grouping != grouping || f.peopleOn(photos[k]) < leastPeople {
				continue
			}
			for _, i := range photos[k] {
				f.masks[i] |= 1 << len(f.groups)
			}
			f.groups = append(f.groups, group{grouping, k.name})
		}
	}
}

// peopleOn counts the people on some photos.
func (f *Faces) peopleOn(photos []int32) int {
	people := map[int32]bool{}
	for _, i := range photos {
		people[f.person[i]] = true
	}
	return len(people)
}

// measures sort photos by measured properties.
var measures = []struct {
	grouping string
	name     func(*sighting) string
}{
	{"face", func(s *sighting) string {
		switch {
		case s.width == 0:
			return ""
		case s.width < 48:
			return "under 48 px wide"
		case s.width < 80:
			return "48 to 79 px wide"
		case s.width < 120:
			return "80 to 119 px wide"
		}
		return "at least 120 px wide"
	}},
	{"pose", func(s *sighting) string {
		switch {
		case math.IsNaN(s.yaw):
			return ""
		case s.yaw < -30:
			return "turned left by more than 30°"
		case s.yaw < -15:
			return "turned left by 15° to 30°"
		case s.yaw <= 15:
			return "turned by at most 15°"
		case s.yaw <= 30:
			return "turned right by 15° to 30°"
		}
		return "turned right by more than 30°"
	}},
	{"eyewear", func(s *sighting) string {
		return map[vision.Eyewear]string{
			vision.NoGlasses: "no glasses", vision.ReadingGlasses: "glasses", vision.Sunglasses: "sunglasses",
		}[s.eyewear]
	}},
	{"light", func(s *sighting) string {
		switch {
		case math.IsNaN(s.light):
			return ""
		case s.light < 0.25:
			return "dark (exposure under 0.25)"
		case s.light <= 0.75:
			return "good (exposure 0.25 to 0.75)"
		}
		return "bright (exposure over 0.75)"
	}},
}

// mostRows bounds the rows of a CSV file.
const mostRows = 1_000_000

// ReadGroups reads a CSV file with a header: the first column holds the names of the people's folders, each further one
// is a grouping with the name in its header. It adds the groupings to the set and returns warnings about the file, in
// sentences.
func (s *Set) ReadGroups(file string) (odd []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	defer f.Close()
	rows := csv.NewReader(f)
	rows.TrimLeadingSpace = true
	head, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read groups: %s is empty: it must have a header such as person,group", file)
	}
	if err != nil {
		return nil, fmt.Errorf("read groups: %s: %w", file, err)
	}
	if len(head) < 2 {
		return nil, fmt.Errorf("read groups: %s has one column: it must have a header such as person,group", file)
	}
	known := map[string]bool{}
	for _, p := range s.Photos {
		known[p.Person] = true
	}
	if known[head[0]] {
		return nil, fmt.Errorf("read groups: %s begins with a person, not with a header such as person,group", file)
	}
	var groupings []Grouping
	for _, name := range head[1:] {
		if name == "" {
			return nil, fmt.Errorf("read groups: %s has a column without a name in its header", file)
		}
		groupings = append(groupings, Grouping{Name: name, Of: map[string]string{}})
	}
	seen := map[string]bool{}
	unknown := 0
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read groups: %s: %w", file, err)
		}
		line, _ := rows.FieldPos(0)
		person := row[0]
		switch {
		case n == mostRows:
			return nil, fmt.Errorf("read groups: %s has more than %d rows", file, mostRows)
		case seen[person]:
			return nil, fmt.Errorf("read groups: %s:%d: %q is listed twice", file, line, person)
		case !known[person]:
			if unknown++; unknown == 1 {
				odd = append(odd, fmt.Sprintf("%s:%d: %q has no folder with photos", file, line, person))
			}
		}
		seen[person] = true
		for i, name := range row[1:] {
			groupings[i].Of[person] = strings.TrimSpace(name)
		}
	}
	if len(seen) == unknown {
		return nil, fmt.Errorf("read groups: %s has no person with a folder of photos", file)
	}
	if unknown > 1 {
		odd = append(odd, fmt.Sprintf("%s: %d people in all have no folder with photos", file, unknown))
	}
	if left := len(known) - len(seen) + unknown; left > 0 {
		odd = append(odd, fmt.Sprintf("%s: %d people who have photos are in no group", file, left))
	}
	s.Groupings = append(s.Groupings, groupings...)
	return odd, nil
}

//go:embed names.txt
var nameLists string

// GroupByName adds groupings by the names of the people's folders, Given_Surname, as in public sets of press photos: by
// the region where a surname is common, by the sex for which a given name is common, and by both. It is crude, and
// meant for sets without better labels.
func (s *Set) GroupByName() {
	lists := readNames(nameLists)
	region, sex, both := map[string]string{}, map[string]string{}, map[string]string{}
	for _, p := range s.Photos {
		words := strings.FieldsFunc(strings.ToLower(p.Person),
			func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' })
		if len(words) == 0 {
			continue
		}
		given, surname := words[0], words[len(words)-1]
		gender := lists.find("given", given)
		where := cmp.Or(lists.find("surname", surname),
			lists.find("surname first", given), // as in East Asia
			lists.find("region by given", given))
		region[p.Person], sex[p.Person] = where, gender
		if where != "" && gender != "" {
			both[p.Person] = where + ", " + gender
		}
	}
	s.Groupings = append(s.Groupings,
		Grouping{"surname", region}, Grouping{"given name", sex}, Grouping{"both names", both})
}

// names are lists of names by kind: whole names, and endings after a *, with the group that they belong to.
type names map[string]map[string]string

// readNames reads lists of names: a line "kind: group" begins a list, the lines after it are the names. A name in
// several lists of one kind belongs to the first.
func readNames(text string) names {
	lists := names{}
	var kind, group string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if before, after, found := strings.Cut(line, ": "); found {
			kind, group = before, after
			if lists[kind] == nil {
				lists[kind] = map[string]string{}
			}
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		for name := range strings.FieldsSeq(line) {
			if lists[kind][name] == "" {
				lists[kind][name] = group
			}
		}
	}
	return lists
}

// find returns the group of a name: that of the whole name, or of its longest ending in the lists of the kind.
func (l names) find(kind, name string) string {
	if group := l[kind][name]; group != "" {
		return group
	}
	for i := range name {
		if group := l[kind]["*"+name[i:]]; group != "" {
			return group
		}
	}
	return ""
}

// ReadGrouped reads a folder of groups: each has a folder for each person, with their photos in it.
func ReadGrouped(dir string) (Set, error) {
	groups, err := os.ReadDir(dir)
	if err != nil {
		return Set{}, fmt.Errorf("read photos: %w", err)
	}
	var s Set
	of := map[string]string{}
	for _, g := range groups {
		if !isFolder(dir, g) {
			continue
		}
		some, err := readFolder(filepath.Join(dir, g.Name()))
		if err != nil {
			return Set{}, err
		}
		for _, p := range some.Photos {
			p.Person = g.Name() + "/" + p.Person // the same name in two groups is two people
			of[p.Person] = g.Name()
			s.Photos = append(s.Photos, p)
		}
	}
	if len(s.Photos) == 0 {
		return Set{}, fmt.Errorf(
			"%s has no photos: it must have a folder for each group, in it one for each person, with their photos", dir)
	}
	s.Groupings = []Grouping{{"folder", of}}
	return s, nil
}
