package console_test

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const tryIt = "/console/resources/default/tryit"

// inField puts a file into another field of a form.
func inField(f servertest.File, field string) servertest.File {
	f.Field = field
	return f
}

// drawn is what a page draws over photos, without the icons beside them.
func drawn(p servertest.Page) string {
	begin, end := strings.Index(p.Body, "<figure"), strings.LastIndex(p.Body, "</figure>")
	if begin < 0 || end < begin {
		return ""
	}
	return p.Body[begin:end]
}

// TestTryIt detects, compares, identifies and finds similar faces, without scripts; nothing of the photos is stored.
func TestTryIt(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	options := url.Values{"detector": {"detection_01"}, "model": {"recognition_04"}}
	p := b.Upload(tryIt, tryIt, options, inField(photo("two.png", 1, "ann", "ben"), "photo"))
	for _, want := range []string{`src="data:image/jpeg;base64,`, "<rect ", "<circle ", "with 2 faces marked",
		"&#34;faceRectangle&#34;", "qualityForRecognition", "Photos are never stored"} {
		if p.Status != http.StatusOK || !strings.Contains(p.Body, want) {
			t.Errorf("detect: %d, without %q: %s", p.Status, want, p.Body)
		}
	}
	if strings.Count(drawn(p), "<rect ") != 2 {
		t.Errorf("detect marks %d faces", strings.Count(drawn(p), "<rect "))
	}
	options.Set("detector", "detection_02")
	if p = b.Upload(tryIt, tryIt, options, inField(photo("a.png", 1, "ann"), "photo")); p.Status != http.StatusOK ||
		strings.Contains(drawn(p), "<circle ") {
		t.Errorf("detect without landmarks: %d %s", p.Status, p.Body)
	}
	for second, want := range map[string]string{"ann": "The same person", "ben": "Different persons"} {
		p = b.Upload(tryIt+"/compare", tryIt+"/compare", url.Values{"model": {"recognition_04"}},
			inField(photo("1.png", 1, "ann"), "photo"), inField(photo("2.png", 2, second), "second"))
		if p.Status != http.StatusOK || !strings.Contains(p.Body, want) || !strings.Contains(p.Body, "do not say how") {
			t.Errorf("compare with %s: %d %s", second, p.Status, p.Body)
		}
	}
	group := create(t, b, "persongroups", "staff", "Staff")
	b.Upload(group+"/photos", group+"/photos", url.Values{"into": {"new"}}, photo("<b>Ann.png", 3, "ann"))
	b.Submit(group, group+"/train", nil)
	await(t, b, group, "Last successful training:")
	in := url.Values{"in": {"persongroups/staff"}}
	p = b.Upload(tryIt+"/identify?in=persongroups%2Fstaff", tryIt+"/identify", nil,
		inField(photo("two.png", 4, "ann", "stranger"), "photo"))
	if p.Status != http.StatusOK || !strings.Contains(p.Body, "&lt;b&gt;Ann") || !personPath.MatchString(p.Body) {
		t.Errorf("identify: %d %s", p.Status, p.Body)
	}
	p = b.Upload(tryIt+"/identify", tryIt+"/identify", in, inField(photo("s.png", 4, "stranger"), "photo"))
	if p.Status != http.StatusOK || !strings.Contains(p.Body, "Nobody was found") {
		t.Errorf("identify a stranger: %d %s", p.Status, p.Body)
	}
	list := create(t, b, "facelists", "visitors", "Visitors")
	b.Upload(list+"/photos", list+"/photos", nil, photo("Ann.png", 5, "ann"))
	p = b.Upload(tryIt+"/similar", tryIt+"/similar", url.Values{"in": {"facelists/visitors"}},
		inField(photo("a.png", 6, "ann"), "photo"))
	if p.Status != http.StatusOK || !strings.Contains(p.Body, `href="`+list+`"`) {
		t.Errorf("find similar: %d %s", p.Status, p.Body)
	}
	if p = b.Get(list); strings.Count(p.Body, "/faces/") != 1 {
		t.Errorf("the list has more than the face that was added: %s", p.Body)
	}
}

// TestTryItRefuses: each refusal has its status and a sentence, at the field, and what was typed stays.
func TestTryItRefuses(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	create(t, b, "persongroups", "untrained", "Untrained")
	text := servertest.File{Field: "photo", Name: "text.jpg", Data: []byte(strings.Repeat("no picture ", 1000))}
	ann, nobody := inField(photo("a.png", 1, "ann"), "photo"), inField(photo("n.png", 1), "photo")
	for name, tt := range map[string]struct {
		path, in string
		files    []servertest.File
	}{
		"a text":             {tryIt, "", []servertest.File{text}},
		"no photo":           {tryIt, "", nil},
		"no second photo":    {tryIt + "/compare", "", []servertest.File{ann}},
		"nobody on it":       {tryIt + "/compare", "", []servertest.File{nobody, inField(ann, "second")}},
		"no kind":            {tryIt + "/identify", "staff", []servertest.File{ann}},
		"a list":             {tryIt + "/identify", "facelists/x", []servertest.File{ann}},
		"no such group":      {tryIt + "/identify", "persongroups/nothing", []servertest.File{ann}},
		"an untrained group": {tryIt + "/identify", "persongroups/untrained", []servertest.File{ann}},
		"no such list":       {tryIt + "/similar", "facelists/nothing", []servertest.File{ann}},
	} {
		given := url.Values{"model": {"recognition_04"}, "detector": {"detection_01"}}
		if tt.in != "" {
			given.Set("in", tt.in)
		}
		p := b.Upload(tt.path, tt.path, given, tt.files...)
		if p.Status < 400 || p.Status > 499 || !strings.Contains(p.Body, `aria-invalid="true"`) ||
			tt.in != "" && !strings.Contains(p.Body, `value="`+tt.in+`"`) {
			t.Errorf("%s: %d %s", name, p.Status, p.Body)
		}
	}
}

