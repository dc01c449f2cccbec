package registry

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
)

// Trial is what a trial asks.
type Trial struct {
	Resource string // as whose identity; empty where one application logs in for all resources
	Key      string // the name of the key that is described; empty: none
}

// Try connects to a store and, if the trial names a key, describes that as the identity of a resource. Nothing changes,
// though the store may log it. Refusals: KeyStoreNotFound, KeyStoreNotUsable, TrialIncomplete,
// InvalidKeyVaultProperties and those of Config.Identity.
func (r *Registry) Try(ctx context.Context, by visage.Caller, id string, trial Trial) (stores.Trial, error) {
	e, err := r.Find(id)
	var t stores.Trial
	if err == nil {
		t, err = r.try(ctx, e, trial)
	}
	return t, r.recorded(ctx, by, "key-store-test", e.Store.Address, err)
}

func (r *Registry) try(ctx context.Context, e Entry, trial Trial) (stores.Trial, error) {
	if e.Fault != "" {
		return stores.Trial{}, visage.Refuse(visage.Conflict, "KeyStoreNotUsable", "The key store %s cannot be used: "+
			"%s. Mend that: the service tries the store again within a minute.", e.Store.Address, e.Fault)
	}
	key := visage.KeyRef{Vault: e.Store.Address}
	var as visage.PrincipalID
	if trial.Key != "" {
		var err error
		if key, err = stores.ParseKey(e.Store.Address, trial.Key, ""); err != nil {
			return stores.Trial{}, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The name of the key "+
				"is not valid: %v.", err)
		}
		switch {
		case trial.Resource != "":
			if as, err = r.cfg.Identity(ctx, trial.Resource); err != nil {
				return stores.Trial{}, err
			}
		case e.Store.Federates():
			return stores.Trial{}, visage.Refuse(visage.Invalid, "TrialIncomplete", "Resources log in to the key "+
				"store %s as their own identities: name the resource whose identity is to be tried.", e.Store.Address)
		}
	}
	t, err := r.tries.Try(ctx, key, as)
	if err == nil && trial.Key != "" && ctx.Err() == nil {
		said := t.Err
		if said == nil && t.Key == nil {
			said = keysource.ErrUnknown // there was no connection
		}
		r.cfg.Calls.note(e.Store.Address, t.Asked, said)
	}
	return t, err
}
