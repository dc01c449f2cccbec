// Package clients runs docs/clients.md: every block that the page marks, as it stands there, with the unmodified client
// that it is about, against a true server. The programs in the folders below are modules of their own, since what they
// are made of is no part of the service. Everything is in its tests.
package clients
