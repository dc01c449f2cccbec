package faceapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/faceapi"
)

func TestPublic(t *testing.T) {
	for _, row := range []struct {
		address string
		want    bool
	}{
		{"93.184.216.34", true},
		{"8.8.8.8", true},
		{"2606:2800:220:1::1", true},
		{"::ffff:8.8.8.8", true},
		{"64:ff9b::808:808", true}, // NAT64 of 8.8.8.8

		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"127.0.0.1", false},
		{"127.255.255.254", false},
		{"10.0.0.1", false},
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"192.168.1.1", false},
		{"100.64.0.1", false},
		{"100.127.255.255", false},
		{"169.254.169.254", false}, // where clouds serve credentials
		{"168.63.129.16", false},
		{"192.0.0.8", false},
		{"192.0.2.1", false},
		{"192.88.99.1", false},
		{"198.18.0.1", false},
		{"198.51.100.1", false},
		{"203.0.113.1", false},
		{"224.0.0.1", false},
		{"239.255.255.255", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},

		{"::", false},
		{"::1", false},
		{"::127.0.0.1", false},
		{"::ffff:127.0.0.1", false},
		{"::ffff:10.0.0.1", false},
		{"::ffff:169.254.169.254", false},
		{"::ffff:0:127.0.0.1", false}, // the older form of translated addresses
		{"64:ff9b::7f00:1", false},    // NAT64 of 127.0.0.1
		{"64:ff9b::a9fe:a9fe", false}, // NAT64 of 169.254.169.254
		{"64:ff9b:1::808:808", false},
		{"100::1", false},
		{"2001::1", false},           // Teredo
		{"2001:db8::1", false},       // documentation
		{"2002:7f00:1::", false},     // 6to4 of 127.0.0.1
		{"2002:808:808::1", false},   // 6to4 of 8.8.8.8: through an unknown relay
		{"3fff::1", false},           // documentation
		{"5f00::1", false},           // segment routing
		{"fc00::1", false},           // unique local
		{"fd12:3456:789a::1", false}, // unique local
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"2606:2800:220:1::1%eth0", false},
		{"fec0::1", false}, // site local, deprecated
		{"ff02::1", false},
	} {
		if got := faceapi.Public(netip.MustParseAddr(row.address)); got != row.want {
			t.Errorf("%s: got %t, want %t", row.address, got, row.want)
		}
	}
	if faceapi.Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// fakeNetwork is a network of names, in which every public address leads to one server.
type fakeNetwork struct {
	server *httptest.Server

	mu      sync.Mutex
	names   map[string][][]string // results of the lookups of a name, the last one repeated
	lookups int
	dialled []string
}

func newFakeNetwork(t *testing.T, h http.Handler) *fakeNetwork {
	w := &fakeNetwork{names: map[string][][]string{}}
	w.server = httptest.NewServer(h)
	t.Cleanup(w.server.Close)
	return w
}

func (w *fakeNetwork) name(host string, answers ...[]string) { w.names[host] = answers }

func (w *fakeNetwork) lookup(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	answers := w.names[host]
	if len(answers) == 0 {
		return nil, errors.New("no such host: canary")
	}
	if len(answers) > 1 {
		w.names[host] = answers[1:]
	}
	var addresses []netip.Addr
	for _, a := range answers[0] {
		addresses = append(addresses, netip.MustParseAddr(a))
	}
	return addresses, nil
}

func (w *fakeNetwork) connect(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialled = append(w.dialled, address)
	w.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, w.server.Listener.Addr().String())
}

func (w *fakeNetwork) fetch(t *testing.T, address string) ([]byte, error) {
	t.Helper()
	return faceapi.NewFetch(w.lookup, w.connect)(t.Context(), address)
}

// wantRefusal checks that err is a refusal that a client may see.
func wantRefusal(t *testing.T, err error, code string) {
	t.Helper()
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok || refusal.Kind != visage.Invalid || refusal.Code != code {
		t.Fatalf("got %v, want a refusal %s", err, code)
	}
	for _, secret := range []string{"canary", "127.0.0.1", "10.0.0.1", "refused", "::1", "lookup"} {
		if strings.Contains(refusal.Message, secret) {
			t.Errorf("the sentence reveals %q: %s", secret, refusal.Message)
		}
	}
}

const (
	publicIP  = "93.184.216.34"
	publicIP6 = "2606:2800:220:1::1"
)

