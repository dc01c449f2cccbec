package awskms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
)

// key is what AWS says of a key (KeyMetadata in the reference of its API).
type key struct {
	ARN          string   `json:"Arn"`
	State        string   `json:"KeyState"`
	Spec         string   `json:"KeySpec"`
	Usage        string   `json:"KeyUsage"`
	Manager      string   `json:"KeyManager"`
	Algorithms   []string `json:"EncryptionAlgorithms"`
	ValidTo      moment   // of imported material
	DeletionDate moment
}

// moment is a time as AWS writes it in JSON: seconds since 1970, perhaps with a fraction. Zero: AWS names none.
type moment struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(raw []byte) error {
	var seconds *float64
	if err := json.Unmarshal(raw, &seconds); err != nil {
		return err
	}
	if seconds != nil {
		m.Time = time.UnixMilli(int64(*seconds * 1000))
	}
	return nil
}

// read reads the key. classified turns its error into one of a key source.
func (s *Source) read(ctx context.Context) (key, error) {
	var answered struct{ KeyMetadata key }
	request := struct {
		KeyID string `json:"KeyId"`
	}{s.arn}
	if err := s.ask(ctx, "DescribeKey", request, &answered); err != nil {
		return key{}, err
	}
	k := answered.KeyMetadata
	if k.ARN == "" || k.State == "" || k.Spec == "" || k.Usage == "" {
		return key{}, errors.New("the answer describes no key")
	}
	if k.ARN != s.arn {
		return key{}, anotherKey(k.ARN)
	}
	return k, nil
}

// usable returns nil if the state of the key lets it wrap and unwrap, and else what the state means.
func (k key) usable() error {
	refuse := func(class error, reason keysource.Reason, format string, args ...any) error {
		return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf(format, args...)}
	}
	switch k.State {
	case "Enabled":
		return nil
	case "Disabled":
		return refuse(keysource.ErrDenied, keysource.Disabled, "the key is disabled")
	case "PendingDeletion":
		return refuse(keysource.ErrDenied, keysource.Missing, "the key will be deleted on %s, unless its deletion is "+
			"cancelled", date(k.DeletionDate))
	case "PendingReplicaDeletion":
		return refuse(keysource.ErrDenied, keysource.Missing, "the key will be deleted when its replicas in other "+
			"regions are, unless its deletion is cancelled")
	case "PendingImport":
		if !k.ValidTo.IsZero() && !time.Now().Before(k.ValidTo.Time) {
			return refuse(keysource.ErrExpired, keysource.Expired, "the imported material of the key expired on %s",
				date(k.ValidTo))
		}
		return refuse(keysource.ErrDenied, keysource.Disabled, "the key waits for its material to be imported")
	}
	return refuse(keysource.ErrUnknown, "", "the key is in the state %.40q", k.State)
}

func date(t moment) string {
	if t.IsZero() {
		return "a date that AWS does not name"
	}
	return t.UTC().Format(time.DateOnly)
}

// forEncryption is the usage of a key that encrypts and decrypts.
const forEncryption = "ENCRYPT_DECRYPT"

// bits are the sizes of keys by key spec. Others cannot protect a resource.
var bits = map[string]int{"SYMMETRIC_DEFAULT": 256, "RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}

func (k key) rsa() bool { return strings.HasPrefix(k.Spec, "RSA_") }

func (k key) algorithm() string {
	if k.rsa() {
		return "RSA-OAEP-256"
	}
	return "A256GCM"
}

// unfit says why the key may not protect a resource.
func (k key) unfit(at partition) map[keysource.Fitness]string {
	why := map[keysource.Fitness]string{}
	switch {
	case bits[k.Spec] == 0:
		why[keysource.FitType] = fmt.Sprintf("has the key spec %.40q: only SYMMETRIC_DEFAULT, RSA_2048, RSA_3072 and "+
			"RSA_4096 protect resources", k.Spec)
	case at.name == "aws-cn" && !k.rsa():
		why[keysource.FitType] = "is an SM4 key of 128 bits, as all symmetric keys in the regions of China are: make " +
			"one with the key spec RSA_2048 or larger"
	case k.rsa() && k.Usage == forEncryption && !slices.Contains(k.Algorithms, oaep):
		why[keysource.FitType] = "does not offer RSAES_OAEP_SHA_256"
	}
	if k.Usage != forEncryption {
		why[keysource.FitOperations] = fmt.Sprintf("has the key usage %.40q: make one with ENCRYPT_DECRYPT", k.Usage)
	}
	switch {
	case k.Manager != "CUSTOMER":
		why[keysource.FitProtection] = "is managed by AWS, so that its policy cannot be changed: make a customer " +
			"managed key"
	case !k.ValidTo.IsZero():
		why[keysource.FitProtection] = fmt.Sprintf("has imported material that AWS deletes on %s without a waiting "+
			"period: import it again without an expiry date", date(k.ValidTo))
	}
	return why
}
