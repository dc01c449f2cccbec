package awskms_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/awskms"
)

const (
	someKey  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	someARN  = "arn:aws:kms:eu-central-1:111122223333:key/" + someKey
	multiKey = "mrk-0123456789abcdef0123456789abcdef"
)

// TestParseKey reads references in every spelling, and returns the one that is stored.
func TestParseKey(t *testing.T) {
	const store = "awskms://eu-central-1/111122223333"
	for in, want := range map[[3]string]string{
		{store, someKey, ""}: store + "/keys/" + someKey,
		{"AWSKMS://EU-Central-1/111122223333/", someKey, ""}: store + "/keys/" + someKey,
		{store, someARN, ""}:                                    store + "/keys/" + someKey,
		{store, multiKey, ""}:                                   store + "/keys/" + multiKey,
		{store + "/keys/" + someKey, "", ""}:                    store + "/keys/" + someKey,
		{store + "/keys/" + someARN, "", ""}:                    store + "/keys/" + someKey,
		{"awskms://cn-north-1/111122223333", someKey, ""}:       "awskms://cn-north-1/111122223333/keys/" + someKey,
		{"awskms://us-gov-west-1/111122223333", someKey, ""}:    "awskms://us-gov-west-1/111122223333/keys/" + someKey,
		{"awskms://eusc-de-east-1/111122223333", someKey, ""}:   "awskms://eusc-de-east-1/111122223333/keys/" + someKey,
		{"awskms://ap-southeast-2/111122223333", multiKey, ""}:  `awskms://ap-southeast-2/111122223333/keys/` + multiKey,
		{"awskms://us-gov-west-1/111122223333", govARN(""), ""}: "awskms://us-gov-west-1/111122223333/keys/" + someKey,
	} {
		key, err := awskms.ParseKey(in[0], in[1], in[2])
		if err != nil || key.String() != want {
			t.Errorf("%q: got %s, %v; want %s", in, key, err, want)
			continue
		}
		if again, err := awskms.ParseKey(key.String(), "", ""); err != nil || again != key || again.Check() != nil {
			t.Errorf("%s: read again it is %s, %v", key, again, err)
		}
	}
	for in, says := range map[[3]string]string{
		{"https://eu-central-1/111122223333", someKey, ""}:             "not the address",
		{"awskms:eu-central-1", someKey, ""}:                           "not the address",
		{"awskms://key:secret@eu-central-1/111122223333", someKey, ""}: "has a user",
		{"awskms://eu-central-1:443/111122223333", someKey, ""}:        "a port",
		{store + "?region=x", someKey, ""}:                             "a query",
		{store + "#x", someKey, ""}:                                    "fragment",
		{"awskms://eu-central-1", someKey, ""}:                         "12 digits",
		{"awskms://eu-central-1/1234", someKey, ""}:                    "12 digits",
		{"awskms://eu-central-1/111122223333/more", someKey, ""}:       "12 digits",
		{"awskms://us-iso-east-1/111122223333", someKey, ""}:           "region",
		{"awskms://kms.eu-central-1.amazonaws.com/1", someKey, ""}:     "12 digits",
		{"awskms://example.com/111122223333", someKey, ""}:             "region",
		{store, "", ""}:                                                 "names no key",
		{store, someKey, "1"}:                                           "no versions",
		{store, "faces", ""}:                                            "a UUID in lower case",
		{store, strings.ToUpper(someKey), ""}:                           "a UUID in lower case",
		{store, "alias/faces", ""}:                                      "is an alias",
		{store + "/keys/alias/faces", "", ""}:                           "is an alias",
		{store, "arn:aws:kms:eu-central-1:111122223333:alias/f", ""}:    "is an alias",
		{store, "arn:aws:kms:eu-west-1:111122223333:key/" + someKey}:    `in the region "eu-west-1"`,
		{store, "arn:aws:kms:eu-central-1:444455556666:key/" + someKey}: `in the account "444455556666"`,
		{store, govARN("eu-central-1")}:                                 `in the partition "aws-us-gov"`,
		{store, "arn:aws:iam::111122223333:role/" + someKey}:            "not the ARN of a key",
		{store, "arn:aws:kms:eu-central-1:111122223333:" + someKey}:     "not the ARN of a key",
		{store, "arn:aws:kms"}:                                          "not the ARN of a key",
	} {
		key, err := awskms.ParseKey(in[0], in[1], in[2])
		if err == nil || !strings.Contains(err.Error(), says) || key != (visage.KeyRef{}) {
			t.Errorf("%q: got %s, %v; want %q", in, key, err, says)
		}
	}
}

