package console_test

import "testing"

// TestAccessible runs axe over every page, in both themes and both languages.
func TestAccessible(t *testing.T) {
	t.Parallel()
	looks := "some"
	if *judged {
		looks = "all"
	}
	h := furnished(t)
	walk(t, h.Server, "axe.mjs", h.facts, looks)
}

// TestLighthouse judges every page; it takes ten seconds a page.
func TestLighthouse(t *testing.T) {
	if !*judged {
		t.Skip("run by make console-check")
	}
	h := furnished(t)
	walk(t, h.Server, "lighthouse.mjs", h.facts)
}

// TestScreenshots writes pictures of every page.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("run by make screenshots")
	}
	h := furnished(t)
	walk(t, h.Server, "screenshots.mjs", h.facts, folder(t, *screenshots))
}

// TestPictures writes the pictures of the documents.
func TestPictures(t *testing.T) {
	if *screenshots == "" {
		t.Skip("run by make pictures")
	}
	h := furnished(t)
	walk(t, h.Server, "pictures.mjs", h.facts, folder(t, *screenshots))
}