// TestPhotosOfSixMegabytes tries and adds a photo of exactly as many bytes as the contract allows, and one byte more.
func TestPhotosOfSixMegabytes(t *testing.T) {
	const most = 6 << 20
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	group := create(t, b, "persongroups", "staff", "Staff")
	filled := func(field string, length int) servertest.File {
		f := inField(photo("large.png", 1, "ann"), field)
		end := bytes.LastIndexByte(f.Data, '\n') // of the picture; what follows says who is on it
		f.Data = slices.Concat(f.Data[:end], make([]byte, length-len(f.Data)), f.Data[end:])
		return f
	}
	const sentence = "This file is too large: a picture may have at most 6 MB."
	given := url.Values{"model": {"recognition_04"}, "detector": {"detection_01"}}
	for _, form := range []struct{ path, field string }{{tryIt, "photo"}, {group + "/photos", "photos"}} {
		given.Set("into", "new")
		p := b.Upload(form.path, form.path, given, filled(form.field, most))
		wantNot(t, form.path, p, sentence)
		if p.Status >= http.StatusBadRequest {
			t.Errorf("%s with 6 MB: %d %s", form.path, p.Status, p.Body)
		}
		p = b.Upload(form.path, form.path, given, filled(form.field, most+1))
		want(t, form.path, p, http.StatusBadRequest, sentence)
	}
}

// TestFacesNeedARole: who may only read is neither offered the pages about people nor let in; who uses the data is.
func TestFacesNeedARole(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	reader, user := s.As(t, "Rita Reader", identity.Reader), s.As(t, "Farid Faces", identity.CognitiveUser)
	for _, path := range []string{everyPerson, tryIt, tryIt + "/compare"} {
		if p := reader.Get(path); p.Status != http.StatusForbidden {
			t.Errorf("%s as a reader: %d", path, p.Status)
		}
		if p := user.Get(path); p.Status != http.StatusOK {
			t.Errorf("%s as a user of the data: %d", path, p.Status)
		}
	}
	link := regexp.MustCompile(`href="` + everyPerson + `"`)
	if p := reader.Get("/console/resources/default"); link.MatchString(p.Body) {
		t.Error("the tab is offered to a reader")
	}
	if p := user.Get("/console/resources/default"); !link.MatchString(p.Body) {
		t.Error("the tab is not offered to a user of the data")
	}
	if p := user.Get("/console/resources/default/keeping"); strings.Contains(p.Body, "keeping/retention") {
		t.Error("retention is offered to a user of the data")
	}
}

// TestTryItWithRealPhotos detects and compares real faces with the networks of the default pack.
func TestTryItWithRealPhotos(t *testing.T) {
	shared, models := os.Getenv("VISAGE_SHARED"), filepath.Join("..", "models")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	faces := filepath.Join(shared, "testdata", "faces")
	pack := filepath.Join(models, "packs", "mobileface")
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	library, _ := filepath.Glob(filepath.Join(models, "node_modules", "onnxruntime-node", "bin", "napi-v6",
		runtime.GOOS, arch, "libonnxruntime.*"))
	if _, err := os.Stat(faces); err != nil || len(library) == 0 {
		t.Skip("no shared test photos or no networks: set VISAGE_SHARED, and run make setup")
	}
	if _, err := os.Stat(pack); err != nil {
		t.Skip("no model pack: run make setup")
	}
	read := func(field, name string) servertest.File {
		data, err := os.ReadFile(filepath.Join(faces, name))
		if err != nil {
			t.Fatal(err)
		}
		return servertest.File{Field: field, Name: name, Data: data}
	}
	s := servertest.Start(t, server.Config{Pack: pack, Library: library[0]})
	b := s.Browser(t, "")
	options := url.Values{"detector": {"detection_01"}, "model": {"recognition_04"}}
	p := b.Upload(tryIt, tryIt, options, read("photo", "identification1.jpg"))
	if p.Status != http.StatusOK || strings.Count(drawn(p), "<rect ") < 3 ||
		strings.Count(drawn(p), "<circle ") < 3*27 {
		t.Errorf("detect: %d, %d faces", p.Status, strings.Count(drawn(p), "<rect "))
	}
	for second, want := range map[string]string{
		"Family1-Dad2.jpg": "The same person", "Family1-Mom1.jpg": "Different persons",
	} {
		p = b.Upload(tryIt+"/compare", tryIt+"/compare", options, read("photo", "Family1-Dad1.jpg"),
			read("second", second))
		said := strings.Contains(p.Body, "strangers reach") || strings.Contains(p.Body, "confidence says nothing")
		if p.Status != http.StatusOK || !strings.Contains(p.Body, want) || !said {
			t.Errorf("compare with %s: %d %.3000s", second, p.Status, p.Body[strings.Index(p.Body, "<main"):])
		}
	}
}
