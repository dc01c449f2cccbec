package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// retryAfter is the Retry-After of refusals for want of a vault's answer: one poll.
const retryAfter = 30 * time.Second

// keyBits is the only supported size of RSA keys.
const keyBits = 2048

// checkKey refuses a key that must not wrap a resource's data key, in the order of the management contract §5.2, and
// returns the key's version. The caller has checked that the resource may use the key's vault.
func (c *Custody) checkKey(ctx context.Context, sp *space, to binding) (version string, err error) {
	e := newExamination(to)
	c.examineKey(ctx, sp, e)
	return e.version, e.failed
}

// checkDescription refuses a key of an unsupported type, without the required protection, or not usable now.
func checkDescription(key visage.KeyRef, d keysource.Description) error {
	for _, of := range properties {
		if err := checkProperty(of, key, d); err != nil {
			return err
		}
	}
	return nil
}

// checkProperty refuses a key whose properties do not meet one requirement.
func checkProperty(of Requirement, key visage.KeyRef, d keysource.Description) error {
	refuse := func(code, format string, args ...any) error {
		return visage.Refuse(visage.Invalid, code, "The key %s %s.", key, fmt.Sprintf(format, args...))
	}
	now := time.Now()
	switch elsewhere := key.Scheme() != "https"; { // then the store decides of what differs between stores
	case elsewhere && of == PurgeProtection && d.Unfit[keysource.FitProtection] != "":
		return refuse("KeyVaultPurgeProtectionRequired", "%s", d.Unfit[keysource.FitProtection])
	case elsewhere && of == KeyType && d.Unfit[keysource.FitType] != "":
		return refuse("KeyVaultKeyTypeNotSupported", "%s", d.Unfit[keysource.FitType])
	case elsewhere && of == KeyType && d.Weak != "":
		return refuse("KeyVaultKeyTypeNotSupported", "is weak, %s: create a new one in the key store", d.Weak)
	case elsewhere && of == KeyOperations && d.Unfit[keysource.FitOperations] != "":
		return refuse("KeyVaultAccessDenied", "%s", d.Unfit[keysource.FitOperations])
	case elsewhere && slices.Contains([]Requirement{SoftDelete, PurgeProtection, KeyType, KeyOperations}, of):
		return nil
	case of == SoftDelete && (d.Recovery == "" || d.Recovery == "Purgeable"):
		return refuse("KeyVaultSoftDeleteRequired", "is in a vault without soft delete: switch it on")
	case of == PurgeProtection && strings.Contains(d.Recovery, "Purgeable"):
		return refuse("KeyVaultPurgeProtectionRequired", "is in a vault without purge protection: switch it on")
	case of == KeyType && d.KeyType != "RSA" && d.KeyType != "RSA-HSM":
		return refuse("KeyVaultKeyTypeNotSupported", "is of type %.20q: only RSA and RSA-HSM wrap", d.KeyType)
	case of == KeyType && d.Bits != keyBits:
		return refuse("KeyVaultKeyTypeNotSupported", "has %d bits: only %d are supported", d.Bits, keyBits)
	case of == KeyType && d.Weak != "":
		return refuse("KeyVaultKeyTypeNotSupported", "is weak, %s: create a new one in the vault", d.Weak)
	case of == KeyEnabled && !d.Enabled:
		return refuse("KeyVaultKeyDisabled", "is disabled: enable it in the vault")
	case of == KeyValid && !d.Expires.IsZero() && !now.Before(d.Expires):
		return refuse("KeyVaultKeyExpired", "has expired on %s", d.Expires.UTC().Format(time.DateOnly))
	case of == KeyValid && !d.NotBefore.IsZero() && now.Before(d.NotBefore):
		return refuse("KeyVaultKeyNotYetValid", "is not valid before %s", d.NotBefore.UTC().Format(time.DateOnly))
	case of != KeyOperations:
		return nil
	case d.KeyType != "RSA" && d.KeyType != "RSA-HSM":
		return refuse("KeyVaultKeyTypeNotSupported", "is of type %.20q, which has no wrapKey and unwrapKey", d.KeyType)
	}
	for _, op := range []string{"wrapKey", "unwrapKey"} {
		if !slices.Contains(d.Operations, op) {
			return refuse("KeyVaultAccessDenied", "does not allow the operation %s: add it to its key_ops", op)
		}
	}
	return nil
}

// vaultRefusal returns the contract's refusal for the answer of a vault to verb. Refusals, and errors without a class,
// are returned unchanged.
func vaultRefusal(b binding, verb string, err error) error {
	var reason keysource.Reason
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		reason = e.Reason
	}
	invalid := func(code, format string, args ...any) error {
		return visage.Refuse(visage.Invalid, code, format, args...)
	}
	switch {
	case errors.As(err, new(*visage.Refusal)):
		return err
	case errors.Is(err, keysource.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		r := visage.Refuse(visage.Unavailable, "KeyVaultUnavailable",
			"The vault of key %s gave no usable answer: try again.", b.Key)
		r.RetryAfter = retryAfter
		return r
	case errors.Is(err, keysource.ErrWrong):
		return invalid("KeyVaultKeyNotFound", "The vault answered for another key than %s.", b.Key)
	case errors.Is(err, keysource.ErrExpired):
		return invalid("KeyVaultKeyExpired", "The key %s has expired.", b.Key)
	case !errors.Is(err, keysource.ErrDenied):
		return err
	}
	switch reason {
	case keysource.Missing:
		return invalid("KeyVaultKeyNotFound", "There is no key %s, or it is deleted.", b.Key)
	case keysource.Disabled:
		return invalid("KeyVaultKeyDisabled", "The key %s is disabled: enable it in the vault.", b.Key)
	case keysource.NotYetValid:
		return invalid("KeyVaultKeyNotYetValid", "The key %s is not valid yet.", b.Key)
	case keysource.Expired:
		return invalid("KeyVaultKeyExpired", "The key %s has expired.", b.Key)
	case keysource.Firewall:
		return invalid("KeyVaultFirewall", "The firewall of the vault of key %s does not let this service in.", b.Key)
	}
	if b.Key.Scheme() != "https" {
		return invalid("KeyVaultAccessDenied",
			"The key store refuses %s with key %s to principal %s: give it the rights that "+
				"docs/operations/key-stores.md lists.", verb, b.Key, b.As)
	}
	if b.As == "" {
		return invalid("KeyVaultAccessDenied",
			"The vault refuses %s with key %s to the identity that the resource will have: give it the permissions "+
				"get, wrapKey and unwrapKey.", verb, b.Key)
	}
	return invalid("KeyVaultAccessDenied",
		"The vault refuses %s with key %s to principal %s: give it the permissions get, wrapKey and unwrapKey.",
		verb, b.Key, b.As)
}
