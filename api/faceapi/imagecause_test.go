package faceapi_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/faceapi"
)

// TestFetchNamesTheCause checks that each reason why an image cannot be downloaded has its own sentence, which reveals
// nothing private.
func TestFetchNamesTheCause(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/private":
			http.Redirect(w, r, "http://10.1.2.3/", http.StatusFound)
		case "/secret":
			w.WriteHeader(http.StatusForbidden)
		case "/none":
			w.WriteHeader(http.StatusNotFound)
		case "/broken":
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS() // with a certificate of an unknown authority
	defer secure.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	where := map[string]string{
		":80": plain.Listener.Addr().String(), ":443": secure.Listener.Addr().String(), ":81": closed.Addr().String(),
		":444": plain.Listener.Addr().String(),
	}
	fetch := faceapi.NewFetch(
		func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if ip, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{ip}, nil
			}
			switch host {
			case "photos.example":
				return []netip.Addr{netip.MustParseAddr(publicIP)}, nil
			case "inside.example":
				return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
			case "unsure.example":
				return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
		func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, where[address[strings.LastIndex(address, ":"):]])
		})
	for address, words := range map[string]string{
		"http://nobody.example/":         "does not resolve",
		"http://inside.example/":         "does not resolve to a public address",
		"http://unsure.example/":         "no name server answered",
		"http://192.168.0.7/":            "private or reserved network",
		"http://photos.example/private":  "private or reserved network",
		"http://photos.example:81/":      "no connection",
		"https://photos.example/":        "certificate",
		"https://photos.example:444/":    "does not speak TLS",
		"http://photos.example/secret":   "403: it must give the image to anyone",
		"http://photos.example/none":     "404: there is nothing",
		"http://photos.example/broken":   "502",
		"http://photos.example/":         "empty body",
		"data:image/png;base64,iVBORw0K": "data URI is not an address",
		"ftp://photos.example/a.jpg":     "http:// or https://",
	} {
		_, err := fetch(t.Context(), address)
		refusal, ok := errors.AsType[*visage.Refusal](err)
		if !ok || refusal.Code != "InvalidURL" || !strings.Contains(refusal.Message, words) {
			t.Errorf("%s: %v, want InvalidURL with %q", address, err, words)
		} else if strings.Contains(refusal.Message, ".example") || strings.Contains(refusal.Message, "10.") {
			t.Errorf("%s: the sentence reveals an address: %s", address, refusal.Message)
		}
	}
}

// TestBodiesOfTheWrongTypeAreExplained checks that refusals of images with a wrong content type say how to send them.
func TestBodiesOfTheWrongTypeAreExplained(t *testing.T) {
	r := newFaceServer(t)
	send := func(contentType, body string) reply {
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.URL+"/face/v1.2/detect", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(faceapi.KeyHeader, "alice1")
		req.Header.Set("Content-Type", contentType)
		return r.send(t, req)
	}
	for _, image := range []string{"\xff\xd8\xff\xe0", "\x89PNG\r\n", "GIF89a", "RIFF\x00\x00\x00\x00WEBP",
		"\x00\x00\x00\x18ftypheic"} {
		a := send("application/json", image+strings.Repeat("x", 2000))
		a.want(t, 400, "BadArgument")
		if !strings.Contains(a.body, "application/octet-stream") {
			t.Errorf("%q: %s", image, a.body)
		}
	}
	form := send("multipart/form-data; boundary=x", "--x--")
	form.want(t, 415, "UnsupportedMediaType")
	picture := send("image/jpeg", "\xff\xd8\xff\xe0")
	picture.want(t, 415, "UnsupportedMediaType")
	if !strings.Contains(form.body, "without a form") ||
		!strings.Contains(picture.body, "as application/octet-stream") {
		t.Errorf("told %s and %s", form.body, picture.body)
	}
}
