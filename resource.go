package visage

import "fmt"

// ResourceID identifies a Face resource for ever: a random UUID made at its creation, never used again.
// It is also the id of the sealed space that holds the resource's data.
type ResourceID [16]byte

// String returns the id as a lower-case UUID.
func (id ResourceID) String() string { return UUID(id).String() }

// ParseResourceID parses the output of String, and nothing else.
func ParseResourceID(s string) (ResourceID, error) {
	id, err := ParseUUID(s)
	if err != nil {
		return ResourceID{}, fmt.Errorf("resource id %q is not a lower-case UUID", s)
	}
	return ResourceID(id), nil
}

// Resource is a Face resource as handlers see it: its identity and its tier.
type Resource struct {
	ID   ResourceID
	Name string // unique in the instance
	Tier Tier
}

// Tier is a pricing tier of a Face resource.
type Tier string

// The tiers. E0 is S0 with customer-managed keys.
const (
	F0 Tier = "F0"
	S0 Tier = "S0"
	E0 Tier = "E0"
)

// ParseTier reads a tier's name.
func ParseTier(s string) (Tier, error) {
	switch t := Tier(s); t {
	case F0, S0, E0:
		return t, nil
	}
	return "", fmt.Errorf("tier %q is not one of F0, S0, E0", s)
}

// Limits are the counts and rates that bind the resources of a tier (Face contract §2.3).
type Limits struct {
	Requests float64 // requests a second, on average
	Burst    int     // requests that may come at once

	FaceLists, FacesPerFaceList               int
	LargeFaceLists, FacesPerLargeFaceList     int
	PersonGroups, PersonsPerPersonGroup       int
	LargePersonGroups, PersonsPerLargeGroup   int
	PersonsInPersonGroups, PersonsInLargeOnes int // in all groups of the kind together
	FacesPerPerson                            int
}

// Limits returns the limits of the tier; those of an unknown tier are zero.
func (t Tier) Limits() Limits {
	switch t {
	case F0:
		return Limits{
			Requests: 20.0 / 60, Burst: 20,
			FaceLists: 64, FacesPerFaceList: 1_000, LargeFaceLists: 64, FacesPerLargeFaceList: 1_000,
			PersonGroups: 1_000, PersonsPerPersonGroup: 1_000, PersonsInPersonGroups: 1_000,
			LargePersonGroups: 1_000, PersonsPerLargeGroup: 1_000, PersonsInLargeOnes: 1_000,
			FacesPerPerson: 248,
		}
	case S0, E0:
		return Limits{
			Requests: 10, Burst: 10,
			FaceLists: 64, FacesPerFaceList: 1_000, LargeFaceLists: 1_000_000, FacesPerLargeFaceList: 1_000_000,
			PersonGroups: 1_000_000, PersonsPerPersonGroup: 10_000, PersonsInPersonGroups: 100_000_000,
			LargePersonGroups: 1_000_000, PersonsPerLargeGroup: 1_000_000, PersonsInLargeOnes: 1_000_000_000,
			FacesPerPerson: 248,
		}
	}
	return Limits{}
}
