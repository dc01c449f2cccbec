// Package console walks through the web console with a true browser, against servers that it starts, and judges every
// page: with axe for accessibility, with Lighthouse for speed and good practice. The walks are the .mjs files beside;
// the Go tests give each a server and look after the browser. The package consists of tests.
package console
