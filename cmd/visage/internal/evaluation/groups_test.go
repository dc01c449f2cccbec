package evaluation_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
)

// FuzzGroups looks for CSV files of groups that are accepted although they violate a rule.
func FuzzGroups(f *testing.F) {
	f.Add("person,group\nAda,x\n")
	f.Add("person,a,b\n\"Ada\",,y\nBob,x,\n")
	f.Add("\xef\xbb\xbfperson;group\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "groups.csv")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := evaluation.Set{Photos: []evaluation.Photo{{Person: "Ada"}, {Person: "Bob"}}}
		if _, err := s.ReadGroups(file); err != nil {
			if s.Groupings != nil {
				t.Error("groupings came with an error")
			}
			return
		}
		someone := false
		for _, g := range s.Groupings {
			_, ada := g.Of["Ada"]
			_, bob := g.Of["Bob"]
			someone = someone || ada || bob
			if g.Name == "" {
				t.Error("a grouping without a name")
			}
		}
		if !someone {
			t.Error("a file without people was accepted")
		}
	})
}
