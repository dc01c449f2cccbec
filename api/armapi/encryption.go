package armapi

import (
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// The key sources of the contract.
const (
	keySourceService  = "Microsoft.CognitiveServices"
	keySourceCustomer = "Microsoft.KeyVault"
)

// stampOf formats a time; the zero time gives an empty text, which JSON omits.
func stampOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

func encryptionOf(e account.Encryption) *armwire.Encryption {
	if !e.Said {
		return nil
	}
	s := e.Status
	w := &armwire.Encryption{KeySource: keySourceService, Status: &armwire.EncryptionStatus{
		State: string(s.Condition), Since: stampOf(s.Since), Code: s.Code, Reason: s.Reason, Version: s.Version,
		PrincipalID: string(s.As), LastSuccess: stampOf(s.LastSuccess), NextCheck: stampOf(s.NextCheck),
		Expires: stampOf(s.KeyExpires),
	}}
	if e.Key == (visage.KeyRef{}) && e.VaultURI != "" { // the state of its key cannot be read
		w.KeySource, w.Key = keySourceCustomer, &armwire.KeyVaultProperties{VaultURI: e.VaultURI}
	}
	if e.Key != (visage.KeyRef{}) {
		w.KeySource = keySourceCustomer
		w.Key = &armwire.KeyVaultProperties{KeyName: e.Key.Name, KeyVersion: e.Key.Version, VaultURI: e.VaultURI}
		inUse := e.Key
		inUse.Version = s.Version
		w.Status.Key = inUse.String()
		w.Status.Policy = &armwire.KeyPolicy{
			GraceSeconds: int64(s.Policy.Grace / time.Second), LockOnExpiry: s.Policy.LockOnExpiry,
			ManualRestore: s.Policy.ManualRestore,
		}
	}
	if len(s.Stores) > 1 {
		w.Status.Stores, w.Status.Notice = storesOf(e), storesNotice
	}
	if o := s.Operation; o.ID != "" {
		w.Status.Operation = &armwire.EncryptionOperation{
			ID: o.ID, Kind: string(o.Kind), Progress: string(o.Progress), Step: o.Step, Code: o.Code, Reason: o.Reason,
			Started: stampOf(o.Started), Ended: stampOf(o.Ended),
		}
	}
	return w
}

// storesNotice tells callers who rely on one store what another one means.
const storesNotice = "The key of another store keeps the data open while the first one gives no answer. To revoke " +
	"access while a store is unreachable, revoke the keys of all stores."

func storesOf(e account.Encryption) (all []armwire.StoreKey) {
	for i, store := range e.Status.Stores {
		inUse := store.Key
		inUse.Version = store.Version
		all = append(all, armwire.StoreKey{
			Key: inUse.String(), KeyVersion: store.Key.Version, Answer: store.Answer, Cause: store.Cause,
			Serving: e.Status.Serves(i), LastSuccess: stampOf(store.LastSuccess),
			NextCheck: stampOf(store.NextCheck), Expires: stampOf(store.KeyExpires),
		})
	}
	return all
}

// protectionOf reads the encryption settings. In the contract the default of keySource is the customer's key.
func protectionOf(q *armwire.EncryptionRequest) (*account.Protection, error) {
	if q == nil {
		return nil, nil
	}
	p := &account.Protection{Register: q.Register}
	switch {
	case q.KeySource == "" || strings.EqualFold(q.KeySource, keySourceCustomer):
		p.Customer = true
	case !strings.EqualFold(q.KeySource, keySourceService):
		return nil, visage.Refuse(visage.Invalid, "InvalidRequestContent", "The keySource %q is not one of %s, %s.",
			q.KeySource,
			keySourceCustomer, keySourceService)
	}
	if k := q.Key; k != nil {
		p.VaultURI, p.KeyName, p.KeyVersion, p.ClientID = k.VaultURI, k.KeyName, k.KeyVersion, k.ClientID
	}
	return p, nil
}

const oneOperation = provider + "/locations/{location}/operationResults/{operation}"

func (p *plane) encryptionRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodPost, one+"/encryption:lock", p.lock,
			api.Doc{Summary: "Close the data of an account under a customer's key at once", Answer: armwire.Account{}}),
		route(http.MethodPost, one+"/encryption:unlock", p.unlock,
			api.Doc{Summary: "Ask the customer's key again, and open the data when it says yes",
				Answer: armwire.Account{}}),
		route(http.MethodPut, one+"/encryption:policy", p.setPolicy,
			api.Doc{Summary: "Say what happens when the customer's key does not simply say yes",
				Body:   armwire.KeyPolicy{},
				Answer: armwire.Account{}}),
		route(http.MethodPost, one+"/encryption:addStore", p.addStore,
			api.Doc{Summary: "Have a key in a further store protect the data too", Body: armwire.StoreKeyRequest{},
				Answer: armwire.Account{}}),
		route(http.MethodPost, one+"/encryption:removeStore", p.removeStore,
			api.Doc{Summary: "Have the key of one store protect the data no more", Body: armwire.StoreKeyRequest{},
				Answer: armwire.Account{}}),
		route(http.MethodPost, one+"/encryption:promoteStore", p.promoteStore,
			api.Doc{Summary: "Have the key that keeps the data open take the place of a first key that is lost",
				Answer: armwire.Account{}}),
		route(http.MethodGet, oneOperation, p.operation,
			api.Doc{Summary: "Ask how far a change has come", Answer: operationStatus{}}),
	}
}

