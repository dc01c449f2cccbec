// Package sdk lets the official Face clients judge the service: unmodified, pinned by integrity, against a true server over TLS. The stories
// are new.mjs and old.mjs; the Go test gives them a server and photos. Everything is in its tests.
package sdk
