package api_test

import (
	"testing"

	"github.com/visage-face/visage/api"
)

func TestValidVersion(t *testing.T) {
	for text, want := range map[string]bool{
		"2025-09-01": true, "2015-06-01": true, "2016-10-01-preview": true, "2024-04-01-PREVIEW": true,
		"2024-02-29":           true,
		"2025-06-01-preview.2": true, "7.0": true, "7.6": true, "7.6-preview": true, "7.6-preview.1": true,
		"7.6-Preview.10": true,
		"1.0":            true, "2023-02-29": false, "2025-13-01": false, "2025-00-10": false, "2025-9-1": false,
		"20250901":        false,
		"2025-09-01-beta": false, "2025-09-01-preview.": false, "2025-09-01-preview1": false,
		"2025-09-01-preview.x": false,
		"7":                    false, "7.": false, ".6": false, "v7.6": false, "7.6.1": false, "latest": false,
		" 7.6": false, "7.6\n": false,
		"٧.٦": false, "": false,
	} {
		if api.ValidVersion(text) != want {
			t.Errorf("%q: got %v, want %v", text, !want, want)
		}
	}
}
