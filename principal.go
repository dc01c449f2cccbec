package visage

// Principal is the authenticated sender of a request.
type Principal struct {
	Method   string     // how it was authenticated: "key", "token", "operator", "person"
	KeyName  string     // "Key1" or "Key2" when Method is "key"
	Resource ResourceID // the resource the credential belongs to; zero for none
	ObjectID string     // the principal's id in its tenant, a lower-case UUID, unless Method is "key"
	AppID    string     // the client id of its application, likewise; may be empty
	Tenant   string     // the tenant of the principal, likewise
	Name     string     // of the human who acts, for the audit log; empty when there is none, or it is not known
}
