package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const everyPerson = "/console/resources/default/people"

// photo is a file with a photo of made-up people.
func photo(name string, take int, people ...string) servertest.File {
	return servertest.File{Field: "photos", Name: name, Data: servertest.Photo(take, people...)}
}

// create makes a group or list in the default resource and returns its path.
func create(t *testing.T, b *servertest.Browser, kind, id, name string) string {
	t.Helper()
	p := b.Submit(everyPerson+"/new", everyPerson+"/new", url.Values{
		"kind": {kind}, "id": {id}, "name": {name}, "model": {"recognition_04"},
	})
	if p.Status != http.StatusSeeOther {
		t.Fatalf("create %s: %d %s", id, p.Status, p.Body)
	}
	return everyPerson + "/" + kind + "/" + id
}

// follow gets the page that an answer leads to.
func follow(t *testing.T, b *servertest.Browser, p servertest.Page) servertest.Page {
	t.Helper()
	if p.Status != http.StatusSeeOther {
		t.Fatalf("no redirection: %d %s", p.Status, p.Body)
	}
	return b.Get(p.Header.Get("Location"))
}

var personPath = regexp.MustCompile(`/console/resources/default/people/[a-z]+/[a-z0-9_-]+/persons/[0-9a-f-]{36}`)

var faceID = regexp.MustCompile(`<th scope="row" class="code"><code>[0-9a-f-]{36}`)

