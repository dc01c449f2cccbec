package console_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// endless is the body of a form with a photo that never ends.
type endless struct{ begin, sent atomic.Int64 }

const photoBegins = "--border\r\nContent-Disposition: form-data; name=\"photos\"; filename=\"a.png\"\r\n\r\n"

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, photoBegins[min(int(e.begin.Load()), len(photoBegins)):])
	e.begin.Add(int64(n))
	if n == 0 {
		n = len(p)
	}
	e.sent.Add(int64(n))
	return n, nil
}

// TestNothingIsReadBeforeAdmission sends forms whose body never ends: who is not admitted is told so, and not that the
// body is too long, and the connection is not used again.
func TestNothingIsReadBeforeAdmission(t *testing.T) {
	i := newIssuer(t)
	s := servertest.Start(t, issuing(t, i))
	furnish(t, s)
	const (
		photos   = "/console/resources/default/people/persongroups/guests/photos"
		disabled = "/console/vaults/furnished/keys/faces/1/disable"
	)
	const own, other = "same-origin", "cross-site"
	for name, test := range map[string]struct {
		b          *servertest.Browser
		path, from string
		status     int
	}{
		"nobody":              {s.Visitor(t), photos, own, http.StatusUnauthorized},
		"a person, no role":   {s.As(t, "Nora"), photos, own, http.StatusForbidden},
		"a reader":            {s.As(t, "Rita", identity.Reader), photos, own, http.StatusForbidden},
		"another site":        {s.Browser(t, ""), photos, other, http.StatusForbidden},
		"a proof that is old": {stale(t, s, i), disabled, own, http.StatusForbidden},
		"nobody, to sign in":  {s.Visitor(t), "/console/signin/openid/begin", other, http.StatusForbidden},
		"the person who may":  {s.Browser(t, ""), photos, own, http.StatusRequestEntityTooLarge},
		"a task that is none": {s.Browser(t, ""), "/console/jobs/none/cancel", own, http.StatusRequestEntityTooLarge},
	} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				transport := s.Client.Transport.(*http.Transport).Clone()
				defer transport.CloseIdleConnections()
				if transport.ForceAttemptHTTP2 = protocol == "h2"; protocol != "h2" {
					transport.TLSClientConfig.NextProtos = []string{protocol}
					transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
				}
				body := &endless{}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+test.path,
					io.NopCloser(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "multipart/form-data; boundary=border")
				req.Header.Set("Sec-Fetch-Site", test.from)
				client := http.Client{Transport: transport, Jar: test.b.Jar}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if res.StatusCode != test.status {
					t.Errorf("status %d, want %d", res.StatusCode, test.status)
				}
				// What is read on before and after the answer for clients that do not stop, and buffers on the way.
				const most = 96 << 20
				if n := body.sent.Load(); test.status < http.StatusRequestEntityTooLarge && n > most {
					t.Errorf("%d bytes were read", n)
				}
				if protocol != "h2" && !res.Close {
					t.Error("the connection is used again")
				}
			})
		}
	}
}

// TestBodyAfterTheSignOut sends the body of a form after its person was admitted and has signed out: nothing is done.
func TestBodyAfterTheSignOut(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	const resource = "/console/resources/default"
	form, found := b.Get(resource).Form(resource + "/tags")
	if !found {
		t.Fatal("the page has no form for tags")
	}
	form.Set("tags", "late = yes")
	transport := s.Client.Transport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	transport.ExpectContinueTimeout = time.Hour // the server asks for the body when it has admitted the person
	asked := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(asked) }})
	body, send := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+resource+"/tags", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Expect", "100-continue")
	for _, c := range b.Jar.Cookies(req.URL) {
		req.AddCookie(c)
	}
	answered := make(chan error, 1)
	var res *http.Response
	go func() {
		res, err = transport.RoundTrip(req)
		answered <- err
	}()
	select {
	case <-asked:
	case err := <-answered:
		t.Fatalf("answered without the body: %v, %v", res, err)
	}
	want(t, "sign out", b.Submit(resource, "/console/signout", nil), http.StatusSeeOther)
	if _, err := io.WriteString(send, form.Encode()); err != nil {
		t.Fatal(err)
	}
	send.Close()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", res.StatusCode)
	}
	wantNot(t, "the resource afterwards", s.Browser(t, "").Get(resource), "late = yes")
}
