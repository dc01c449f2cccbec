package armwire

import "encoding/json"

// KeyStoreList answers with all key stores beside key vaults.
type KeyStoreList struct {
	Value []KeyStore `json:"value"`
	// AzureApplication is missing if resources use only vaults of Azure that are among the key stores.
	AzureApplication *AzureApplication `json:"azureApplication,omitempty"`
}

// AzureApplication is the application of the settings, as which resources use the vaults of Azure that are not among
// the key stores.
type AzureApplication struct {
	Tenant   string `json:"tenant"` // id or domain
	ClientID string `json:"clientId"`
	// Resources that may use it, as KeyStoreChange has them; none: those that have a key in Azure already.
	Resources []string `json:"resources"`
}

// KeyStore is a store of customers' keys that resources may use.
type KeyStore struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"` // the scheme of its address
	Address string `json:"address"`
	Origin  string `json:"origin"`            // settings or operator
	Added   string `json:"addedAt,omitempty"` // by an operator
	// Fault says why the store cannot be used at present.
	Fault string `json:"fault,omitempty"`
	// Warning says that the description does not name the resources that may use the store, though it must.
	Warning string `json:"warning,omitempty"`
	// Description is as the file of key stores has it. It names files of secrets and holds none.
	Description json.RawMessage `json:"description"`
	// LastAnswer is missing if the store was not asked since the start of the service.
	LastAnswer *KeyStoreAnswer `json:"lastAnswer,omitempty"`
	// Resources that have a key in it, deleted ones too, and how many others the caller may not see.
	Resources      []string `json:"resources"`
	OtherResources int      `json:"otherResources"`
}

// KeyStoreAnswer is how a store has answered.
type KeyStoreAnswer struct {
	Class        string  `json:"class"` // ok, denied, wrong, unknown or expired
	At           string  `json:"at"`
	Milliseconds float64 `json:"milliseconds"`
}

// KeyStoreBody is the description of a key store, as the file of key stores has it.
type KeyStoreBody struct {
	Address   string            `json:"address"`
	CAFile    string            `json:"caFile,omitempty"`
	Login     map[string]string `json:"login"`
	Resources []string          `json:"resources,omitempty"`
}

// KeyStoreChange changes the description of a key store: all fields but its address and its helper. What is missing
// stays as it is, and an empty text takes a field away.
type KeyStoreChange struct {
	Endpoint      *string           `json:"endpoint,omitempty"`
	LoginEndpoint *string           `json:"loginEndpoint,omitempty"`
	CAFile        *string           `json:"caFile,omitempty"`
	Login         map[string]string `json:"login,omitempty"`
	// Resources that may use the store: management paths of subscriptions, resource groups or resources, or "*" alone.
	Resources []string `json:"resources,omitzero"`
}

// KeyStoreTest says how a key store is to be tried: without a key, only the connection is.
type KeyStoreTest struct {
	Resource string `json:"resource,omitempty"` // as whose identity
	Key      string `json:"key,omitempty"`      // the name of the key that is described
}

// KeyStoreTrial is the result of a test of a key store.
type KeyStoreTrial struct {
	Passed       bool           `json:"passed"`
	Steps        []KeyStoreStep `json:"steps"`
	Key          *KeyStoreKey   `json:"key,omitempty"`
	Milliseconds float64        `json:"milliseconds,omitempty"` // until the key was described
}

// KeyStoreStep is one step of a test.
type KeyStoreStep struct {
	Step    string `json:"step"`  // reachable, certificate, login or key
	State   string `json:"state"` // yes, no or unknown
	Message string `json:"message,omitempty"`
}

// KeyStoreKey is a key as its store describes it.
type KeyStoreKey struct {
	Version   string   `json:"version,omitempty"`
	Type      string   `json:"type,omitempty"`
	Algorithm string   `json:"algorithm,omitempty"`
	Bits      int      `json:"bits,omitempty"`
	Enabled   bool     `json:"enabled"`
	Expires   string   `json:"expires,omitempty"`
	Unfit     []string `json:"unfit"` // why it may not protect a resource, each a sentence
}
