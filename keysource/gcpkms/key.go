package gcpkms

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
)

// Scheme begins the addresses of key rings: gcpkms://projects/PROJECT/locations/LOCATION/keyRings/KEYRING.
const Scheme = "gcpkms"

// form is the form of the identifier of a key, for messages.
const form = "gcpkms://projects/{project}/locations/{location}/keyRings/{keyRing}/cryptoKeys/{name} with or without " +
	"/cryptoKeyVersions/{version}"

var (
	// ids of projects, also those below a domain, and their numbers
	projectPattern = regexp.MustCompile(`^([a-z][a-z0-9.-]{0,61}[a-z0-9]:)?[a-z][a-z0-9-]{4,61}[a-z0-9]$` +
		`|^[1-9][0-9]{0,18}$`)
	locationPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`) // of key rings and keys
	versionPattern  = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// ParseAddress returns the address of a key ring in its one spelling. A query, a fragment and an escape are errors.
func ParseAddress(address string) (string, error) {
	segments, err := segmentsOf(address)
	if err != nil {
		return "", err
	}
	return join(address, segments)
}

func segmentsOf(address string) ([]string, error) {
	scheme, path, found := strings.Cut(address, "://")
	if !found || !strings.EqualFold(scheme, Scheme) {
		return nil, fmt.Errorf("%.200q is not the address of a key ring of Google Cloud KMS: give %s", address, form)
	}
	return strings.Split(strings.TrimSuffix(path, "/"), "/"), nil
}

// join makes the address of a key ring of the segments of its path. given is for messages.
func join(given string, segments []string) (string, error) {
	if len(segments) != 6 || segments[0] != "projects" || segments[2] != "locations" || segments[4] != "keyRings" {
		return "", fmt.Errorf("%.300q is not the address of a key ring of Google Cloud KMS: give "+
			"gcpkms://projects/{project}/locations/{location}/keyRings/{keyRing}", given)
	}
	switch {
	case !projectPattern.MatchString(segments[1]):
		return "", fmt.Errorf("%.200q is not the id or the number of a project", segments[1])
	case !locationPattern.MatchString(segments[3]):
		return "", fmt.Errorf("%.200q is not a location of Cloud KMS, such as europe-west3 or global", segments[3])
	case !namePattern.MatchString(segments[5]):
		return "", fmt.Errorf("the name of a key ring has 1 to 63 letters, digits, hyphens and underscores; got %.200q",
			segments[5])
	}
	return Scheme + "://" + strings.Join(segments, "/"), nil
}

// ParseKey parses a reference to a key of Cloud KMS, and returns it in its one spelling. With a name, address is that
// of the key ring; without, it is the identifier of the key: the address with /cryptoKeys/NAME and maybe
// /cryptoKeyVersions/VERSION, as Google's tools show it behind the scheme, or with /keys/NAME or /keys/NAME/VERSION, as
// visage.KeyRef writes it. A version is a number from 1.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	segments, err := segmentsOf(address)
	if err != nil {
		return visage.KeyRef{}, err
	}
	if name == "" {
		given := version
		if segments, name, version, err = splitKey(segments); err != nil {
			return visage.KeyRef{}, fmt.Errorf("%.300q %w: give %s", address, err, form)
		}
		if given != "" && given != version {
			return visage.KeyRef{}, errors.New("the key identifier and keyVersion name different versions")
		}
	}
	ring, err := join(address, segments)
	if err != nil {
		return visage.KeyRef{}, err
	}
	switch {
	case !namePattern.MatchString(name):
		return visage.KeyRef{}, fmt.Errorf("the name of a key of Cloud KMS has 1 to 63 letters, digits, hyphens and "+
			"underscores; got %.200q", name)
	case version != "" && !versionPattern.MatchString(version):
		return visage.KeyRef{}, fmt.Errorf("the version of a key of Cloud KMS is a number from 1; got %.200q", version)
	}
	return visage.KeyRef{Vault: ring, Name: name, Version: version}, nil
}

// splitKey takes the name and the version of a key off the end of a path.
func splitKey(segments []string) (ring []string, name, version string, err error) {
	n := len(segments)
	switch {
	case n == 8 && (segments[6] == "cryptoKeys" || segments[6] == "keys"):
		return segments[:6], segments[7], "", nil
	case n == 10 && segments[6] == "cryptoKeys" && segments[8] == "cryptoKeyVersions":
		return segments[:6], segments[7], segments[9], nil
	case n == 9 && segments[6] == "keys":
		return segments[:6], segments[7], segments[8], nil
	}
	return nil, "", "", errors.New("names no key")
}

// resource returns the name of a key in requests: the address of its ring without the scheme, and its name.
func resource(key visage.KeyRef) string {
	return strings.TrimPrefix(key.Vault, Scheme+"://") + "/cryptoKeys/" + key.Name
}

// sameResource reports whether an answer is about the resource that was asked for. The project may be named by its
// number in the one and by its id in the other.
func sameResource(asked, answered string) bool {
	askedProject, askedPath := splitProject(asked)
	project, path := splitProject(answered)
	return strings.HasPrefix(answered, "projects/") && path == askedPath &&
		(project == askedProject || isNumber(project) != isNumber(askedProject))
}

func splitProject(resource string) (project, path string) {
	project, path, _ = strings.Cut(strings.TrimPrefix(resource, "projects/"), "/")
	return project, path
}

func isNumber(project string) bool { return project != "" && project[0] >= '0' && project[0] <= '9' }