func (p *plane) lock(r *api.Request) (any, error) {
	if err := p.Accounts.Lock(r.Context(), r.Caller(), r.Path("account")); err != nil {
		return nil, err
	}
	return p.get(r)
}

func (p *plane) unlock(r *api.Request) (any, error) {
	if err := p.Accounts.Unlock(r.Context(), r.Caller(), r.Path("account")); err != nil {
		return nil, err
	}
	return p.get(r)
}

// storeOf reads the key of a store.
func storeOf(r *api.Request) (account.Protection, error) {
	var want armwire.StoreKeyRequest
	if err := read(r, &want); err != nil {
		return account.Protection{}, err
	}
	found := account.Protection{Customer: true, Register: want.Register}
	if k := want.Key; k != nil {
		found.VaultURI, found.KeyName, found.KeyVersion = k.VaultURI, k.KeyName, k.KeyVersion
	}
	return found, nil
}

func (p *plane) addStore(r *api.Request) (any, error) {
	want, err := storeOf(r)
	if err != nil {
		return nil, err
	}
	if err := p.Accounts.AddStore(r.Context(), r.Caller(), r.Path("account"), want); err != nil {
		return nil, err
	}
	return p.get(r)
}

func (p *plane) removeStore(r *api.Request) (any, error) {
	want, err := storeOf(r)
	if err != nil {
		return nil, err
	}
	if err := p.Accounts.RemoveStore(r.Context(), r.Caller(), r.Path("account"), want); err != nil {
		return nil, err
	}
	return p.get(r)
}

func (p *plane) promoteStore(r *api.Request) (any, error) {
	if err := p.Accounts.PromoteStore(r.Context(), r.Caller(), r.Path("account")); err != nil {
		return nil, err
	}
	return p.get(r)
}

func (p *plane) setPolicy(r *api.Request) (any, error) {
	var want armwire.KeyPolicy
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if most := int64(math.MaxInt64 / time.Second); want.GraceSeconds < 0 || want.GraceSeconds > most {
		return nil, visage.Refuse(visage.Invalid, "InvalidEncryptionPolicy",
			"graceSeconds must be 0 (the server's default) or 60 to 86400; got %d.", want.GraceSeconds)
	}
	err := p.Accounts.SetPolicy(r.Context(), r.Caller(), r.Path("account"), account.Policy{
		Grace: time.Duration(want.GraceSeconds) * time.Second, LockOnExpiry: want.LockOnExpiry,
		ManualRestore: want.ManualRestore,
	})
	if err != nil {
		return nil, err
	}
	return p.get(r)
}

// operationStatus is the status document that clients poll (contract §4).
type operationStatus struct {
	ID     string               `json:"id"`
	Name   string               `json:"name"`
	Status string               `json:"status"`
	Start  string               `json:"startTime,omitempty"`
	End    string               `json:"endTime,omitempty"`
	Error  *armwire.ErrorDetail `json:"error,omitempty"`
}

// pollEvery is the Retry-After of a running operation. Most operations take milliseconds; one with a million faces
// takes about a second.
const pollEvery = "1"