func TestFetchReturnsTheImage(t *testing.T) {
	var got http.Header
	w := newFakeNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		io.WriteString(w, "image of "+r.Host)
	}))
	w.name("photos.example", []string{"10.0.0.1", publicIP6, publicIP})
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be used
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	data, err := w.fetch(t, "http://photos.example:8080/a.jpg?x=1#fragment")
	if err != nil || string(data) != "image of photos.example:8080" {
		t.Fatalf("got %q, %v", data, err)
	}
	if want := "[" + publicIP6 + "]:8080"; len(w.dialled) != 1 || w.dialled[0] != want {
		t.Errorf("dialled %v, want only %s: the private address skipped, the first public one used", w.dialled,
			want)
	}
	for _, name := range []string{"Authorization", "Cookie", "Referer"} {
		if got.Get(name) != "" {
			t.Errorf("sent the header %s", name)
		}
	}
}

func TestFetchRefusesAddresses(t *testing.T) {
	w := newFakeNetwork(t, http.NotFoundHandler())
	w.name("private.example", []string{"10.0.0.1", "::1", "::ffff:127.0.0.1"})
	for _, address := range []string{
		"", "photo.jpg", "//photos.example/a.jpg", "http://", "http:///a.jpg", "ftp://photos.example/a.jpg",
		"file:///etc/passwd",
		"data:image/png;base64,AAAA", "gopher://photos.example/", "http://user@photos.example/a.jpg",
		"http://user:canary@photos.example/a.jpg", "http://photos.example:port/a.jpg", "http://[::1/a.jpg",
		"http://a b/",
		"http://%zz/", "javascript:alert(1)", "http://photos.example/\x00",
		"http://" + strings.Repeat("a", 5000) + ".example/",
		"http://private.example/a.jpg", "http://127.0.0.1/a.jpg", "http://127.0.0.1:22/", "http://[::1]/",
		"http://[::ffff:127.0.0.1]/",
		"http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/", "http://169.254.169.254/latest/meta-data/",
		"http://0.0.0.0/",
		"http://localhost/", "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://unknown.example/",
	} {
		t.Run(address[:min(len(address), 40)], func(t *testing.T) {
			_, err := w.fetch(t, address)
			wantRefusal(t, err, "InvalidURL")
		})
	}
	if len(w.dialled) != 0 {
		t.Errorf("dialled %v", w.dialled)
	}
}

func TestFetchTellsPrivateAndUnknownNamesAlike(t *testing.T) {
	w := newFakeNetwork(t, http.NotFoundHandler())
	w.name("private.example", []string{"10.0.0.1"})
	_, private := w.fetch(t, "http://private.example/")
	_, unknown := w.fetch(t, "http://unknown.example/")
	if private == nil || unknown == nil || private.Error() != unknown.Error() {
		t.Errorf("a prober can distinguish them:\n%v\n%v", private, unknown)
	}
}

func TestFetchConnectsToTheAddressItChecked(t *testing.T) {
	w := newFakeNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "image")
	}))
	w.name("rebinding.example", []string{publicIP}, []string{"127.0.0.1"})
	if _, err := w.fetch(t, "http://rebinding.example/"); err != nil {
		t.Fatal(err)
	}
	if w.lookups != 1 || len(w.dialled) != 1 || w.dialled[0] != publicIP+":80" {
		t.Errorf("%d lookups, dialled %v; want one lookup and the address it gave", w.lookups, w.dialled)
	}
	_, err := w.fetch(t, "http://rebinding.example/") // the second fetch: now the name resolves to loopback
	wantRefusal(t, err, "InvalidURL")
	if len(w.dialled) != 1 {
		t.Errorf("dialled %v after the name turned to loopback", w.dialled)
	}
}

func TestFetchChecksEveryRedirect(t *testing.T) {
	for _, target := range []string{
		"http://127.0.0.1/", "http://[::1]:8080/", "http://private.example/", "http://rebinding.example/",
		"http://[::ffff:10.0.0.1]/",
		"file:///etc/passwd", "ftp://photos.example/", "http://user:canary@photos.example/", "http://169.254.169.254/",
	} {
		t.Run(target, func(t *testing.T) {
			w := newFakeNetwork(t, http.RedirectHandler(target, http.StatusFound))
			w.name("photos.example", []string{publicIP})
			w.name("private.example", []string{"10.0.0.1"})
			w.name("rebinding.example", []string{"127.0.0.1"})
			_, err := w.fetch(t, "http://photos.example/")
			wantRefusal(t, err, "InvalidURL")
			if len(w.dialled) != 1 {
				t.Errorf("dialled %v, want the first address only", w.dialled)
			}
		})
	}
}

