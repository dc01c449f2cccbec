package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
)

// Browser is a browser without scripts that is signed in to the console.
type Browser struct {
	*http.Client // keeps cookies, and follows no redirection

	t    testing.TB
	base string
}

// Page is an answer of the console.
type Page struct {
	Status int
	Header http.Header
	Body   string
}

// Browser signs in to the console as the identity with an object id; empty: as the operator.
func (s *Server) Browser(t testing.TB, principal string) *Browser {
	t.Helper()
	address, err := s.SignInAddress(t.Context(), principal)
	if err != nil {
		t.Fatalf("get an address to sign in: %v", err)
	}
	b := s.Visitor(t)
	if p := b.Send(strings.TrimPrefix(address, s.URL), nil); p.Status != http.StatusSeeOther {
		t.Fatalf("sign in: %d %s", p.Status, p.Body)
	}
	return b
}

// Visitor returns a browser that is not signed in.
func (s *Server) Visitor(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, base: s.URL, Client: &http.Client{
		Transport: s.Client.Transport, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get gets a page of the console by its path.
func (b *Browser) Get(path string) Page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	return b.Ask(req)
}

// Send posts a form with the fields that it is given, and nothing else.
func (b *Browser) Send(path string, fields url.Values) Page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.base+path,
		strings.NewReader(fields.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.Ask(req)
}

// File is a file of a form.
type File struct {
	Field, Name string
	Data        []byte
}

// Upload gets a page, fills in its form with an action as Submit does, and sends it with files.
func (b *Browser) Upload(path, action string, given url.Values, files ...File) Page {
	b.t.Helper()
	p := b.Get(path)
	fields, found := p.Form(action)
	if !found {
		b.t.Fatalf("page %s (status %d) has no form with the action %s:\n%s", path, p.Status, action, p.Body)
	}
	maps.Copy(fields, given)
	return b.SendFiles(action, fields, files...)
}

// SendFiles posts a form with the fields and files that it is given, and nothing else.
func (b *Browser) SendFiles(path string, fields url.Values, files ...File) Page {
	b.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[name] {
			if err := w.WriteField(name, value); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	for _, f := range files {
		part, err := w.CreateFormFile(f.Field, f.Name)
		if err == nil {
			_, err = part.Write(f.Data)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.base+path, &body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("Accept", "text/html")
	return b.Ask(req)
}

// Ask sends a request.
func (b *Browser) Ask(req *http.Request) Page {
	b.t.Helper()
	res, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := readAll(res)
	if err != nil {
		b.t.Fatal(err)
	}
	return Page{res.StatusCode, res.Header, body}
}

var (
	formPattern  = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)".*?</form>`)
	inputPattern = regexp.MustCompile(`(?s)<(input|textarea)([^>]*)>(?:([^<]*)</textarea>)?`)
	attribute    = regexp.MustCompile(`(?s)\b([a-z-]+)="([^"]*)"`)
)

// Submit gets a page, fills in its form with an action, and sends it: hidden fields and those that have a value are
// sent as they are, given ones replace them.
func (b *Browser) Submit(path, action string, given url.Values) Page {
	b.t.Helper()
	p := b.Get(path)
	fields, found := p.Form(action)
	if !found {
		b.t.Fatalf("page %s (status %d) has no form with the action %s:\n%s", path, p.Status, action, p.Body)
	}
	for name, values := range given {
		fields[name] = values
	}
	return b.Send(action, fields)
}

// Form returns the fields of the first form with an action, as a browser would send them untouched.
func (p Page) Form(action string) (url.Values, bool) {
	all := p.Forms(action)
	if len(all) == 0 {
		return nil, false
	}
	return all[0], true
}

// Forms returns the fields of all forms with an action.
func (p Page) Forms(action string) (all []url.Values) {
	for _, m := range formPattern.FindAllStringSubmatch(p.Body, -1) {
		if unescape(m[1]) != action {
			continue
		}
		fields := url.Values{}
		for _, in := range inputPattern.FindAllStringSubmatch(m[0], -1) {
			has := map[string]string{}
			for _, a := range attribute.FindAllStringSubmatch(in[2], -1) {
				has[a[1]] = unescape(a[2])
			}
			switch {
			case has["name"] == "" || has["type"] == "file":
			case (has["type"] == "checkbox" || has["type"] == "radio") && !strings.HasSuffix(in[2], " checked") &&
				!strings.Contains(in[2], " checked "):
			case in[1] == "textarea":
				fields.Add(has["name"], unescape(in[3]))
			default:
				fields.Add(has["name"], has["value"])
			}
		}
		all = append(all, fields)
	}
	return all
}

func unescape(text string) string { return html.UnescapeString(text) }

func readAll(res *http.Response) (string, error) {
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// As makes a person with roles on the subscription, and signs in as them.
func (s *Server) As(t testing.TB, name string, roles ...string) *Browser {
	t.Helper()
	made := s.Manage(t, http.MethodPost, "/providers/Visage.Identity/people", map[string]any{"displayName": name})
	id, _ := made["objectId"].(string)
	const authorization = "/providers/Microsoft.Authorization/"
	for _, role := range roles {
		s.Manage(t, http.MethodPut, authorization+"roleAssignments/"+visage.NewUUID().String(),
			map[string]any{"properties": map[string]any{
				"principalId": id,
				"roleDefinitionId": "/subscriptions/" + s.Operator().SubscriptionID + authorization +
					"roleDefinitions/" + role,
			}})
	}
	return s.Browser(t, id)
}

// Token returns a form token of the browser's session.
func (b *Browser) Token() string {
	b.t.Helper()
	fields, found := b.Get("/console").Form("/console/signout")
	if !found {
		b.t.Fatal("the browser is not signed in")
	}
	return fields.Get("token")
}

// Wait gets a page again until it is as wanted, while work goes on behind it. It waits as long as the test may run, and
// fails it a little before.
func (b *Browser) Wait(path string, wanted func(Page) bool) Page {
	b.t.Helper()
	ctx, cancel := Patience(b.t)
	defer cancel()
	for {
		p := b.Get(path)
		if wanted(p) {
			return p
		}
		select {
		case <-time.After(10 * time.Millisecond): // browsers ask again too
		case <-ctx.Done():
			b.t.Fatalf("page %s (status %d) is never as wanted:\n%s", path, p.Status, p.Body)
		}
	}
}

// Patience returns the context of waiting in a test: it ends a little before the time of all tests is over, so that
// the test itself says what it waited for. A busy machine takes long; that alone fails nothing.
func Patience(t testing.TB) (context.Context, context.CancelFunc) {
	const toSay = 10 * time.Second
	if limited, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, known := limited.Deadline(); known {
			return context.WithDeadline(t.Context(), end.Add(-toSay))
		}
	}
	return context.WithCancel(t.Context())
}

// Face sends a request to the face plane with a key of the default resource; anything but a success fails the test.
func (s *Server) Face(t testing.TB, method, path string, body any) {
	t.Helper()
	sent, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/face/v1.2/"+path, bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Ocp-Apim-Subscription-Key", s.Key)
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if said, err := readAll(res); err != nil || res.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %d %s (%v)", method, path, res.StatusCode, said, err)
	}
}