// TestEnrolledPeople creates a group, adds photos, trains, searches, edits, and erases a person with a receipt that can
// be checked without the server.
func TestEnrolledPeople(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	if p := b.Get(everyPerson); !strings.Contains(p.Body, "There is no group of this kind yet") {
		t.Errorf("nobody yet: %d %s", p.Status, p.Body)
	}
	group := create(t, b, "persongroups", "staff", "Staff")
	photos := group + "/photos"
	p := follow(t, b, b.Upload(photos, photos, url.Values{"into": {"new"}}, photo("Ada Lovelace.png", 1, "ada")))
	if !strings.Contains(p.Body, "Enrolled as the new person \u2068Ada Lovelace\u2069") ||
		!strings.Contains(p.Body, "1 face is stored") {
		t.Errorf("one photo: %s", p.Body)
	}
	p = b.Get(group)
	person := personPath.FindString(p.Body)
	if person == "" || !strings.Contains(p.Body, "Never trained") || !strings.Contains(p.Body, "<dd>1</dd>") {
		t.Fatalf("the group: %s", p.Body)
	}
	p = b.Upload(person+"/photos", person+"/photos", nil, photo("2.png", 2, "ada"))
	if p.Status != http.StatusSeeOther {
		t.Errorf("another photo: %d %s", p.Status, p.Body)
	}
	if p = b.Submit(group, group+"/train", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("train: %d %s", p.Status, p.Body)
	}
	await(t, b, group, "Last successful training:")
	for search, found := range map[string]bool{"lovel": true, "ÂDA": true, "nobody": false,
		person[len(person)-36:][:8]: true} {
		p = await(t, b, group+"?"+url.Values{"search": {search}}.Encode(), "")
		if strings.Contains(p.Body, person) != found {
			t.Errorf("search for %q: %s", search, p.Body)
		}
	}
	const oneOfTwo = `class="number">1</td><td data-label="Faces" class="number">2</td>`
	if p = b.Get("/console"); !strings.Contains(p.Body, oneOfTwo) {
		t.Errorf("the first page does not say that one person with two faces is enrolled: %s", p.Body)
	}
	reader := s.As(t, "Rita Reader", identity.Reader)
	if p = reader.Get("/console"); strings.Count(p.Body, "not known</span>") < 2 ||
		strings.Contains(p.Body, `class="number">2</td>`) {
		t.Errorf("somebody without a role for the data sees how many faces there are: %s", p.Body)
	}
	p = b.Get(person + "?sort=-added")
	if !strings.Contains(p.Body, `aria-sort="descending"`) || strings.Count(p.Body, ">High</td>") != 2 ||
		strings.Count(p.Body, time.Now().UTC().Format("2 January 2006")) < 3 {
		t.Errorf("the faces with date and quality: %s", p.Body)
	}
	oldest, newest := b.Get(person+"?sort=added"), faceID.FindAllString(p.Body, -1)
	if ids := faceID.FindAllString(oldest.Body, -1); len(ids) != 2 || len(newest) != 2 || ids[0] != newest[1] {
		t.Errorf("sorted: %v, in reverse: %v", ids, newest)
	}
	p = b.Submit(person+"/edit", person+"/edit", url.Values{"name": {"Augusta Ada"}, "userdata": {"née Byron"}})
	if p = follow(t, b, p); !strings.Contains(p.Body, "Augusta Ada") || !strings.Contains(p.Body, "née Byron") {
		t.Errorf("edited: %s", p.Body)
	}

	p = b.Get(person + "/erase")
	if !strings.Contains(p.Body, "2 faces are erased") || !strings.Contains(p.Body, "Augusta Ada") {
		t.Errorf("before the erasure: %s", p.Body)
	}
	p = b.Submit(person+"/erase", person+"/erase", nil)
	receipt := p.Header.Get("Location")
	if p.Status != http.StatusSeeOther || !strings.Contains(receipt, "/receipts/") {
		t.Fatalf("erase: %d %s %s", p.Status, receipt, p.Body)
	}
	p = b.Get(receipt)
	if !strings.Contains(p.Body, "with 2 face(s)") {
		t.Errorf("the erasure is not told: %s", p.Body)
	}
	p = await(t, b, receipt, "Download the receipt")
	if !strings.Contains(p.Body, "The audit log has no copy of the keyring from before the erasure.") {
		t.Errorf("the receipt does not say which copies of the keyring there are: %s", p.Body)
	}
	if strings.Contains(p.Body, "Augusta") || !strings.Contains(p.Body, "grade") && !strings.Contains(p.Body, "D1") {
		t.Errorf("the receipt: %s", p.Body)
	}
	file := b.Get(receipt + "/file")
	var proof audit.Proof
	if err := json.Unmarshal([]byte(file.Body), &proof); err != nil {
		t.Fatalf("the file: %v %s", err, file.Body)
	}
	if err := proof.Check(); err != nil || proof.Entry.Details[audit.DetailPerson] != person[len(person)-36:] {
		t.Errorf("the proof: %v %v", err, proof.Entry)
	}
	if !strings.Contains(file.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("the file is shown: %v", file.Header)
	}
	if p = b.Get(person); p.Status != http.StatusNotFound {
		t.Errorf("the erased person: %d", p.Status)
	}
	if p = b.Get("/console/resources/default/receipts/1"); p.Status != http.StatusNotFound {
		t.Errorf("a receipt of what is no erasure: %d", p.Status)
	}
	p = b.Submit(group+"/erase", group+"/erase", nil)
	if p.Status != http.StatusSeeOther || b.Get(group).Status != http.StatusNotFound {
		t.Errorf("erase the group: %d %s", p.Status, p.Body)
	}
	await(t, b, p.Header.Get("Location"), "A group or list was erased")
}

// TestManyPhotos sends photos of every sort at once, as browsers without scripts do: each has its result, and a form
// that is sent twice adds nobody twice.
func TestManyPhotos(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	group := create(t, b, "largepersongroups", "many", "Many")
	photos := group + "/photos"
	files := []servertest.File{
		{Field: "photos", Name: "text.jpg", Data: bytes.Repeat([]byte("no picture "), 1000)},
		photo("two.png", 1, "ann", "ben"), photo("landscape.png", 2),
	}
	for i := range 197 {
		files = append(files, photo(fmt.Sprintf("Person %d.png", i), 10+i, fmt.Sprintf("p%d", i)))
	}
	fields, _ := b.Get(photos).Form(photos)
	fields.Set("into", "new")
	p := b.SendFiles(photos, fields, files...)
	again := b.SendFiles(photos, fields, files...)
	if p.Status != http.StatusSeeOther || again.Header.Get("Location") != p.Header.Get("Location") {
		t.Fatalf("200 photos: %d %s, and again: %d %s", p.Status, p.Header.Get("Location"), again.Status,
			again.Header.Get("Location"))
	}
	done := await(t, b, p.Header.Get("Location"), "200 of 200")
	for _, want := range []string{
		"\u2068text.jpg\u2069 — This file is not a picture", "\u2068two.png\u2069 — There are several faces",
		"\u2068landscape.png\u2069 — No face was found", "Enrolled as the new person \u2068Person 196\u2069",
	} {
		if !strings.Contains(done.Body, want) {
			t.Errorf("the result of the job lacks %q", want)
		}
	}
	if p = b.Get(photos); !strings.Contains(p.Body, "197 faces are stored") {
		t.Errorf("after the job: %s", p.Body)
	}
	first := b.Get(group)
	next := regexp.MustCompile(`href="([^"]*after=[^"]*)"`).FindStringSubmatch(first.Body)
	if next == nil || strings.Count(first.Body, "/persons/") < 50 {
		t.Fatalf("the first page: %s", first.Body)
	}
	second := b.Get(strings.ReplaceAll(next[1], "&amp;", "&"))
	for _, person := range personPath.FindAllString(first.Body, -1) {
		if strings.Contains(second.Body, person) {
			t.Errorf("%s is on two pages", person)
		}
	}
}

