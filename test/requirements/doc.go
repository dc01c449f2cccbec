// Package requirements walks through what customers were promised about the encryption of data at rest, one named test
// a promise, against a true server and from the outside. Everything is in its tests.
package requirements
