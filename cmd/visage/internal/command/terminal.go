package command

import (
	"io"
	"os"
)

// Color is an ANSI colour (ECMA-48 §8.3.117).
type Color string

// The colours in use: errors and closed states are red, hints and waiting states yellow, working states green.
const (
	Red    Color = "\x1b[31m"
	Green  Color = "\x1b[32m"
	Yellow Color = "\x1b[33m"

	plain = "\x1b[0m"
)

// Paint colours text where w is a terminal that shows colours and NO_COLOR (https://no-color.org) is not set. Elsewhere
// it returns text as it is.
func Paint(w io.Writer, c Color, text string) string {
	if c == "" || text == "" || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !IsTerminal(w) {
		return text
	}
	return string(c) + text + plain
}

// paintState colours the product's words for states of resources, keys, requests, packs and checks.
func paintState(w io.Writer, cell string) string {
	switch cell {
	case "active", "Succeeded", "Approved", "ok":
		return Paint(w, Green, cell)
	case "degraded", "Accepted", "Submitted", "Queued", "not calibrated":
		return Paint(w, Yellow, cell)
	case "locked", "revoked", "unavailable", "Rejected", "damaged", "FAILED":
		return Paint(w, Red, cell)
	}
	return cell
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