// TestRefusedPhotos: each photo that cannot be added is refused in a sentence of the visitor's language, and what was
// chosen stays.
func TestRefusedPhotos(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	group := create(t, b, "persongroups", "staff", "Staff")
	list := create(t, b, "facelists", "visitors", "Visitors")
	text := servertest.File{Field: "photos", Name: "<script>alert(1)</script>.jpg",
		Data: bytes.Repeat([]byte("no picture "), 1000)}
	for _, tt := range []struct {
		file       servertest.File
		en, fr     string
		wantStatus int
	}{
		{photo("none.png", 1), "No face was found", "Aucun visage n’a été trouvé", http.StatusBadRequest},
		{photo("two.png", 1, "ann", "ben"), "There are several faces", "plusieurs visages", http.StatusBadRequest},
		{text, "is not a picture", "n’est pas une image", http.StatusBadRequest},
	} {
		for _, at := range []string{group, list} {
			p := b.Upload(at+"/photos", at+"/photos", url.Values{"into": {"new"}}, tt.file)
			if p.Status != tt.wantStatus || !strings.Contains(p.Body, tt.en) || strings.Contains(p.Body, "<script>al") {
				t.Errorf("%s to %s: %d %s", tt.file.Name, at, p.Status, p.Body)
			}
		}
		fields, _ := b.Get(group + "/photos").Form(group + "/photos")
		b.Send("/console/language", url.Values{"language": {"fr"}})
		if p := b.SendFiles(group+"/photos", fields, tt.file); !strings.Contains(p.Body, tt.fr) {
			t.Errorf("%s in French: %d %s", tt.file.Name, p.Status, p.Body)
		}
		b.Send("/console/language", url.Values{"language": {"en"}})
	}
	p := b.Upload(group+"/photos", group+"/photos", url.Values{"into": {"chosen"}, "person": {"nobody"}},
		photo("ada.png", 1, "ada"))
	if p.Status != http.StatusNotFound || !strings.Contains(p.Body, `value="nobody"`) ||
		!strings.Contains(p.Body, `aria-invalid="true"`) {
		t.Errorf("a person who does not exist: %d %s", p.Status, p.Body)
	}
	if p = b.Upload(group+"/photos", group+"/photos", url.Values{"into": {"new"}}); p.Status != http.StatusBadRequest ||
		!strings.Contains(p.Body, "at least one photo") {
		t.Errorf("no photo: %d %s", p.Status, p.Body)
	}
	large := servertest.File{Field: "photos", Name: "large.png", Data: make([]byte, 65<<20)}
	if p = b.Upload(group+"/photos", group+"/photos", nil, large); p.Status != http.StatusRequestEntityTooLarge ||
		!strings.Contains(p.Body, "send less at once") {
		t.Errorf("a form that is too large: %d %s", p.Status, p.Body)
	}
}

