//go:build tools

// Package sops pins the program sops, which is built and run as it is.
package sops

import _ "github.com/getsops/sops/v3/cmd/sops"
