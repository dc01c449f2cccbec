package armwire

// Vault is a key vault as it is answered (key vault contract, part B).
type Vault struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Properties VaultProperties   `json:"properties"`
}

// VaultProperties are the properties of a key vault, as they are answered.
type VaultProperties struct {
	TenantID            string         `json:"tenantId"`
	SKU                 VaultSKU       `json:"sku"`
	VaultURI            string         `json:"vaultUri"`
	AccessPolicies      []AccessPolicy `json:"accessPolicies"`
	SoftDelete          bool           `json:"enableSoftDelete"`
	RetentionDays       int            `json:"softDeleteRetentionInDays"`
	PurgeProtection     bool           `json:"enablePurgeProtection,omitempty"` // left out when it is off
	RBAC                bool           `json:"enableRbacAuthorization"`
	NetworkACLs         *NetworkACLs   `json:"networkAcls"`
	PublicNetworkAccess string         `json:"publicNetworkAccess"`
	ProvisioningState   string         `json:"provisioningState"`
}

// VaultSKU names the edition of a vault: standard or premium.
type VaultSKU struct {
	Family string `json:"family"`
	Name   string `json:"name"`
}

// AccessPolicy says what one identity may do in a vault.
type AccessPolicy struct {
	TenantID      string      `json:"tenantId"`
	ObjectID      string      `json:"objectId"`
	ApplicationID string      `json:"applicationId,omitempty"`
	Permissions   Permissions `json:"permissions"`
}

// Permissions are the operations that an access policy allows.
type Permissions struct {
	Keys         []string `json:"keys"`
	Secrets      []string `json:"secrets,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	Storage      []string `json:"storage,omitempty"`
}

// VaultRequest is a vault in a request. Missing properties are kept, or get their defaults.
type VaultRequest struct {
	Location   string                 `json:"location"`
	Tags       map[string]string      `json:"tags"`
	Properties VaultRequestProperties `json:"properties"`
}

// VaultRequestProperties are the properties of a key vault, as they are sent.
type VaultRequestProperties struct {
	TenantID            string         `json:"tenantId"`
	SKU                 *VaultSKU      `json:"sku"`
	AccessPolicies      []AccessPolicy `json:"accessPolicies"`
	SoftDelete          *bool          `json:"enableSoftDelete"`
	RetentionDays       *int           `json:"softDeleteRetentionInDays"`
	PurgeProtection     *bool          `json:"enablePurgeProtection"`
	RBAC                *bool          `json:"enableRbacAuthorization"`
	CreateMode          string         `json:"createMode"`
	NetworkACLs         *NetworkACLs   `json:"networkAcls"`
	PublicNetworkAccess string         `json:"publicNetworkAccess"`
}

// AccessPolicyList holds the access policies of a change.
type AccessPolicyList struct {
	AccessPolicies []AccessPolicy `json:"accessPolicies"`
}

// AccessPolicyChange adds, replaces or removes access policies, as its path says.
type AccessPolicyChange struct {
	Properties AccessPolicyList `json:"properties"`
}

// DeletedVault is a deleted key vault that can still be recovered.
type DeletedVault struct {
	ID         string                 `json:"id"`
	Name       string                 `json:"name"`
	Type       string                 `json:"type"`
	Properties DeletedVaultProperties `json:"properties"`
}

// DeletedVaultProperties say when a vault was deleted, and when it is purged.
type DeletedVaultProperties struct {
	VaultID                string            `json:"vaultId"`
	Location               string            `json:"location"`
	DeletionDate           string            `json:"deletionDate"`
	ScheduledPurgeDate     string            `json:"scheduledPurgeDate"`
	Tags                   map[string]string `json:"tags,omitempty"`
	PurgeProtectionEnabled *bool             `json:"purgeProtectionEnabled,omitempty"`
}