// TestHostileNames: names are shown as they are, wherever they come from, and turn nothing around them.
func TestHostileNames(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	names := []string{
		`<script>alert("x")</script>`, strings.Repeat("😀", 64), "שלום \u202eעולם", "محمد", `"><img src=x onerror=y>`, " ",
	}
	group := create(t, b, "persongroups", "hostile", names[0])
	for _, name := range names {
		p := b.Submit(group+"/persons", group+"/persons", url.Values{"name": {name}, "userdata": {name}})
		if p = follow(t, b, p); strings.Contains(p.Body, "<script>alert") || strings.Contains(p.Body, "<img src=x") {
			t.Errorf("%q runs: %s", name, p.Body)
		}
	}
	for _, path := range []string{everyPerson, group, group + "/edit", group + "/photos", group + "/erase",
		group + "?search=script"} {
		p := b.Get(path)
		if p.Status != http.StatusOK || strings.Contains(p.Body, "<script>alert") ||
			strings.Contains(p.Body, "<img src=x") {
			t.Errorf("%s: %d %s", path, p.Status, p.Body)
		}
	}
	p := b.Get(group)
	if !strings.Contains(p.Body, "<bdi>שלום") || strings.Count(p.Body, "😀") < 64 {
		t.Errorf("names are not whole: %s", p.Body)
	}
	long := strings.Repeat("😀", 65)
	p = b.Submit(group+"/persons", group+"/persons", url.Values{"name": {long}})
	if p.Status != http.StatusBadRequest || !strings.Contains(p.Body, long) ||
		!strings.Contains(p.Body, `aria-invalid="true"`) {
		t.Errorf("a name that is too long: %d %s", p.Status, p.Body)
	}
}

// TestRefusedCollections: what was typed stays, and the field is named.
func TestRefusedCollections(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	group := create(t, b, "persongroups", "staff", "Staff")
	form := everyPerson + "/new"
	for want, given := range map[string]url.Values{
		`value="staff"`:    {"kind": {"persongroups"}, "id": {"staff"}, "name": {"Again"}, "model": {"recognition_04"}},
		`value="BAD ID!"`:  {"kind": {"facelists"}, "id": {"BAD ID!"}, "name": {"Bad"}, "model": {"recognition_04"}},
		`value="nameless"`: {"kind": {"facelists"}, "id": {"nameless"}, "name": {""}, "model": {"recognition_04"}},
	} {
		p := b.Submit(form, form, given)
		if p.Status < 400 || p.Status >= 500 || !strings.Contains(p.Body, want) ||
			!strings.Contains(p.Body, `aria-invalid="true"`) {
			t.Errorf("%v: %d %s", given, p.Status, p.Body)
		}
	}
	if p := b.Submit(group, group+"/train", nil); p.Status != http.StatusSeeOther {
		t.Errorf("train an empty group: %d", p.Status)
	}
	await(t, b, group, "There is no face to train with")
	stale, _ := b.Get(group + "/edit").Form(group + "/edit")
	if p := b.Submit(group+"/edit", group+"/edit", url.Values{"name": {"First"}}); p.Status != http.StatusSeeOther {
		t.Fatalf("edit: %d %s", p.Status, p.Body)
	}
	stale.Set("name", "Second")
	if p := b.Send(group+"/edit", stale); p.Status != http.StatusConflict || !strings.Contains(p.Body, `value="Second"`) {
		t.Errorf("two people edit: %d %s", p.Status, p.Body)
	}
	for _, path := range []string{everyPerson + "/nothing/x", everyPerson + "/persongroups/none",
		group + "/persons/none", everyPerson + "/facelists/staff/persons"} {
		if p := b.Get(path); p.Status != http.StatusNotFound {
			t.Errorf("%s: %d", path, p.Status)
		}
	}
}

// TestListedFaces: a list shows its faces, and loses one with a receipt.
func TestListedFaces(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	list := create(t, b, "facelists", "visitors", "Visitors")
	p := follow(t, b, b.Upload(list+"/photos", list+"/photos", nil, photo("a.png", 1, "ann")))
	if !strings.Contains(p.Body, "Enrolled as the face") {
		t.Errorf("a face of a list: %s", p.Body)
	}
	p = b.Get(list)
	erase := regexp.MustCompile(list + `/faces/[0-9a-f-]{36}/erase`).FindString(p.Body)
	if erase == "" || !strings.Contains(p.Body, "Needs none") {
		t.Fatalf("the list: %s", p.Body)
	}
	if p = b.Submit("/console/operations", "/console/operations/keyring", nil); p.Status != http.StatusOK {
		t.Fatalf("a copy of the keyring: %d", p.Status)
	}
	p = b.Submit(erase, erase, nil)
	await(t, b, p.Header.Get("Location"), "A face was erased")
	await(t, b, p.Header.Get("Location"), "The last copy of the keyring that the audit log has from before")
	if p = b.Get(list); strings.Contains(p.Body, "/erase\" aria") {
		t.Errorf("the face is still there: %s", p.Body)
	}
}

