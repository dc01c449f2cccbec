package armapi

import (
	"context"
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// KeyStores manages the stores of customers' keys beside key vaults.
type KeyStores interface {
	List(ctx context.Context, by visage.Caller) (armwire.KeyStoreList, error)
	// Store returns the store with an id. Refusal: KeyStoreNotFound.
	Store(ctx context.Context, by visage.Caller, id string) (armwire.KeyStore, error)
	// AddStore adds the store of a description in JSON. Refusals: InvalidKeyStore, KeyStoreExists.
	AddStore(ctx context.Context, by visage.Caller, description []byte) (armwire.KeyStore, error)
	// ChangeStore changes the description of a store. Refusals: KeyStoreNotFound, KeyStoreFromSettings,
	// InvalidKeyStore, KeyStoreInUse, RequestConflict.
	ChangeStore(ctx context.Context, by visage.Caller, id string, change armwire.KeyStoreChange) (armwire.KeyStore,
		error)
	// RemoveStore removes a store that no resource uses. Refusals: KeyStoreNotFound, KeyStoreFromSettings,
	// KeyStoreInUse.
	RemoveStore(ctx context.Context, by visage.Caller, id string) error
	// TestStore connects to a store and describes a key. Refusals: KeyStoreNotFound, KeyStoreNotUsable,
	// TrialIncomplete, ResourceNotFound, IdentityRequired, InvalidKeyVaultProperties.
	TestStore(ctx context.Context, by visage.Caller, id string, want armwire.KeyStoreTest) (armwire.KeyStoreTrial,
		error)
}

// keyStoreRoutes are extensions. They are for operators only: a store is reached from within the instance's network.
func (p *plane) keyStoreRoutes(route routeMaker) []api.Route {
	const (
		all   = operations + "/keyStores"
		store = all + "/{store}"
	)
	return []api.Route{
		route(http.MethodGet, all, p.forOperator(p.listKeyStores),
			api.Doc{Summary: "List the stores of customers' keys beside key vaults", Answer: armwire.KeyStoreList{}}),
		route(http.MethodPost, all, p.forOperator(p.addKeyStore),
			api.Doc{Summary: "Add a key store, which resources may use at once", Status: http.StatusCreated,
				Body: armwire.KeyStoreBody{}, Answer: armwire.KeyStore{}}),
		route(http.MethodGet, store, p.forOperator(p.getKeyStore),
			api.Doc{Summary: "Get a key store", Answer: armwire.KeyStore{}}),
		route(http.MethodPatch, store, p.forOperator(p.changeKeyStore),
			api.Doc{Summary: "Change the description of a key store, also while resources use it",
				Body: armwire.KeyStoreChange{}, Answer: armwire.KeyStore{}}),
		route(http.MethodDelete, store, p.forOperator(p.removeKeyStore),
			api.Doc{Summary: "Remove a key store that no resource uses", Status: http.StatusNoContent}),
		route(http.MethodPost, store+"/test", p.forOperator(p.testKeyStore),
			api.Doc{Summary: "Connect to a key store and describe a key; nothing changes",
				Body: armwire.KeyStoreTest{}, Answer: armwire.KeyStoreTrial{}}),
	}
}

func (p *plane) listKeyStores(r *api.Request) (any, error) {
	return p.KeyStores.List(r.Context(), r.Caller())
}

func (p *plane) getKeyStore(r *api.Request) (any, error) {
	return p.KeyStores.Store(r.Context(), r.Caller(), r.Path("store"))
}

func (p *plane) addKeyStore(r *api.Request) (any, error) {
	body, err := r.ReadText()
	if err != nil {
		return nil, err
	}
	made, err := p.KeyStores.AddStore(r.Context(), r.Caller(), body)
	if err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusCreated, Body: made}, nil
}

func (p *plane) changeKeyStore(r *api.Request) (any, error) {
	var change armwire.KeyStoreChange
	if err := read(r, &change); err != nil {
		return nil, err
	}
	return p.KeyStores.ChangeStore(r.Context(), r.Caller(), r.Path("store"), change)
}

func (p *plane) removeKeyStore(r *api.Request) (any, error) {
	if err := p.KeyStores.RemoveStore(r.Context(), r.Caller(), r.Path("store")); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}

func (p *plane) testKeyStore(r *api.Request) (any, error) {
	var want armwire.KeyStoreTest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return p.KeyStores.TestStore(r.Context(), r.Caller(), r.Path("store"), want)
}
