package armwire

// ServicePrincipal is an identity: an application, the managed identity of a resource, or a person, who has no appId.
type ServicePrincipal struct {
	ObjectID string               `json:"objectId"`
	AppID    string               `json:"appId"`
	TenantID string               `json:"tenantId"`
	Name     string               `json:"displayName"`
	Kind     string               `json:"kind" enum:"Application SystemAssigned UserAssigned Person"`
	Resource string               `json:"resourceId,omitempty"` // of a managed identity
	Created  string               `json:"createdDateTime"`
	Secrets  []PasswordCredential `json:"passwordCredentials"`
	Subjects []FederatedSubject   `json:"federatedSubjects"`
}

// FederatedSubject is a subject of a trusted issuer, whose tokens stand for an application, or a group of subjects, who
// may sign in to the console.
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

// Person is a human who signs in to the console.
type Person struct {
	ObjectID string             `json:"objectId"`
	TenantID string             `json:"tenantId"`
	Name     string             `json:"displayName"`
	Email    string             `json:"mail"`
	Language string             `json:"preferredLanguage"` // en, fr, or empty for what the browser asks for
	Created  string             `json:"createdDateTime"`
	Passkeys []Passkey          `json:"passkeys"`
	Subjects []FederatedSubject `json:"federatedSubjects"`
	Sessions int                `json:"openSessions"`
}

// Passkey is what is shown of a passkey.
type Passkey struct {
	Name    string `json:"displayName"`
	Created string `json:"createdDateTime"`
	Used    string `json:"lastUsedDateTime,omitempty"` // absent: never
}

// PersonList answers with all people.
type PersonList struct {
	Value []Person `json:"value"`
}

// PersonRequest creates a person.
type PersonRequest struct {
	Name     string `json:"displayName" api:"required"`
	Email    string `json:"mail"`
	Language string `json:"preferredLanguage" enum:"en fr"`
}

// PersonUpdate changes a person. What is absent stays.
type PersonUpdate struct {
	Name     *string `json:"displayName"`
	Email    *string `json:"mail"`
	Language *string `json:"preferredLanguage"`
}

// SignInAddress is an address that signs somebody in once. Anyone who has it can use it until then.
type SignInAddress struct {
	Address string `json:"address"`
	Expires string `json:"expires"`
}
