package prove_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/vision"
)

// form is a secret in one of the forms in which it could be written.
type form struct {
	name  string
	bytes []byte
}

// textForms are the forms of a name, or of userData.
func textForms(what, text string) []form {
	var wide []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	forms := []form{{what + " as text", []byte(text)}, {what + " as UTF-16", wide}}
	return append(forms, encoded(what, []byte(text))...)
}

// templateForms are the forms of a template and of its code: of runs of their numbers, since they may be stored in
// parts.
func templateForms(t *testing.T, what string, template []float32) []form {
	t.Helper()
	const run = 6
	code, err := gallery.Encode(template)
	if err != nil {
		t.Fatal(err)
	}
	var forms []form
	for _, at := range []int{0, len(template) / 2} {
		little := code[2*at:][:4*run]
		var big, upper, lower []byte
		for i := 0; i < len(little); i += 2 {
			big = append(big, little[i+1], little[i])
		}
		for i := 2 * at; i < 2*at+8*run; i += 2 { // a code's two digits, each of -128 to 127
			upper = append(upper, byte((int(int16(binary.LittleEndian.Uint16(code[i:])))+128)>>8))
			lower = append(lower, code[i])
		}
		name := fmt.Sprintf("%s as a code from %d", what, at)
		forms = append(forms, form{name, little}, form{name + ", big endian", big},
			form{name + ", upper digits", upper},
			form{name + ", lower digits", lower})
		forms = append(forms, encoded(name, little)...)
	}
	for _, at := range []int{0, len(template) / 2} {
		var f32, i8 []byte
		var text []string
		for _, v := range template[at : at+run] {
			f32 = binary.LittleEndian.AppendUint32(f32, math.Float32bits(v))
			text = append(text, fmt.Sprint(v))
		}
		// unit vectors in 127 steps, the plain quantisation
		for _, v := range template[at : at+4*run] {
			i8 = append(i8, byte(int8(math.RoundToEven(float64(v)*127))))
		}
		name := fmt.Sprintf("%s from %d", what, at)
		forms = append(forms, form{name + " as float32", f32}, form{name + " as int8", i8},
			form{name + " as JSON", []byte(strings.Join(text, ","))})
		forms = append(forms, encoded(name, f32)...)
	}
	return forms
}

// encoded is b in hexadecimal, and in base64 at each of three alignments, without the characters that depend on
// neighbours.
func encoded(what string, b []byte) []form {
	forms := []form{{what + " in hexadecimal", []byte(hex.EncodeToString(b))}}
	for offset := range 3 {
		padded := append(make([]byte, offset), b...)
		text := base64.RawStdEncoding.EncodeToString(padded[:len(padded)/3*3])
		forms = append(forms, form{fmt.Sprintf("%s in base64, %d", what, offset), []byte(text[4*min(offset, 1):])})
	}
	return forms
}

// searchFor reports each form that occurs in the bytes of a place.
func searchFor(t *testing.T, place string, content []byte, forms []form) {
	t.Helper()
	for _, f := range forms {
		if bytes.Contains(content, f.bytes) {
			t.Errorf("%s holds %s", place, f.name)
		}
	}
}

// templateOf is the template that the serve child's recogniser makes of the one face of a photo.
func templateOf(t *testing.T, photo []byte) []float32 {
	t.Helper()
	found, err := servertest.Faces{}.Detect(t.Context(), photo, vision.Want{Templates: true})
	if err != nil || len(found.Faces) != 1 {
		t.Fatalf("process a photo: %v", err)
	}
	return found.Faces[0].Template
}

