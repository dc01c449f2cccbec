package stores

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Kind is a kind of stores, for people who describe one.
type Kind struct {
	Scheme  string // of the addresses
	About   string // the form of an address, and what it is the address of
	Methods []Method
	// Needs and May are the fields that a description needs, and those that it may have, besides its login and helper.
	Needs, May []string
	// Library says that a description names a library of this machine: it may come from the settings alone.
	Library bool
}

// Method is a method of login. The fields are named as in Fields, without "login.".
type Method struct {
	Name       string
	Needs, May []string // the fields of Login that it needs, and those that it may have
	Alike      bool     // all resources log in alike, so that Store.Resources is needed; set by Kinds
}

// Kinds returns all kinds of stores.
func Kinds() []Kind {
	all := make([]Kind, len(kinds))
	for i, k := range kinds {
		all[i] = Kind{k.scheme, k.about, slices.Clone(k.methods), slices.Clone(k.needs), slices.Clone(k.may), k.library}
		for j, m := range all[i].Methods {
			all[i].Methods[j].Alike = k.helped == nil && !slices.Contains(k.federates, m.Name)
		}
	}
	return all
}

// KindAt returns the scheme of the kind of the store at an address; empty for no kind.
func KindAt(address string) string {
	k, _ := kindOf(address)
	return k.scheme
}

// Fields returns the names of the fields of a description besides the address, as the file of stores has them; those of
// the login begin with "login.".
func Fields() []string {
	var all []string
	for _, f := range new(Store).texts() {
		all = append(all, f.name)
	}
	return append(all, ResourcesField)
}

// Described returns the description of the store at an address with the given fields, by the names of Fields. A name
// that is unknown is an error; Check finds other mistakes.
func Described(address string, values map[string]string) (Store, error) {
	s := Store{Address: address}
	known := s.texts()
	for name, value := range values {
		if name == ResourcesField {
			s.Resources = SplitResources(value)
			continue
		}
		i := slices.IndexFunc(known, func(f text) bool { return f.name == name })
		if i < 0 {
			return Store{}, fmt.Errorf("the description of a key store has no field %q; it has %s", name,
				strings.Join(Fields(), ", "))
		}
		*known[i].value = value
	}
	return s, nil
}

// With returns the description with other values of some fields, by the names of Fields. An empty value takes a field
// away.
func (s Store) With(values map[string]string) (Store, error) {
	all := s.Values()
	for name, value := range values {
		if all[name] = value; value == "" {
			delete(all, name)
		}
	}
	changed, err := Described(s.Address, all)
	changed.Helper = s.Helper
	return changed, err
}

// Equal reports whether two descriptions say the same.
func (s Store) Equal(other Store) bool {
	return s.Address == other.Address && maps.Equal(s.Values(), other.Values()) &&
		reflect.DeepEqual(s.Helper, other.Helper)
}

// ResourcesField is the name of Store.Resources in Fields. Its value has commas between the entries.
const ResourcesField = "resources"

// SplitResources returns the entries of the text of Store.Resources, which has commas between them.
func SplitResources(text string) []string {
	var all []string
	for _, r := range strings.Split(text, ",") {
		if r = strings.TrimSpace(r); r != "" {
			all = append(all, r)
		}
	}
	return all
}

// Values returns the fields of a description that are set, by the names of Fields.
func (s Store) Values() map[string]string {
	all := map[string]string{}
	for _, f := range s.texts() {
		if *f.value != "" {
			all[f.name] = *f.value
		}
	}
	if len(s.Resources) > 0 {
		all[ResourcesField] = strings.Join(s.Resources, ",")
	}
	return all
}

// Shown returns the description as operators may see it: without the values of the helper's variables and parameters,
// which can be the secrets of a vendor.
func (s Store) Shown() Store {
	const hidden = "(not shown)"
	if s.Helper.Parameters != "" {
		s.Helper.Parameters = hidden
	}
	s.Helper.Environment = maps.Clone(s.Helper.Environment)
	for name := range s.Helper.Environment {
		s.Helper.Environment[name] = hidden
	}
	return s
}

// text is one field of a description that is a text.
type text struct {
	name  string
	value *string
}

// texts returns the fields of a description that are texts.
func (s *Store) texts() []text {
	var all []text
	add := func(prefix string, v reflect.Value) {
		for i, field := range reflect.VisibleFields(v.Type()) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !field.IsExported() {
				continue
			}
			if value, is := reflect.TypeAssert[*string](v.Field(i).Addr()); is && name != "" && name != "address" {
				all = append(all, text{prefix + name, value})
			}
		}
	}
	add("", reflect.ValueOf(s).Elem())
	add("login.", reflect.ValueOf(&s.Login).Elem())
	return all
}

// Parse reads a description as the file of stores has it. It does not check it.
func Parse(raw []byte) (Store, error) {
	var s Store
	err := strictly(raw, &s)
	return s, err
}

// strictly reads one JSON value, and nothing behind it.
func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind it")
	}
	return nil
}