// govARN is the ARN of someKey in the cloud of the government of the United States.
func govARN(region string) string {
	if region == "" {
		region = "us-gov-west-1"
	}
	return "arn:aws-us-gov:kms:" + region + ":111122223333:key/" + someKey
}

// TestRoleARN reads roles by name and by ARN, in the partition of the store alone.
func TestRoleARN(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"awskms://eu-central-1/111122223333", "visage"}:                                    `arn:aws:iam::111122223333:role/visage`,
		{"awskms://cn-north-1/111122223333", "visage"}:                                      `arn:aws-cn:iam::111122223333:role/visage`,
		{"awskms://eu-central-1/111122223333", `arn:aws:iam::444455556666:role/team/faces`}: "arn:aws:iam::444455556666:role/team/faces",
	} {
		if got, err := awskms.RoleARN(in[0], in[1]); err != nil || got != want {
			t.Errorf("%q: got %s, %v; want %s", in, got, err, want)
		}
	}
	for in, says := range map[[2]string]string{
		{"awskms://eu-central-1", "visage"}:                                                "12 digits",
		{"awskms://eu-central-1/111122223333", ""}:                                         "neither",
		{"awskms://eu-central-1/111122223333", "two words"}:                                "neither",
		{"awskms://eu-central-1/111122223333", "arn:aws:iam::111122223333:user/visage"}:    "neither",
		{"awskms://eu-central-1/111122223333", "arn:aws:iam::111122223333:role/"}:          "neither",
		{"awskms://eu-central-1/111122223333", "arn:aws:sts::111122223333:role/visage"}:    "neither",
		{"awskms://eu-central-1/111122223333", "arn:aws-cn:iam::111122223333:role/visage"}: `partition "aws-cn"`,
	} {
		if got, err := awskms.RoleARN(in[0], in[1]); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, says)
		}
	}
}

// TestListener names the host that a trial of a store connects to.
func TestListener(t *testing.T) {
	for cfg, want := range map[[2]string]string{
		{"awskms://eu-central-1/111122223333", ""}:                         "kms.eu-central-1.amazonaws.com:443",
		{"awskms://cn-north-1/111122223333", ""}:                           "kms.cn-north-1.amazonaws.com.cn:443",
		{"awskms://eusc-de-east-1/111122223333", ""}:                       "kms.eusc-de-east-1.amazonaws.eu:443",
		{"awskms://us-gov-west-1/111122223333", "https://kms.inside:8443"}: "kms.inside:8443",
		{"awskms://eu-central-1/111122223333", "http://kms.inside"}:        "",
		{"awskms://nowhere/111122223333", ""}:                              "",
	} {
		if got := awskms.Listener(awskms.Config{Address: cfg[0], Endpoint: cfg[1]}); got != want {
			t.Errorf("%q: got %q, want %q", cfg, got, want)
		}
	}
}

// TestEndpoints refuses endpoints that would lead credentials elsewhere or in the clear.
func TestEndpoints(t *testing.T) {
	for _, endpoint := range []string{"http://kms.example", "kms.example", "https://", "https://user@kms.example",
		"https://kms.example/path", "https://kms.example?x", "https://kms.example#x"} {
		for _, cfg := range []awskms.Config{{Endpoint: endpoint}, {LoginEndpoint: endpoint}} {
			cfg.Address = "awskms://eu-central-1/111122223333"
			if _, err := awskms.NewServers(cfg); err == nil || !strings.Contains(err.Error(), "not https://HOST") {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
	}
}