// TestKeeping: retention and legal holds, of a resource, a group and a person; a hold prevents erasure.
func TestKeeping(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	group := create(t, b, "persongroups", "staff", "Staff")
	b.Upload(group+"/photos", group+"/photos", nil, photo("Ada.png", 1, "ada"))
	person := personPath.FindString(b.Get(group).Body)
	const keeping = "/console/resources/default/keeping"
	of := "?of=persongroups%2Fstaff"
	p := b.Submit(keeping, keeping+"/retention", url.Values{"days": {"365"}, "since": {"enrolment"}})
	if p = follow(t, b, p); !strings.Contains(p.Body, "365 days") {
		t.Errorf("retention of the resource: %s", p.Body)
	}
	if p = b.Get(keeping + of); !strings.Contains(p.Body, "As for the whole resource") {
		t.Errorf("retention of the group: %s", p.Body)
	}
	for _, days := range []string{"-1", "40000", "many"} {
		p = b.Submit(keeping+of, keeping+"/retention", url.Values{"days": {days}, "since": {"enrolment"}})
		if p.Status != http.StatusBadRequest || !strings.Contains(p.Body, `value="`+days+`"`) {
			t.Errorf("%s days: %d %s", days, p.Status, p.Body)
		}
	}
	p = b.Submit(keeping+of, keeping+"/retention", url.Values{"days": {"30"}, "since": {"lastMatch"}})
	if p = follow(t, b, p); !strings.Contains(p.Body, "30 days after the last recognition") {
		t.Errorf("retention of its own: %s", p.Body)
	}
	if p = b.Get(person); strings.Contains(p.Body, "Without a time limit") {
		t.Errorf("the person is kept: %s", p.Body)
	}
	of += "&item=" + person[len(person)-36:]
	p = b.Submit(keeping+of, keeping+"/hold", url.Values{"reason": {""}})
	if p.Status != http.StatusBadRequest {
		t.Errorf("a hold without a reason: %d", p.Status)
	}
	p = b.Submit(keeping+of, keeping+"/hold", url.Values{"reason": {"case 4711 <script>alert(1)</script>"}})
	if p = follow(t, b, p); !strings.Contains(p.Body, "case 4711 &lt;script&gt;") {
		t.Errorf("a hold: %s", p.Body)
	}
	for _, path := range []string{person + "/erase", group + "/erase"} {
		p = b.Get(path)
		if _, offered := p.Form(path); offered || !strings.Contains(p.Body, "A legal hold protects this") {
			t.Errorf("%s of what is held: %s", path, p.Body)
		}
		token, _ := b.Get(keeping + of).Form(keeping + "/hold")
		p = b.Send(path, url.Values{"token": token["token"]})
		if p.Status != http.StatusConflict || !strings.Contains(p.Body, "LegalHold") {
			t.Errorf("%s of what is held, by hand: %d %s", path, p.Status, p.Body)
		}
	}
	p = b.Submit(keeping+of, keeping+"/release", nil)
	if p = follow(t, b, p); !strings.Contains(p.Body, "The legal hold is released") {
		t.Errorf("release: %s", p.Body)
	}
	if p = b.Submit(person+"/erase", person+"/erase", nil); p.Status != http.StatusSeeOther {
		t.Errorf("erase what is no longer held: %d %s", p.Status, p.Body)
	}
}

