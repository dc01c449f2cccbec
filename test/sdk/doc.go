// Package sdk runs the official clients, unmodified and pinned by integrity, against a server over TLS. The stories are
// new.mjs and old.mjs for the data, and manage.mjs for the resources; the Go test gives them a server and photos. It
// runs the code of README.md as well. Everything is in its tests.
package sdk
