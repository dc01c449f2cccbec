package custody

import (
	"errors"
	"fmt"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// wrappingKey names the key of a store that wraps a resource's data key: "Version V of key K", or "Key K" in a store
// whose keys have no versions. Empty: the service's key.
func (c *Custody) wrappingKey(sp *space, store int) (name string, as visage.PrincipalID) {
	key, version := sp.keyOf(store)
	if key == nil {
		return "", ""
	}
	id := c.cfg.Today(key.Key).Unversioned()
	if version == "" {
		return "Key " + id, key.As
	}
	return fmt.Sprintf("Version %s of key %s", version, id), key.As
}

// explainRefusal explains a refusal to the owner of a resource: which version of which key is refused, why, what to do,
// and what the vault answered.
func (c *Custody) explainRefusal(sp *space, a answer) string {
	name, as := c.wrappingKey(sp, a.store)
	if name == "" || sp.noteNow().Flow != nil { // the answer may come from the new key of a change
		if name != "" {
			return fmt.Sprintf("%s Data keys are wrapped by %s%s.", explainError(a.err),
				strings.ToLower(name[:1]), name[1:])
		}
		return explainError(a.err)
	}
	var sentence string
	switch reasonOf(a.err) {
	case keysource.Disabled:
		sentence = name + " is disabled, and data keys are still wrapped by it: enable it again"
		if a.newest != "" {
			sentence += fmt.Sprintf(" until the resource reports version %s in use", a.newest)
		}
	case keysource.Missing:
		sentence = name + " does not exist or the key is deleted, and data keys are wrapped by it: recover the key"
	case keysource.NotYetValid:
		sentence = name + " is not valid yet, and data keys are wrapped by it: set an earlier activation date"
	case keysource.Expired:
		sentence = name + " has expired, and its vault does not unwrap with it: set a later expiry date"
	case keysource.Firewall:
		sentence = name + " is in a vault whose firewall does not let this service in"
	case keysource.NoIdentity:
		sentence = fmt.Sprintf(
			"%s is asked for by principal %s, whose identity no longer exists: restore the identity", name, as,
		)
		if b, _ := sp.keyOf(a.store); b != nil && b.Key.Scheme() != "https" {
			sentence = fmt.Sprintf("%s is in a key store that does not let principal %s log in: restore its role "+
				"there, or, if the identity of the resource is another now, make a role for that", name, as)
		}
	case keysource.Permission:
		sentence = fmt.Sprintf("%s is refused to principal %s: give it the permissions get, wrapKey and unwrapKey",
			name, as)
		if b, _ := sp.keyOf(a.store); b != nil && b.Key.Scheme() != "https" {
			sentence = fmt.Sprintf("%s is refused to principal %s: give it its rights in the key store again", name, as)
		}
	default:
		sentence = name + " is refused"
	}
	return fmt.Sprintf("%s. The vault's answer: %s", sentence, explainError(a.err))
}

// keySubject returns the subject of a sentence about a key of a resource: the version that wraps its data key, if
// there is one.
func (c *Custody) keySubject(sp *space, store int) string {
	if name, _ := c.wrappingKey(sp, store); name != "" {
		return name
	}
	return "The key"
}

// explainError returns a failure as the owner of a resource may read it: the vault's answer, without internals.
func explainError(err error) string {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return e.Text + "."
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok { // this instance has not asked
		return refusal.Message
	}
	switch classOf(err) {
	case classDenied:
		return keysource.ErrDenied.Error() + "."
	case classWrong:
		return keysource.ErrWrong.Error() + "."
	}
	return keysource.ErrUnknown.Error() + "."
}
