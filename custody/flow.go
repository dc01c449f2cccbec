package custody

import (
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// binding is a key and the principal that uses it.
type binding struct {
	Key visage.KeyRef      `json:"key"` // with a version: pinned; without: newer versions are followed
	As  visage.PrincipalID `json:"as,omitempty"`
}

// valid refuses a binding without a principal or with a malformed key.
func (b binding) valid() error {
	if b.As == "" {
		return visage.Refuse(visage.Invalid, "IdentityRequired",
			"The resource has no identity to ask the vault with: switch its system-assigned identity on.")
	}
	if err := b.Key.Check(); err != nil {
		return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The key cannot be used: %v.", err)
	}
	return nil
}

// at returns the key in one version.
func (b binding) at(version string) visage.KeyRef {
	k := b.Key
	k.Version = version
	return k
}

// storeKey is the key of one store, with the version that wraps the data key.
type storeKey struct {
	binding
	Version string `json:"version"`
}

// uri returns the unversioned identifier of the key, which names its slot.
func (k storeKey) uri() string { return k.Key.Unversioned() }

// ref returns the key in the version that wraps.
func (k storeKey) ref() visage.KeyRef { return k.at(k.Version) }

// flow is a change under way, as it is stored with the keys. A step is stored before it is taken, and can be taken
// again.
type flow struct {
	ID         string        `json:"id"`
	Kind       OperationKind `json:"kind"`
	Step       string        `json:"step"`
	To         *binding      `json:"to,omitempty"`         // the key that it is about; nil: the service's
	Version    string        `json:"version,omitempty"`    // of To: the one that wraps
	After      []storeKey    `json:"after,omitempty"`      // all keys that protect the data after it, the first one first
	Store      int           `json:"store,omitempty"`      // update, follow: whose version changes, 0 the first
	Opens      int           `json:"opens,omitempty"`      // whose key opens the data key, 0 the first
	Generation uint32        `json:"generation,omitempty"` // of the new data key; zero until it is wrapped
	Started    time.Time     `json:"started"`
}

func (f flow) operation() Operation {
	return Operation{ID: f.ID, Kind: f.Kind, Progress: Running, Step: f.Step, Started: f.Started}
}

// committed reports whether a flow can no longer be undone.
func (f flow) committed() bool {
	p := f.plan()
	return p.index(f.Step) >= p.index(p.commit)
}

// kind returns the kind under which the change is audited.
func (f flow) kind() audit.Kind {
	switch f.Kind {
	case Enabling:
		return audit.CustodyEnable
	case Disabling:
		return audit.CustodyDisable
	case Following, Updating:
		return audit.CustodyFollow
	case Adding, Removing, Promoting:
		return audit.CustodyStore
	}
	return audit.CustodySwitch
}

// details returns further facts of the audit entries of the change.
func (f flow) details() map[audit.Detail]string {
	if f.kind() != audit.CustodyStore {
		return map[audit.Detail]string{}
	}
	return map[audit.Detail]string{audit.DetailOperation: string(f.Kind)}
}

// verb returns the operation of the key that the change needs before its point of no return.
func (f flow) verb() string {
	if f.To == nil {
		return "unwrapKey"
	}
	return "wrapKey"
}