func TestFetchFollowsAFewRedirects(t *testing.T) {
	for _, row := range []struct {
		hops int
		fine bool
	}{{5, true}, {6, false}} {
		t.Run(fmt.Sprint(row.hops), func(t *testing.T) {
			w := newFakeNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Referer") != "" {
					t.Errorf("sent a referrer to %s", r.URL)
				}
				var n int
				fmt.Sscanf(r.URL.Path, "/%d", &n)
				if n == 0 {
					io.WriteString(w, "image")
					return
				}
				http.Redirect(w, r, fmt.Sprintf("/%d?secret=1", n-1), http.StatusFound)
			}))
			w.name("photos.example", []string{publicIP})
			_, err := w.fetch(t, fmt.Sprintf("http://photos.example/%d?secret=1", row.hops))
			if row.fine && err != nil {
				t.Fatal(err)
			}
			if !row.fine {
				wantRefusal(t, err, "InvalidURL")
			}
		})
	}
}

func TestFetchBoundsTheImage(t *testing.T) {
	const most = 6 << 20
	for _, row := range []struct {
		name    string
		size    int
		chunked bool
		code    string
	}{
		{"exactly the most", most, false, ""},
		{"exactly the most, chunked", most, true, ""},
		{"one more", most + 1, false, "InvalidImageSize"},
		{"one more, chunked", most + 1, true, "InvalidImageSize"},
		{"endless", 1 << 30, true, "InvalidImageSize"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newFakeNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !row.chunked {
					w.Header().Set("Content-Length", fmt.Sprint(row.size))
				}
				block := make([]byte, 64<<10)
				for sent := 0; sent < row.size && r.Context().Err() == nil; sent += len(block) {
					if _, err := w.Write(block[:min(len(block), row.size-sent)]); err != nil {
						return // the fetcher has closed the connection
					}
				}
			}))
			w.name("photos.example", []string{publicIP})
			data, err := w.fetch(t, "http://photos.example/")
			if row.code != "" {
				wantRefusal(t, err, row.code)
				return
			}
			if err != nil || len(data) != row.size {
				t.Errorf("got %d bytes, %v; want %d", len(data), err, row.size)
			}
		})
	}
}

func TestFetchOfWhatIsNotThere(t *testing.T) {
	for _, status := range []int{204, 206, 304, 401, 403, 404, 500} {
		w := newFakeNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		w.name("photos.example", []string{publicIP})
		_, err := w.fetch(t, "http://photos.example/")
		wantRefusal(t, err, "InvalidURL")
	}
}

func TestFetchOfABrokenServer(t *testing.T) {
	lookup := func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr(publicIP)}, nil
	}
	for _, row := range []struct{ name, says string }{
		{"hangs up", ""},
		{"speaks no HTTP", "SSH-2.0-canary\r\n"},
		{"breaks off", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"},
		{"endless header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)},
	} {
		t.Run(row.name, func(t *testing.T) {
			fetch := faceapi.NewFetch(lookup, func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() {
					defer server.Close()
					http.ReadRequest(bufio.NewReader(server)) // the content does not matter
					io.WriteString(server, row.says)          // fails when the client has closed the connection
				}()
				return client, nil
			})
			_, err := fetch(t.Context(), "http://photos.example/")
			wantRefusal(t, err, "InvalidURL")
		})
	}
}

func TestFetchWaitsSoLong(t *testing.T) {
	for _, row := range []struct{ name, says string }{
		{"no answer", ""},
		{"stalls in the image", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fetch := faceapi.NewFetch(
					func(context.Context, string, string) ([]netip.Addr, error) {
						return []netip.Addr{netip.MustParseAddr(publicIP)}, nil
					},
					func(context.Context, string, string) (net.Conn, error) {
						client, server := net.Pipe()
						go func() {
							http.ReadRequest(bufio.NewReader(server))
							io.WriteString(server, row.says)
							io.Copy(io.Discard, server) // until the client hangs up
						}()
						return client, nil
					})
				_, err := fetch(t.Context(), "http://photos.example/")
				wantRefusal(t, err, "InvalidURL")
				if !strings.Contains(err.Error(), "in time") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestFetchEndsWithTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fetch := faceapi.NewFetch(
		func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(publicIP)}, nil
		},
		func(ctx context.Context, _, _ string) (net.Conn, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		})
	if _, err := fetch(ctx, "http://photos.example/"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the request's own end", err)
	}
}