// TestNothingLeaks gives the service canaries as all customers' names and data, and faces with known templates, makes
// it refuse and fail, and searches everything it writes for them; then it locks the resource and searches all memory of
// the process for templates.
func TestNothingLeaks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	dir := filepath.Join(t.TempDir(), "visage")
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	s := startService(t, dir, false)
	s.underCustomerKey(t)
	// in stored data, and in refused requests: an error may repeat the latter
	const canary, echo = "zq-Canary-Kx93", "vb-Parrot-Qm71"
	photos := [][]byte{servertest.Photo(1, "ann"), servertest.Photo(2, "ben"), servertest.Photo(3, "cid")}
	var forms, templates []form
	stored := textForms("the canary", canary)
	forms = append(append(forms, stored...), textForms("the parrot", echo)...)
	for i, photo := range photos {
		templates = append(templates, templateForms(t, fmt.Sprintf("template %d", i), templateOf(t, photo))...)
	}
	forms = append(forms, templates...)

	var refusals bytes.Buffer
	api := s.client(t, keysOf(t, s, "vip"))
	group := "/largepersongroups/g"
	waiting, forget := servertest.Patience(t)
	defer forget()
	must := func(method, path string, body, out any) {
		t.Helper()
		for {
			status, ok := api.call(t.Context(), method, path, body, out)
			if ok && status/100 == 2 {
				return
			}
			// after a start, until the key has answered
			if status != http.StatusServiceUnavailable || waiting.Err() != nil {
				t.Fatalf("%s %s: %d\n%s", method, path, status, s.log)
			}
		}
	}
	must("PUT", group, map[string]any{"name": canary, "userData": canary}, nil)
	var persons []string
	for _, photo := range photos {
		var made struct{ PersonID string }
		must("POST", group+"/persons", map[string]any{"name": canary, "userData": canary}, &made)
		must("POST", group+"/persons/"+made.PersonID+"/persistedfaces?userData="+canary, photo, nil)
		persons = append(persons, made.PersonID)
	}
	for _, c := range []struct {
		method, path, body string
	}{
		{"POST", group + "/persons", `{"name":"` + echo + `"`},
		{"PUT", "/largepersongroups/" + echo + "!", `{"name":"` + echo + `"}`},
		{"POST", group + "/persons", `{"` + echo + `":1}`}, {"GET", group + "/persons?top=" + echo, ""},
		{"POST", "/verify", `{"faceId1":"` + echo + `","faceId2":"` + echo + `"}`},
		{"POST", "/detect", `{"url":"https://` + echo + `.invalid/"}`},
		{"POST", group + "/persons/" + echo + "/persistedfaces", "{"}, {"GET", "/" + echo, ""},
		{"PUT", group, `{"name":"again"}`}, {"PUT", "/persongroups/g", `{"name":7}`},
		{"POST", group + "/persons", `{"name":""}`},
		{"PATCH", group + "/persons/" + persons[0], `{"userData":[]}`}, {"GET", group + "/training", ""},
		{"DELETE", group + "/persons/" + persons[0] + "/persistedfaces/" + persons[0], ""},
		{"POST", "/identify", `{"faceIds":["` + persons[0] + `"],"largePersonGroupId":"g"}`},
		{"POST", "/verify", `{"faceId":"` + persons[0] + `","personId":"` + persons[0] + `","largePersonGroupId":"g"}`},
		{"POST", "/findsimilars", `{"faceId":"` + persons[0] + `","largeFaceListId":"g"}`},
	} {
		said := api.raw(t, c.method, c.path, c.body)
		if said[0] != '4' {
			t.Errorf("%s %s: %s", c.method, c.path, said)
		}
		refusals.Write(said)
	}
	s.train(t, api, group)
	log := s.log.String()
	s.kill(t)

	// From here on the templates come from the store alone: templates of processed photos stay as garbage on the heap
	// for a while, as docs/threat-model.md says.
	s = s.again(t)
	api = s.client(t, keysOf(t, s, "vip"))
	searched := 0
	var probe []struct{ FaceID string }
	must("POST", "/detect?returnFaceId=true", servertest.Photo(9, "eve"), &probe)
	must("POST", "/identify", map[string]any{"faceIds": []string{probe[0].FaceID}, "largePersonGroupId": "g"}, nil)
	open, _ := searchMemory(t, s.cmd.Process.Pid, templates)
	if total(open) == 0 {
		t.Error("the templates are not found in memory while they must be there: the search proves nothing")
	}
	s.run(t, "cmk", "lock", "vip")
	refused := api.raw(t, "GET", group, "")
	if !bytes.Contains(refused, []byte("EncryptionKeyRevoked")) {
		t.Fatalf("the locked resource answers %s", refused)
	}
	var locked map[string]int
	var size int64
	// requests under way end, and their data is cleared
	for {
		locked, size = searchMemory(t, s.cmd.Process.Pid, templates)
		if total(locked) == 0 || waiting.Err() != nil {
			break
		}
	}
	for name, n := range locked {
		if n > 0 {
			t.Errorf("memory after the lock contains %s %d times", name, n)
		}
	}
	// To prove that the search works, it must find data that the process needs.
	if seen, _ := searchMemory(t, s.cmd.Process.Pid, []form{{"its directory", []byte(dir)}}); total(seen) == 0 {
		t.Error("the search of the memory does not find known data")
	}
	refusals.Write(refused)
	metrics, err := api.http.Get(s.endpoint + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(metrics.Body)
	metrics.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	log += s.log.String()
	s.kill(t)
	exported := s.run(t, "audit", "export")
	for place, content := range map[string][]byte{"the log": []byte(log), "the metrics": page,
		"the audit export": exported} {
		if len(content) == 0 {
			t.Errorf("%s is empty: the search proves nothing", place)
		}
		searchFor(t, place, content, forms)
	}
	searchFor(t, "an error body", refusals.Bytes(), slices.Concat(stored, templates))
	for _, where := range []string{dir, temporary} {
		for name := range storedFilesIn(t, where) {
			content, err := os.ReadFile(filepath.Join(where, name))
			if err != nil {
				t.Fatal(err)
			}
			searched++
			searchFor(t, name, content, forms)
		}
	}
	t.Attr("forms-searched", fmt.Sprint(len(forms)))
	t.Attr("files-searched", fmt.Sprint(searched))
	t.Attr("memory-searched", fmt.Sprintf("%d-MiB", size>>20))
	t.Attr("templates-in-memory-while-open", fmt.Sprint(total(open)))
	t.Attr("templates-in-memory-after-lock", fmt.Sprint(total(locked)))
}

