package armwire

// RoleAssignment gives an identity a role on a scope.
type RoleAssignment struct {
	ID         string                   `json:"id"`
	Name       string                   `json:"name"`
	Type       string                   `json:"type"`
	Properties RoleAssignmentProperties `json:"properties"`
}

// RoleAssignmentProperties are the role, the identity and the scope.
type RoleAssignmentProperties struct {
	RoleDefinitionID string `json:"roleDefinitionId"`
	PrincipalID      string `json:"principalId"`
	PrincipalType    string `json:"principalType"`
	Scope            string `json:"scope"`
	Created          string `json:"createdOn"`
}

// RoleAssignmentRequest assigns a role.
type RoleAssignmentRequest struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId" api:"required"`
		PrincipalID      string `json:"principalId" api:"required"`
		Condition        string `json:"condition"`
	} `json:"properties" api:"required"`
}
