package armwire

// ServicePrincipal is an identity: an application, or the managed identity of a resource.
type ServicePrincipal struct {
	ObjectID string               `json:"objectId"`
	AppID    string               `json:"appId"`
	TenantID string               `json:"tenantId"`
	Name     string               `json:"displayName"`
	Kind     string               `json:"kind" enum:"Application SystemAssigned UserAssigned"`
	Resource string               `json:"resourceId,omitempty"` // of a managed identity
	Created  string               `json:"createdDateTime"`
	Secrets  []PasswordCredential `json:"passwordCredentials"`
	Subjects []FederatedSubject   `json:"federatedSubjects"`
}

// FederatedSubject is a subject of a trusted issuer, whose tokens stand for an application.
type FederatedSubject struct {
	Issuer string `json:"issuer" api:"required"`
	Name   string `json:"subject" api:"required"`
	Group  bool   `json:"group,omitempty"`
}

// FederatedSubjectList replaces the federated subjects of an application.
type FederatedSubjectList struct {
	Value []FederatedSubject `json:"value" api:"required"`
}

// PasswordCredential is a secret of an application, without its value.
type PasswordCredential struct {
	KeyID   string `json:"keyId"`
	Created string `json:"startDateTime"`
	Expires string `json:"endDateTime"`
}

// ServicePrincipalList answers with all identities.
type ServicePrincipalList struct {
	Value []ServicePrincipal `json:"value"`
}

// ServicePrincipalRequest creates an application with one secret. Days is the secret's lifetime; 0: no end.
type ServicePrincipalRequest struct {
	Name string `json:"displayName" api:"required"`
	Days int    `json:"passwordLifetimeDays"`
}

// CreatedServicePrincipal is a new application with its secret, which is answered this one time.
type CreatedServicePrincipal struct {
	ServicePrincipal
	Password string `json:"password"`
}

// PasswordRequest adds a secret to an application. Days is its lifetime; 0: no end.
type PasswordRequest struct {
	Days int `json:"passwordLifetimeDays"`
}

// CreatedPassword is a new secret, which is answered this one time.
type CreatedPassword struct {
	PasswordCredential
	Text string `json:"secretText"`
}

// PasswordID names the secret to end.
type PasswordID struct {
	KeyID string `json:"keyId" api:"required"`
}
