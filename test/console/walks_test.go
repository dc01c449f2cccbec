package console_test

import (
	"net/http"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestWalks runs every walk, each against a server of its own.
func TestWalks(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"customerkey.mjs", "frame.mjs", "script.mjs", "attacks.mjs"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			h := house{servertest.Start(t, server.Config{}), t, map[string]string{"hostile": hostile}}
			h.manage(http.MethodPatch, "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/default",
				`{"tags":{"hostile":"`+hostile+`"}}`)
			walk(t, h.Server, script, h.facts)
		})
	}
}

// hostile is a text that would do harm as markup. It has no character that JSON escapes.
const hostile = "</textarea></code><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
