// Package sdk runs the official clients, unmodified and pinned by integrity, against a server over TLS. The stories are
// new.mjs and old.mjs for the data, and manage.mjs for the resources; the Go test provides a server and photos. It also
// runs the code of README.md. The package consists of tests.
package sdk
