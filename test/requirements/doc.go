// Package requirements tests the promises to customers about the encryption of data at rest, with one named test for
// each promise, from outside a running server. The package consists of tests.
package requirements
