// Package clients runs docs/clients.md: every marked block of the page, unchanged, with the unmodified client that it
// is about, against a real server. The programs in the folders below are modules of their own, because the service does
// not need their dependencies. The package consists of tests.
package clients
