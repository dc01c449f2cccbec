package visage_test

import (
	"testing"

	"github.com/visage-face/visage"
)

func TestFoldLocation(t *testing.T) {
	for text, want := range map[string]string{
		"West US 2": "westus2", "westus2": "westus2", "WESTUS2": "westus2", "": "", "my-cellar": "my-cellar",
	} {
		if got := visage.FoldLocation(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if !visage.SameLocation("West Europe", "westeurope") || visage.SameLocation("West Europe", "North Europe") {
		t.Error("locations are compared otherwise than by their names")
	}
}
