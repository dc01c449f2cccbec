package stores

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// maxFile is the largest file of stores that is read, in bytes.
const maxFile = 1 << 20

// Read reads and checks the stores in a file with a JSON array of them.
func Read(file string) ([]Store, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the key stores: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the key stores: %w", err)
	}
	var all []Store
	if err := strictly(raw, &all); err != nil {
		return nil, fmt.Errorf("read the key stores in %s: %w", file, err)
	}
	for _, store := range all {
		if err := store.Check(); err != nil {
			return nil, fmt.Errorf("read the key stores in %s: %w", file, err)
		}
	}
	return all, nil
}

// loginPath matches mounts and roles of login methods.
var loginPath = regexp.MustCompile(`^[A-Za-z0-9_{][A-Za-z0-9_.{}-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)

// usesOf refuses a method that is none of those given, and fields that the method lacks or does not have.
func (l Login) usesOf(methods []Method) error {
	var names []string
	for _, m := range methods {
		if m.Name == l.Method {
			return l.uses(m.Needs, m.May)
		}
		names = append(names, m.Name)
	}
	last := len(names) - 1
	choice := names[last]
	if last > 0 {
		choice = strings.Join(names[:last], ", ") + " or " + choice
	}
	return fmt.Errorf("the login is %s; got %.40q", choice, l.Method)
}

// uses refuses fields of a login that are set beside those that its method needs and those that it may have. The names
// are those of the file.
func (l Login) uses(needs, may []string) error {
	v := reflect.ValueOf(l)
	for i, field := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		value := v.Field(i).String()
		switch {
		case name == "method":
		case slices.Contains(needs, name):
			if value == "" {
				return fmt.Errorf("the login %s needs %s", l.Method, name)
			}
		case value != "" && !slices.Contains(may, name):
			return fmt.Errorf("the login %s does not use %s", l.Method, name)
		}
	}
	return nil
}