// TestErasingByRetentionNeedsAFreshProof: what can erase people within the hour asks for a proof that is a few minutes
// old, and what keeps them longer does not.
func TestErasingByRetentionNeedsAFreshProof(t *testing.T) {
	i := newIssuer(t)
	s := servertest.Start(t, issuing(t, i))
	fresh, b := s.Browser(t, ""), stale(t, s, i)
	create(t, fresh, "persongroups", "staff", "Staff")
	const keeping = "/console/resources/default/keeping"
	const own = keeping + "?of=persongroups%2Fstaff"
	for _, step := range []struct {
		what, page, days, since string
		asks                    bool
	}{
		{"for ever, as it was", keeping, "0", "enrolment", false},
		{"the first", keeping, "30", "enrolment", true},
		{"a longer one", keeping, "60", "enrolment", false},
		{"counted from later", keeping, "60", "lastMatch", false},
		{"counted from earlier", keeping, "90", "enrolment", true},
		{"a shorter one", keeping, "20", "enrolment", true},
		{"shorter for a group", own, "1", "enrolment", true},
		{"longer for a group", own, "400", "enrolment", false},
		{"as for the resource", own, "", "enrolment", true},
		{"for ever for a group", own, "0", "enrolment", false},
		{"no longer for ever", own, "", "enrolment", true},
		{"none", keeping, "", "enrolment", false},
	} {
		fields := url.Values{"days": {step.days}, "since": {step.since}}
		p := b.Submit(step.page, keeping+"/retention", fields)
		if !step.asks {
			want(t, step.what, p, http.StatusSeeOther)
			continue
		}
		want(t, step.what, p, http.StatusForbidden, "Prove again who you are")
		want(t, step.what, fresh.Submit(step.page, keeping+"/retention", fields), http.StatusSeeOther)
		kept := b.Submit(step.page, keeping+"/retention", nil) // it was typed before that change
		want(t, step.what+", sent later", kept, http.StatusConflict)
	}
	want(t, "hold", b.Submit(keeping, keeping+"/hold", url.Values{"reason": {"case 4711"}}), http.StatusSeeOther)
	want(t, "release", b.Submit(keeping, keeping+"/release", nil), http.StatusForbidden, "Prove again who you are")
	want(t, "still held", fresh.Get(keeping), http.StatusOK, "case 4711",
		"erased for good within the hour after its release")
	want(t, "release", fresh.Submit(keeping, keeping+"/release", nil), http.StatusSeeOther)
}

// TestClosedData: while the key of a resource refuses access, every page about its people says why, with the status of
// the refusal and the way to the encryption, and shows nothing that is stored.
func TestClosedData(t *testing.T) {
	r := newRealm(t, server.Config{AutoApprove: true})
	r.approve("ask")
	r.resource("face1")
	b := r.Browser(t, "")
	r.vault("safe", nil)
	r.newKey("safe", "master")
	r.enable(b, "face1", "safe", "master")
	at := "/console/resources/face1"
	new := at + "/people/new"
	p := b.Submit(new, new, url.Values{
		"kind": {"persongroups"}, "id": {"staff"}, "name": {"Secret name"}, "model": {"recognition_04"},
	})
	group := p.Header.Get("Location")
	if p.Status != http.StatusSeeOther || !strings.Contains(b.Get(group).Body, "Secret name") {
		t.Fatalf("a group: %d %s", p.Status, p.Body)
	}
	photos, _ := b.Get(group + "/photos").Form(group + "/photos")
	if p = b.Submit(at+"/encryption/lock", at+"/encryption/lock", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("lock: %d %s", p.Status, p.Body)
	}
	french := r.inFrench()
	for _, path := range []string{"/people", "/people/persongroups/staff", "/people/persongroups/staff/edit",
		"/people/persongroups/staff/erase", "/tryit", "/tryit/compare", "/keeping"} {
		p = b.Get(at + path)
		if p.Status != http.StatusForbidden || strings.Contains(p.Body, "Secret name") ||
			!strings.Contains(p.Body, `href="`+at+`/encryption"`) || !strings.Contains(p.Body, "EncryptionKeyRevoked") {
			t.Errorf("%s: %d %s", path, p.Status, p.Body)
		}
		if p = french.Get(at + path); !strings.Contains(p.Body, "actuellement inutilisables") {
			t.Errorf("%s in French: %d %s", path, p.Status, p.Body)
		}
	}
	p = b.SendFiles(group+"/photos", photos, photo("Ada.png", 1, "ada"))
	if p.Status != http.StatusForbidden || !strings.Contains(p.Body, "EncryptionKeyRevoked") {
		t.Errorf("a photo: %d %s", p.Status, p.Body)
	}
}
