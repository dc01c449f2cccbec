package armwire

// Page is a part of a list, and where the next one is.
type Page[T any] struct {
	Value []T    `json:"value"`
	Next  string `json:"nextLink,omitempty"`
}
