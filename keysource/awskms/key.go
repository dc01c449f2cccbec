package awskms

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
)

// Scheme begins the addresses of AWS KMS in one region of one account: awskms://REGION/ACCOUNT.
const Scheme = "awskms"

// form is the form of the identifier of a key, for messages.
const form = "awskms://{region}/{account}/keys/{key id}"

// partition is one of the separate clouds of AWS: accounts, roles and keys of one are unknown in the others.
type partition struct {
	name    string // as ARNs have it
	suffix  string // of host names
	regions *regexp.Regexp
}

// The public partitions, as in the rules for endpoints that AWS publishes with its clients.
var partitions = []partition{
	{"aws-cn", "amazonaws.com.cn", regexp.MustCompile(`^cn-[a-z]+-[0-9]{1,2}$`)},
	{"aws-us-gov", "amazonaws.com", regexp.MustCompile(`^us-gov-[a-z]+-[0-9]{1,2}$`)},
	{"aws-eusc", "amazonaws.eu", regexp.MustCompile(`^eusc-[a-z]+-[a-z]+-[0-9]{1,2}$`)},
	{"aws", "amazonaws.com", regexp.MustCompile(`^[a-z]{2}-[a-z]+-[0-9]{1,2}$`)},
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	// the ids that AWS KMS gives to keys, of one region or of several
	keyPattern  = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	rolePattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	rolePath    = regexp.MustCompile(`^([A-Za-z0-9_+=,.@-]{1,64}/)*[A-Za-z0-9_+=,.@-]{1,64}$`)
)

// place is where keys are: the parsed form of KeyRef.Vault.
type place struct {
	partition partition
	region    string
	account   string
}

// String returns the address in its one spelling.
func (p place) String() string { return Scheme + "://" + p.region + "/" + p.account }

// host is that of a service in the region.
func (p place) host(service string) string {
	return service + "." + p.region + "." + p.partition.suffix
}

// arn is the name by which AWS knows a key.
func (p place) arn(key string) string {
	return "arn:" + p.partition.name + ":kms:" + p.region + ":" + p.account + ":key/" + key
}

// ParseKey parses a reference to a key of AWS KMS, and returns it in its one spelling. With a name, address is that of
// a region and an account, awskms://REGION/ACCOUNT; without, it is the identifier of the key: the address with
// /keys/NAME. A name is the id of a key, or its ARN, which must be of the same partition, region and account. An alias
// is refused, because it can be moved to another key at any time. Keys have no versions.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || strings.ToLower(u.Scheme) != Scheme || u.Opaque != "" || u.RawPath != "":
		return visage.KeyRef{}, fmt.Errorf("%.200q is not the address of keys in AWS KMS: give %s", address, form)
	case u.User != nil || u.Port() != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return visage.KeyRef{}, fmt.Errorf("the address of AWS KMS in %.100q has a user, a port, a query or a "+
			"fragment; leave it out", u.Hostname())
	}
	path := strings.Trim(u.Path, "/")
	if name == "" {
		account, key, found := strings.Cut(path, "/keys/")
		if !found {
			return visage.KeyRef{}, fmt.Errorf("%.300q names no key: give %s", address, form)
		}
		path, name = account, key
	}
	at, err := parsePlace(strings.ToLower(u.Host), path)
	if err != nil {
		return visage.KeyRef{}, err
	}
	if name, err = at.parseName(name); err != nil {
		return visage.KeyRef{}, err
	}
	if version != "" {
		return visage.KeyRef{}, fmt.Errorf("keys in AWS KMS have no versions that can be named, because AWS rotates "+
			"them inside: leave the version %.100q of key %s out", version, name)
	}
	return visage.KeyRef{Vault: at.String(), Name: name}, nil
}

func parsePlace(region, account string) (place, error) {
	if !accountPattern.MatchString(account) {
		return place{}, fmt.Errorf("the account of AWS has 12 digits; got %.100q: give %s", account, form)
	}
	for _, p := range partitions {
		if p.regions.MatchString(region) {
			return place{p, region, account}, nil
		}
	}
	return place{}, fmt.Errorf("%.100q is not the name of a region of AWS, such as eu-central-1", region)
}

