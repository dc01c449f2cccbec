package armwire

// AccessRequestList answers with all access requests.
type AccessRequestList struct {
	Value []AccessRequest `json:"value"`
}

// AccessRequest is a request to use customer-managed keys, as it is answered.
type AccessRequest struct {
	ID         string                  `json:"id"`
	Name       string                  `json:"name"`
	Type       string                  `json:"type"`
	ETag       string                  `json:"etag"`
	Properties AccessRequestProperties `json:"properties"`
}

// AccessRequestProperties say what was asked for, and how far the request has come.
type AccessRequestProperties struct {
	Service  string `json:"service"`
	Region   string `json:"region,omitempty"`
	Contact  string `json:"contact"`
	Reason   string `json:"reason"`
	State    string `json:"state"` // Submitted, Queued, Approved, Rejected or Withdrawn
	Note     string `json:"note,omitempty"`
	Position int    `json:"queuePosition,omitempty"`
	Account  string `json:"account,omitempty"`
	Created  string `json:"submittedAt"`
	Changed  string `json:"changedAt"`
}

// AccessRequestBody is an access request as it is sent.
type AccessRequestBody struct {
	Properties struct {
		Service string `json:"service"`
		Region  string `json:"region"`
		Contact string `json:"contact"`
		Reason  string `json:"reason"`
	} `json:"properties"`
}

// Rejection rejects an access request, with a sentence for its contact.
type Rejection struct {
	Reason string `json:"reason"`
}

// Capacity is how many resources of tier E0 there may be.
type Capacity struct {
	ID         string             `json:"id"`
	Name       string             `json:"name"`
	Type       string             `json:"type"`
	Properties CapacityProperties `json:"properties"`
}

// CapacityProperties count the places for resources of tier E0.
type CapacityProperties struct {
	Capacity *int `json:"capacity"` // null: there is no bound
	Taken    int  `json:"taken"`
	Queued   int  `json:"queued"`
}

// CapacityBody sets the capacity.
type CapacityBody struct {
	Properties struct {
		Capacity *int `json:"capacity"`
	} `json:"properties"`
}
