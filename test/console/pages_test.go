package console_test

import (
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// furnished is a server with something on every page, and the facts that paths of pages.mjs need.
func furnished(t *testing.T) (*servertest.Server, map[string]string) {
	t.Helper()
	t.Setenv("CONSOLE_ONLY", *only)
	s := servertest.Start(t, server.Config{})
	return s, map[string]string{"account": "default"}
}

// TestAccessible runs axe over every page, in both themes and both languages.
func TestAccessible(t *testing.T) {
	looks := "some"
	if *judged {
		looks = "all"
	}
	s, facts := furnished(t)
	walk(t, s, "axe.mjs", facts, looks)
}

// TestLighthouse judges every page; it takes ten seconds a page.
func TestLighthouse(t *testing.T) {
	if !*judged {
		t.Skip("run by make console-check")
	}
	s, facts := furnished(t)
	walk(t, s, "lighthouse.mjs", facts)
}

// TestScreenshots writes pictures of every page.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("run by make screenshots")
	}
	s, facts := furnished(t)
	walk(t, s, "screenshots.mjs", facts, folder(t, *screenshots))
}
