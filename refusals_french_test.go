package visage_test

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/audit"
)

// collectionKinds are the words that stand for {kind} in the codes of refusals.
var collectionKinds = []string{"FaceList", "LargeFaceList", "PersonGroup", "LargePersonGroup"}

// refusalCodes returns the codes on the page of refusals, also as "code/inner code" where there are both.
func refusalCodes(t *testing.T) map[string]bool {
	t.Helper()
	codes := map[string]bool{}
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(readText(t, refusalPage)) {
		cells := strings.Split(line, " | ")
		if len(cells) < 4 || !strings.HasPrefix(cells[1], "`") {
			continue
		}
		var parts []string
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			parts = append(parts, m[1])
		}
		for _, kind := range collectionKinds {
			code := strings.ReplaceAll(parts[0], "{kind}", kind)
			codes[code] = true
			if len(parts) > 1 {
				codes[code+"/"+parts[1]] = true
			}
		}
	}
	return codes
}

// readMessages reads a file of messages of the console.
func readMessages(t *testing.T, language, topic string) map[string]string {
	t.Helper()
	var all map[string]string
	name := path.Join("console", "messages", language, topic)
	if err := json.Unmarshal([]byte(readText(t, name)), &all); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return all
}

// TestRefusalsAreFrench holds that the console can say every refusal in French: in one sentence for each code, spelled
// as French readers expect.
func TestRefusalsAreFrench(t *testing.T) {
	french, codes := readMessages(t, "fr", "refusals.json"), refusalCodes(t)
	if len(codes) < 150 {
		t.Fatalf("%d codes: %s is not read", len(codes), refusalPage)
	}
	for code := range codes {
		if french[code] == "" {
			t.Errorf("the code %s has no French sentence", code)
		}
	}
	for code, sentence := range french {
		if !codes[code] {
			t.Errorf("%s is no code of a refusal", code)
		}
		checkFrench(t, code, sentence)
		// What is wrong and what to do: the second part follows a colon or is a clause of its own.
		one := strings.HasSuffix(sentence, ".") && !strings.Contains(sentence, ". ")
		if !one || !strings.ContainsAny(sentence, ":;,") {
			t.Errorf("%s: want one sentence that says what is wrong and what to do: %s", code, sentence)
		}
	}
}

// TestAuditHasWords holds that the console has words for all kinds, outcomes and actors, in both languages.
func TestAuditHasWords(t *testing.T) {
	var want []string
	for _, k := range audit.Kinds() {
		want = append(want, "audit.kind."+string(k))
	}
	for _, o := range []audit.Outcome{audit.Done, audit.Refused, audit.Failed, audit.Unknown} {
		want = append(want, "audit.outcome."+string(o))
	}
	for _, a := range []audit.ActorKind{
		audit.Service, audit.OperatorActor, audit.AccessKey, audit.Identity, audit.Person, audit.Anonymous,
	} {
		want = append(want, "audit.actor."+string(a))
	}
	for _, language := range []string{"en", "fr"} {
		words := readMessages(t, language, "audit.json")
		for _, key := range want {
			if words[key] == "" {
				t.Errorf("%s: %s has no words", language, key)
			}
		}
		for key, text := range words {
			if !slices.Contains(want, key) {
				t.Errorf("%s: %s is neither a kind, an outcome nor an actor", language, key)
			}
			if language == "fr" {
				checkFrench(t, key, text)
			}
		}
	}
}

// badFrench finds a space that may break before high punctuation or inside quotation marks, a missing one, and a
// straight apostrophe.
var badFrench = regexp.MustCompile(`[ \pL][:;!?»]|«[^\x{a0}]|'`)

func checkFrench(t *testing.T, key, text string) {
	t.Helper()
	// A colon within a header or an address is not punctuation.
	if found := badFrench.FindString(strings.ReplaceAll(text, "Metadata: true", "")); found != "" {
		t.Errorf("%s has %q: %s", key, found, text)
	}
}
