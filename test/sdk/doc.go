// Package sdk lets the official clients judge the service: unmodified, pinned by integrity, against a true server over
// TLS. The stories are new.mjs and old.mjs of the data, and manage.mjs of the resources; the Go test gives them a
// server and photos. Everything is in its tests.
package sdk