func total(counts map[string]int) (n int) {
	for c := range maps.Values(counts) {
		n += c
	}
	return n
}

// storedFilesIn lists the files under a directory, relative to it.
func storedFilesIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			files[rel] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// underCustomerKey creates the resource vip, of tier E0, under a key in a vault of this instance.
func (s *service) underCustomerKey(t *testing.T) {
	t.Helper()
	s.run(t, "cmk", "request", "pilot", "--contact", "ann@example.org", "--reason", "a pilot")
	s.run(t, "cmk", "approve", "pilot")
	s.run(t, "resource", "create", "vip", "--sku", "E0")
	s.run(t, "vault", "create", "safe")
	s.run(t, "key", "create", "faces", "--vault", "safe")
	s.run(t, "cmk", "enable", "vip", "--vault", "safe", "--key-name", "faces")
}

func keysOf(t *testing.T, s *service, resource string) string {
	t.Helper()
	var keys struct{ Key1 string }
	if err := json.Unmarshal(s.run(t, "resource", "keys", resource, "-o", "json"), &keys); err != nil {
		t.Fatalf("read the keys of %s: %v", resource, err)
	}
	return keys.Key1
}

func (s *service) train(t *testing.T, api *client, group string) {
	t.Helper()
	if status, ok := api.call(t.Context(), "POST", group+"/train", nil, nil); !ok || status != http.StatusAccepted {
		t.Fatalf("train: %d", status)
	}
	ctx, cancel := servertest.Patience(t)
	defer cancel()
	for {
		var state struct{ Status string }
		if _, ok := api.call(ctx, "GET", group+"/training", nil, &state); !ok || state.Status == "failed" {
			t.Fatalf("training: %q", state.Status)
		}
		if state.Status == "succeeded" {
			return
		}
	}
}

// raw sends a body unchanged and returns the answer's body.
func (c *client) raw(t *testing.T, method, path, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.endpoint+"/face/v1.2"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", c.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat([]byte(res.Status+" "), answer, []byte("\n"))
}