// parseName returns the id of the key that a name means.
func (p place) parseName(name string) (string, error) {
	id := name
	if strings.HasPrefix(name, "arn:") {
		var err error
		if id, err = p.parseARN(name); err != nil {
			return "", err
		}
	}
	switch {
	case strings.HasPrefix(id, "alias/"):
		return "", fmt.Errorf("%.200q is an alias, which can be moved to another key at any time: give the id of the "+
			"key, which \"aws kms describe-key --key-id %.200s\" shows as KeyId", name, id)
	case !keyPattern.MatchString(id):
		return "", fmt.Errorf("the id of a key in AWS KMS is a UUID in lower case, or mrk- and 32 hexadecimal digits; "+
			"got %.200q", name)
	}
	return id, nil
}

// parseARN returns the id of the key in an ARN (arn:PARTITION:kms:REGION:ACCOUNT:key/ID) of this place.
func (p place) parseARN(arn string) (string, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "kms" {
		return "", fmt.Errorf("%.200q is not the ARN of a key in AWS KMS", arn)
	}
	for _, c := range []struct{ what, got, want string }{
		{"partition", parts[1], p.partition.name}, {"region", parts[3], p.region}, {"account", parts[4], p.account},
	} {
		if c.got != c.want {
			return "", fmt.Errorf("the key %.200q is in the %s %.100q, and the key store %s is in %q: name the store "+
				"that the key is in", arn, c.what, c.got, p, c.want)
		}
	}
	if strings.HasPrefix(parts[5], "alias/") {
		return parts[5], nil
	}
	id, ok := strings.CutPrefix(parts[5], "key/")
	if !ok {
		return "", fmt.Errorf("%.200q is not the ARN of a key in AWS KMS", arn)
	}
	return id, nil
}

// RoleARN returns the ARN of a role that a source of the given store assumes. role is an ARN, or the name of a role in
// the account of the store. A role of another partition is refused.
func RoleARN(address, role string) (string, error) {
	at, err := parseAddress(address)
	if err != nil {
		return "", err
	}
	if rolePattern.MatchString(role) {
		return "arn:" + at.partition.name + ":iam::" + at.account + ":role/" + role, nil
	}
	parts := strings.SplitN(role, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "iam" || parts[3] != "" ||
		!accountPattern.MatchString(parts[4]) {
		return "", fmt.Errorf("the role %.200q is neither the name of a role nor the ARN of one", role)
	}
	if path, ok := strings.CutPrefix(parts[5], "role/"); !ok || !rolePath.MatchString(path) {
		return "", fmt.Errorf("the role %.200q is neither the name of a role nor the ARN of one", role)
	}
	if parts[1] != at.partition.name {
		return "", fmt.Errorf("the role %.200q is in the partition %.40q, and the key store %s is in %q", role,
			parts[1], at, at.partition.name)
	}
	return role, nil
}

// ParseAddress returns the address of a store in its one spelling.
func ParseAddress(address string) (string, error) {
	at, err := parseAddress(address)
	if err != nil {
		return "", err
	}
	return at.String(), nil
}

func parseAddress(address string) (place, error) {
	key, err := ParseKey(address, "00000000-0000-0000-0000-000000000000", "")
	if err != nil {
		return place{}, err
	}
	return placeOf(key)
}

// placeOf parses the address of a reference that ParseKey returned.
func placeOf(key visage.KeyRef) (place, error) {
	parsed, err := ParseKey(key.Vault, key.Name, key.Version)
	if err != nil {
		return place{}, err
	}
	if parsed != key {
		return place{}, fmt.Errorf("%s is not in its one spelling, which is %s", key, parsed)
	}
	region, account, found := strings.Cut(strings.TrimPrefix(key.Vault, Scheme+"://"), "/")
	if !found {
		return place{}, errors.New("the address names no account")
	}
	return parsePlace(region, account)
}
