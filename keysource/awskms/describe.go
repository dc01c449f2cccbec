package awskms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/visage-face/visage/keysource"
)

// key is what AWS says of a key.
type key struct{ *types.KeyMetadata }

// read reads the key. classified turns its error into one of a key source.
func (s *Source) read(ctx context.Context) (key, error) {
	answered, err := ask(ctx, s, (*kms.Client).DescribeKey, &kms.DescribeKeyInput{KeyId: &s.arn})
	if err != nil {
		return key{}, err
	}
	k := key{answered.KeyMetadata}
	if k.KeyMetadata == nil || aws.ToString(k.Arn) == "" || k.KeyState == "" || k.KeySpec == "" || k.KeyUsage == "" {
		return key{}, errors.New("the answer describes no key")
	}
	if *k.Arn != s.arn {
		return key{}, anotherKey(*k.Arn)
	}
	return k, nil
}

// usable returns nil if the state of the key lets it wrap and unwrap, and else what the state means.
func (k key) usable() error {
	refuse := func(class error, reason keysource.Reason, format string, args ...any) error {
		return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf(format, args...)}
	}
	switch k.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateDisabled:
		return refuse(keysource.ErrDenied, keysource.Disabled, "the key is disabled")
	case types.KeyStatePendingDeletion:
		return refuse(keysource.ErrDenied, keysource.Missing, "the key will be deleted on %s, unless its deletion is "+
			"cancelled", date(k.DeletionDate))
	case types.KeyStatePendingReplicaDeletion:
		return refuse(keysource.ErrDenied, keysource.Missing, "the key will be deleted when its replicas in other "+
			"regions are, unless its deletion is cancelled")
	case types.KeyStatePendingImport:
		if k.ValidTo != nil && !time.Now().Before(*k.ValidTo) {
			return refuse(keysource.ErrExpired, keysource.Expired, "the imported material of the key expired on %s",
				date(k.ValidTo))
		}
		return refuse(keysource.ErrDenied, keysource.Disabled, "the key waits for its material to be imported")
	}
	return refuse(keysource.ErrUnknown, "", "the key is in the state %.40q", k.KeyState)
}

func date(t *time.Time) string {
	if t == nil {
		return "a date that AWS does not name"
	}
	return t.UTC().Format(time.DateOnly)
}

// bits are the sizes of keys by key spec. Others cannot protect a resource.
var bits = map[types.KeySpec]int{
	types.KeySpecSymmetricDefault: 256, types.KeySpecRsa2048: 2048, types.KeySpecRsa3072: 3072,
	types.KeySpecRsa4096: 4096,
}

func (k key) rsa() bool { return strings.HasPrefix(string(k.KeySpec), "RSA_") }

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
	case bits[k.KeySpec] == 0:
		why[keysource.FitType] = fmt.Sprintf("has the key spec %.40q: only SYMMETRIC_DEFAULT, RSA_2048, RSA_3072 and "+
			"RSA_4096 protect resources", k.KeySpec)
	case at.name == "aws-cn" && !k.rsa():
		why[keysource.FitType] = "is an SM4 key of 128 bits, as all symmetric keys in the regions of China are: make " +
			"one with the key spec RSA_2048 or larger"
	case k.rsa() && k.KeyUsage == types.KeyUsageTypeEncryptDecrypt && !slices.Contains(k.EncryptionAlgorithms, oaep):
		why[keysource.FitType] = "does not offer RSAES_OAEP_SHA_256"
	}
	if k.KeyUsage != types.KeyUsageTypeEncryptDecrypt {
		why[keysource.FitOperations] = fmt.Sprintf("has the key usage %.40q: make one with ENCRYPT_DECRYPT", k.KeyUsage)
	}
	switch {
	case k.KeyManager != types.KeyManagerTypeCustomer:
		why[keysource.FitProtection] = "is managed by AWS, so that its policy cannot be changed: make a customer " +
			"managed key"
	case k.ValidTo != nil:
		why[keysource.FitProtection] = fmt.Sprintf("has imported material that AWS deletes on %s without a waiting "+
			"period: import it again without an expiry date", date(k.ValidTo))
	}
	return why
}
