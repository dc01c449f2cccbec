// Package armwire holds the JSON documents of the management plane, for the plane and for the command line. It has only
// types.
package armwire

// Account is an account in an answer (contract §3).
type Account struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	ETag       string            `json:"etag"`
	Location   string            `json:"location"`
	Kind       string            `json:"kind"`
	SKU        SKU               `json:"sku"`
	Tags       map[string]string `json:"tags"`
	Identity   *Identity         `json:"identity,omitempty"`
	SystemData SystemData        `json:"systemData"`
	Properties AccountProperties `json:"properties"`
}

// SKU names a pricing tier.
type SKU struct {
	Name string `json:"name"`
	Tier string `json:"tier,omitempty"`
}

// Identity is the managed identity of an account, as it is answered.
type Identity struct {
	Type        string                  `json:"type"`
	PrincipalID string                  `json:"principalId,omitempty"`
	TenantID    string                  `json:"tenantId,omitempty"`
	Users       map[string]UserIdentity `json:"userAssignedIdentities,omitempty"`
}

// UserIdentity is a user-assigned managed identity of an account.
type UserIdentity struct {
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
}

// SystemData says which principal created a resource and which changed it last, and when.
type SystemData struct {
	CreatedBy          string `json:"createdBy,omitempty"`
	CreatedByType      string `json:"createdByType,omitempty"`
	CreatedAt          string `json:"createdAt"`
	LastModifiedBy     string `json:"lastModifiedBy,omitempty"`
	LastModifiedByType string `json:"lastModifiedByType,omitempty"`
	LastModifiedAt     string `json:"lastModifiedAt"`
}

// AccountProperties are the properties of an account, as they are answered.
type AccountProperties struct {
	Endpoint            string            `json:"endpoint"`
	Endpoints           map[string]string `json:"endpoints"`
	InternalID          string            `json:"internalId"`
	DateCreated         string            `json:"dateCreated"`
	IsMigrated          bool              `json:"isMigrated"`
	CustomSubDomainName string            `json:"customSubDomainName,omitempty"`
	PublicNetworkAccess string            `json:"publicNetworkAccess"`
	NetworkACLs         *NetworkACLs      `json:"networkAcls,omitempty"` // left out until set
	CORS                *CORS             `json:"cors,omitempty"`        // left out until set; not of the contract
	DisableLocalAuth    bool              `json:"disableLocalAuth"`
	PrivateEndpoints    []struct{}        `json:"privateEndpointConnections"`
	CallRateLimit       CallRateLimit     `json:"callRateLimit"`
	Capabilities        []Capability      `json:"capabilities"`
	// Encryption is left out until it has been set once.
	Encryption         *Encryption `json:"encryption,omitempty"`
	ProvisioningState  string      `json:"provisioningState"`
	DeletionDate       string      `json:"deletionDate,omitempty"`
	ScheduledPurgeDate string      `json:"scheduledPurgeDate,omitempty"`
}

// CORS lists the origins whose pages may use the data from a browser, in the form of other resource providers.
type CORS struct {
	AllowedOrigins []string `json:"allowedOrigins"`
}

// Capability names something an account can do.
type Capability struct {
	Name string `json:"name"`
}

// CallRateLimit is the rate of requests that an account may make.
type CallRateLimit struct {
	Rules []RateRule `json:"rules"`
}

// RateRule allows Count requests in RenewalPeriod.
type RateRule struct {
	Key           string        `json:"key"`
	RenewalPeriod float64       `json:"renewalPeriod"` // seconds
	Count         float64       `json:"count"`
	Patterns      []RatePattern `json:"matchPatterns"`
}

// RatePattern says which requests a rule counts.
type RatePattern struct {
	Path   string `json:"path"`
	Method string `json:"method"`
}

// AccountRequest is an account in a request. Missing properties are kept, or get their defaults.
type AccountRequest struct {
	Kind       string                   `json:"kind"`
	Location   string                   `json:"location"`
	SKU        *SKU                     `json:"sku"`
	Tags       map[string]string        `json:"tags"`
	Identity   *IdentityRequest         `json:"identity"`
	Properties AccountRequestProperties `json:"properties"`
}

// IdentityRequest lists the managed identities that an account is to have.
type IdentityRequest struct {
	Type  string               `json:"type"`
	Users map[string]*struct{} `json:"userAssignedIdentities"` // null takes one away
}

// AccountRequestProperties are the properties of an account, as they are sent.
type AccountRequestProperties struct {
	CustomSubDomainName *string            `json:"customSubDomainName"`
	DisableLocalAuth    *bool              `json:"disableLocalAuth"`
	PublicNetworkAccess string             `json:"publicNetworkAccess"`
	NetworkACLs         *NetworkACLs       `json:"networkAcls"`
	CORS                *CORS              `json:"cors"`
	RestrictOutbound    bool               `json:"restrictOutboundNetworkAccess"`
	UserOwnedStorage    []struct{}         `json:"userOwnedStorage"`
	Encryption          *EncryptionRequest `json:"encryption"`
	Restore             bool               `json:"restore"`
}

// AccountKeys are the two keys of an account's data plane.
type AccountKeys struct {
	Key1 string `json:"key1"`
	Key2 string `json:"key2"`
}

// KeyRegeneration names the key to replace: Key1 or Key2.
type KeyRegeneration struct {
	KeyName string `json:"keyName"`
}
