package server

import (
	"fmt"
	"slices"

	"github.com/visage-face/visage/sealed"
)

// protectors makes the protectors of Config.RootKeys. On the first start of an instance, a missing key file is created.
// Later it is not: a new key would not open the existing data, and would hide that the old key is missing.
func (c Config) protectors(first bool) ([]sealed.Protector, error) {
	var protectors []sealed.Protector
	for _, entry := range c.RootKeys {
		p, err := c.protector(entry)
		if err != nil {
			return nil, err
		}
		source, err := p.open(first)
		if err != nil {
			return nil, fmt.Errorf("root key %s: %w", entry, err)
		}
		// A name is the kind, not the place: a key file that was moved is the same protector. A second one of a kind
		// has a number.
		name, nth := p.kind, 1
		for slices.ContainsFunc(protectors, func(p sealed.Protector) bool { return p.Name == name }) {
			nth++
			name = fmt.Sprintf("%s %d", p.kind, nth)
		}
		protectors = append(protectors,
			sealed.Protector{Name: name, Kind: p.kind, Entry: entry, Exposed: p.exposed, Source: source})
	}
	return protectors, nil
}