// follow adds the headers with the address of an operation's status. The operation's name contains the account's id, by
// which it is found.
func (p *plane) follow(r *api.Request, h http.Header, a account.Account, o *armwire.EncryptionOperation) {
	version, _, _ := r.Query("api-version") // scope has read it
	h.Set("Azure-AsyncOperation", p.Endpoint("")+"subscriptions/"+p.Subscription+
		"/providers/Microsoft.CognitiveServices/locations/"+
		visage.FoldLocation(a.Location)+"/operationResults/"+a.ID.String()+"."+o.ID+"?api-version="+version)
	h.Set("Retry-After", pollEvery)
}

func (p *plane) operation(r *api.Request) (any, error) {
	name := r.Path("operation")
	unknown := visage.Refuse(visage.NotFound, "OperationNotFound",
		"The operation %q does not exist, or a later operation replaced it.", name)
	of, id, _ := strings.Cut(name, ".")
	resource, err := visage.ParseResourceID(visage.FoldUUID(of))
	a, found := p.Accounts.LookupID(resource)
	if err != nil || !found {
		if err := p.allow(r, actionOf(r.Route().Method, r.Route().Pattern), pathOf(r)); err != nil {
			return nil, err
		}
		return nil, unknown
	}
	// The status is part of the account: a caller that may read the account may read it.
	if err := p.allow(r, accountType+"/read", p.accountID(a)); err != nil {
		return nil, err
	}
	e, err := p.Accounts.Encryption(r.Context(), a)
	if err != nil {
		return nil, err
	}
	o := e.Status.Operation
	if o.ID != id {
		return nil, unknown
	}
	answer := operationStatus{
		ID: "/subscriptions/" + p.Subscription + "/providers/Microsoft.CognitiveServices/locations/" +
			visage.FoldLocation(a.Location) +
			"/operationResults/" + name,
		Name: name, Status: stateSucceeded, Start: stampOf(o.Started), End: stampOf(o.Ended),
	}
	switch {
	case e.Pending():
		answer.Status = "InProgress"
		return api.Reply{Status: http.StatusOK, Header: http.Header{"Retry-After": {pollEvery}}, Body: answer}, nil
	case e.Failed():
		answer.Status, answer.Error = "Failed", &armwire.ErrorDetail{Code: o.Code, Message: o.Reason}
	}
	return answer, nil
}

// targets are the properties that refusals name as their target, by code.
var targets = map[string]string{
	"CustomerManagedKeyNotSupportedForSku":     "sku.name",
	"CustomerManagedKeyNotApproved":            "sku.name",
	"IdentityRequired":                         "identity",
	"UserAssignedIdentityNotSupported":         "properties.encryption.keyVaultProperties.identityClientId",
	"CustomerManagedKeyNotSupportedAtCreation": "properties.encryption",
	"InvalidKeyVaultProperties":                "properties.encryption.keyVaultProperties",
	"KeyVaultNotFound":                         "properties.encryption.keyVaultProperties.keyVaultUri",
	"KeyVaultSoftDeleteRequired":               "properties.encryption.keyVaultProperties.keyVaultUri",
	"KeyVaultPurgeProtectionRequired":          "properties.encryption.keyVaultProperties.keyVaultUri",
	"KeyVaultRegionMismatch":                   "properties.encryption.keyVaultProperties.keyVaultUri",
	"KeyVaultTenantMismatch":                   "properties.encryption.keyVaultProperties.keyVaultUri",
	"KeyVaultFirewall":                         "properties.encryption.keyVaultProperties.keyVaultUri",
	"KeyVaultKeyNotFound":                      "properties.encryption.keyVaultProperties.keyName",
	"KeyVaultKeyTypeNotSupported":              "properties.encryption.keyVaultProperties.keyName",
	"KeyVaultKeyDisabled":                      "properties.encryption.keyVaultProperties.keyName",
	"KeyVaultKeyExpired":                       "properties.encryption.keyVaultProperties.keyName",
	"KeyVaultKeyNotYetValid":                   "properties.encryption.keyVaultProperties.keyName",
	"KeyVaultAccessDenied":                     "properties.encryption.keyVaultProperties",
	"EncryptionKeyRevoked":                     "properties.encryption",
}
