package account

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// Keys are the two keys of an account, 32 lower-case hexadecimal digits each. They are secrets.
type Keys struct {
	Key1, Key2 string
}

// KeyName names one of the two keys of an account.
type KeyName string

// The names of the keys, as the management plane spells them.
const (
	Key1 KeyName = "Key1"
	Key2 KeyName = "Key2"
)

// ParseKeyName parses the name of a key, ignoring case.
func ParseKeyName(s string) (KeyName, error) {
	for _, n := range []KeyName{Key1, Key2} {
		if strings.EqualFold(s, string(n)) {
			return n, nil
		}
	}
	return "", visage.Refuse(visage.Invalid, "InvalidRequestContent", "The key %q is not one of Key1, Key2.", s)
}

// Keys returns the keys of an account for the instance itself, without an audit entry. Refusal: ResourceNotFound.
func (a *Accounts) Keys(ctx context.Context, name string) (Keys, error) {
	rec, err := a.stored(ctx, name)
	return rec.Keys, err
}

// ListKeys is Keys for a client: it is recorded. Refusal: ResourceNotFound.
func (a *Accounts) ListKeys(ctx context.Context, by visage.Caller, name string) (Keys, error) {
	keys, err := a.Keys(ctx, name)
	if err := a.record(ctx, a.eventAt(audit.ResourceListKeys, by, name), err); err != nil {
		return Keys{}, err // no key leaves without an entry
	}
	return keys, nil
}

// Regenerate replaces one key of an account and returns both. The old key stops working at once; the other key keeps
// working. Refusal: ResourceNotFound.
func (a *Accounts) Regenerate(ctx context.Context, by visage.Caller, name string, key KeyName) (Keys, error) {
	keys, err := a.regenerate(ctx, by, name, key)
	e := a.eventAt(audit.ResourceRegenerateKey, by, name)
	e.Set(audit.DetailKeyName, string(key))
	if err := a.record(ctx, e, err); err != nil {
		return Keys{}, err // likewise
	}
	return keys, nil
}

func (a *Accounts) regenerate(ctx context.Context, by visage.Caller, name string, key KeyName) (Keys, error) {
	rec, err := a.change(ctx, by, name, func(rec record) (record, error) {
		switch key {
		case Key1:
			rec.Keys.Key1 = newKey()
		case Key2:
			rec.Keys.Key2 = newKey()
		default:
			return record{}, fmt.Errorf("regenerate key %q of an account: no such key", key)
		}
		return rec, nil
	})
	return rec.Keys, err
}

// newKey returns a key in the contract's older form: 128 random bits as 32 hexadecimal digits.
func newKey() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the process instead
	return hex.EncodeToString(b[:])
}
