package custody

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// wrapping names what the data keys of a resource are wrapped by: "Version V of key K". Empty: by a key of the service.
func (c *Custody) wrapping(sp *space) (name string, as visage.PrincipalID) {
	key, version := sp.inUse()
	if key == nil || version == "" {
		return "", ""
	}
	return fmt.Sprintf("Version %s of key %s", version, c.cfg.Today(key.Key).Unversioned()), key.As
}

// refused is a refusal as the owner of a resource reads it: which version of which key is refused, why, and what to do;
// and in the end what the vault said.
func (c *Custody) refused(sp *space, v verdict) string {
	name, as := c.wrapping(sp)
	if name == "" || sp.now().Flow != nil { // the answer may be that of the key which a change goes to
		if name != "" {
			return fmt.Sprintf("%s Data keys are wrapped by v%s.", why(v.err), name[1:])
		}
		return why(v.err)
	}
	var sentence string
	switch reasonOf(v.err) {
	case keysource.Disabled:
		sentence = name + " is disabled, and data keys are still wrapped by it: enable it again"
		if v.newest != "" {
			sentence += fmt.Sprintf(" until the resource reports version %s in use", v.newest)
		}
	case keysource.Missing:
		sentence = name + " is not there, or the key is deleted, and data keys are wrapped by it: recover the key"
	case keysource.NotYetValid:
		sentence = name + " is not valid yet, and data keys are wrapped by it: change its first day"
	case keysource.Expired:
		sentence = name + " has expired, and its vault does not unwrap with it: change its last day"
	case keysource.Firewall:
		sentence = name + " is in a vault whose firewall does not let this service in"
	case keysource.NoIdentity:
		sentence = fmt.Sprintf(
			"%s is asked for by principal %s, which can prove nothing any more: bring the identity back", name, as,
		)
	case keysource.Permission:
		sentence = fmt.Sprintf("%s is refused to principal %s: give it the permissions get, wrapKey and unwrapKey",
			name, as)
	default:
		sentence = name + " is refused"
	}
	return fmt.Sprintf("%s. The vault's answer: %s", sentence, why(v.err))
}

// subject begins a sentence about the key of a resource with the version that its data keys are wrapped by.
func (c *Custody) subject(sp *space) string {
	if name, _ := c.wrapping(sp); name != "" {
		return name
	}
	return "The key"
}

// why is a failure as the owner of a resource may read it: what the vault said, without what was being done here.
func why(err error) string {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return e.Text + "."
	}
	switch classOf(err) {
	case classDenied:
		return keysource.ErrDenied.Error() + "."
	case classWrong:
		return keysource.ErrWrong.Error() + "."
	}
	return keysource.ErrUnknown.Error() + "."
}
