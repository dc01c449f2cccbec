// Package requirements tests what customers were promised about the encryption of data at rest, with one named test for
// each promise, from outside a running server. Everything is in its tests.
package requirements
