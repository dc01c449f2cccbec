package bench_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console/assets"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// What the instance of the console's benchmark holds.
const (
	consoleResources = 1_000
	consoleEntries   = 10_000 // of the audit log, at least
	consoleFaces     = 100_000
	consolePeople    = 50
)

// personsVariable sets how many persons the group of the console's benchmark has: 1000000 takes some minutes more.
// Default: as many as have a face, 100,000.
const personsVariable = "VISAGE_BENCH_PERSONS"

// BenchmarkConsole measures the web console of a real server with 1,000 resources, 10,000 entries in the audit log and
// a large group: each page alone, and many people at once beside applications that identify faces.
func BenchmarkConsole(b *testing.B) {
	h := newHouse(b)
	b.Run("pages", h.benchmarkPages)
	b.Run("people", h.benchmarkPeople)
}

// house is a server with a console that has much to show.
type house struct {
	*servertest.Server
	setting         string   // what it holds, in words
	probes, persons []string // face ids, and the person on each
}

func newHouse(b *testing.B) *house {
	b.Helper()
	persons := consoleFaces
	if text := os.Getenv(personsVariable); text != "" {
		var err error
		if persons, err = strconv.Atoi(text); err != nil || persons < consoleFaces {
			b.Fatalf("%s is %q, want a number of at least %d", personsVariable, text, consoleFaces)
		}
	}
	cfg := server.Config{Dir: filepath.Join(b.TempDir(), "visage"), Recogniser: numbers{}}
	start := time.Now()
	v := newVictim(b, cfg) // with a vault, and a resource under a key in it
	id := v.furnish()
	b.Logf("made the resources and entries in %.0f s", time.Since(start).Seconds())
	cfg.Listen = v.Addr().String() // the vault keeps its address
	if err := v.Stop(); err != nil {
		b.Fatalf("stop the server: %v", err)
	}
	ids := enrolStopped(b, cfg, id, persons)
	cfg.AutoApprove, cfg.Rate, cfg.Logger = true, 100_000, slog.New(slog.DiscardHandler)
	h := &house{
		Server: servertest.Start(b, cfg),
		setting: fmt.Sprintf("%d resources, %d audit entries, a group of %d persons", consoleResources, consoleEntries,
			persons),
	}
	for i := 0; i < consoleFaces; i += consoleFaces / 100 {
		faceID, err := h.detect(b.Context(), numberPhoto(i, true))
		if err != nil {
			b.Fatalf("detect: %v", err)
		}
		h.probes, h.persons = append(h.probes, faceID), append(h.persons, ids[i])
	}
	b.Logf("furnished in %.0f s: %s", time.Since(start).Seconds(), h.setting)
	return h
}

// furnish fills the server by its management plane, and returns the id of the default resource.
func (v *victim) furnish() visage.ResourceID {
	group := "/subscriptions/" + v.Operator().SubscriptionID + "/resourceGroups/default/providers/"
	path := func(i int) string {
		return fmt.Sprintf("%sMicrosoft.CognitiveServices/accounts/resource-%04d", group, i)
	}
	several := func(count int, do func(i int)) {
		var next atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for i := int(next.Add(1)) - 1; i < count && !v.Failed(); i = int(next.Add(1)) - 1 {
					do(i)
				}
			})
		}
		all.Wait()
		if v.Failed() {
			v.FailNow()
		}
	}
	send := func(method, path, body string) {
		status, answer, err := v.try(v.Context(), method, path+"?api-version=2025-09-01", "",
			http.Header{"Authorization": {"Bearer " + v.atARM}}, body)
		if err != nil || status/100 != 2 {
			v.Errorf("%s %s: %d %s, %v", method, path, status, answer, err)
		}
	}
	several(consoleResources, func(i int) {
		send(http.MethodPut, path(i), `{"kind":"Face","location":"local","sku":{"name":"S0"}}`)
	})
	several(consoleEntries-consoleResources, func(i int) { // each is an entry of the audit log, as each creation is
		send(http.MethodPost, path(i%consoleResources)+"/listKeys", "")
	})
	made := v.arm(http.MethodGet, group+"Microsoft.CognitiveServices/accounts/default", "")
	text, _ := made["properties"].(map[string]any)["internalId"].(string)
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(visage.ResourceID{}) {
		v.Fatalf("the id of the default resource is %q, %v", text, err)
	}
	return visage.ResourceID(raw)
}

// enrolStopped enrols persons in the default resource of a server that is not running, which is much faster than over
// HTTPS, and returns their ids.
func enrolStopped(b *testing.B, cfg server.Config, id visage.ResourceID, persons int) []string {
	b.Helper()
	store, err := server.OpenStore(b.Context(), cfg)
	if err != nil {
		b.Fatalf("open the store: %v", err)
	}
	service, err := face.New(face.Config{
		Store:     store,
		Models:    map[string]face.Recogniser{face.DefaultRecognitionModel: numbers{}},
		Resources: func(context.Context) ([]visage.ResourceID, error) { return []visage.ResourceID{id}, nil },
	})
	if err != nil {
		b.Fatalf("make the service: %v", err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var background sync.WaitGroup
	for _, run := range []func(context.Context) error{store.Run, service.Run} {
		background.Go(func() {
			if err := run(ctx); err != nil {
				b.Errorf("enrol: %v", err)
			}
		})
	}
	defer func() {
		cancel()
		background.Wait()
		if err := store.Close(); err != nil {
			b.Errorf("close the store: %v", err)
		}
	}()
	if err := store.Space(sealed.SpaceID(id)).MayGrow(); err != nil {
		b.Fatalf("enrol: %v", err)
	}
	return enrol(b, service, visage.Resource{ID: id, Name: "default", Tier: visage.S0}, persons, consoleFaces)
}

// detect detects the face on a photo in the default resource, and returns its id.
func (h *house) detect(ctx context.Context, photo []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL+"/face/v1.2/detect?returnFaceId=true",
		bytes.NewReader(photo))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Ocp-Apim-Subscription-Key", h.Key)
	resp, err := h.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var faces []struct{ FaceID string }
	if err := json.NewDecoder(resp.Body).Decode(&faces); err != nil || len(faces) != 1 {
		return "", fmt.Errorf("%d faces, status %d, %w", len(faces), resp.StatusCode, err)
	}
	return faces[0].FaceID, nil
}

// benchmarkPages visits every page that the operator finds, one at a time, and reports the slowest.
func (h *house) benchmarkPages(b *testing.B) {
	operator := h.Browser(b, "")
	pages, downloads := h.explore(b, operator)
	times := map[string][]time.Duration{}
	for b.Loop() {
		for range 4 {
			for _, path := range slices.Concat(pages, downloads) {
				start := time.Now()
				p := operator.Get(path)
				took := time.Since(start)
				if p.Status != http.StatusOK {
					b.Fatalf("%s: %d %s", path, p.Status, p.Body)
				}
				times[path] = append(times[path], took)
			}
		}
	}
	slices.SortFunc(pages, func(p, q string) int {
		return int(quantile(times[q], 0.95) - quantile(times[p], 0.95))
	})
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "page\tp50 ms\tp95 ms\tmax ms\tfirst view KB")
	var all []time.Duration
	var largest float64
	var heaviest string
	missed := 0
	for _, path := range pages {
		view := h.firstView(b, operator, path)
		if view > largest {
			largest, heaviest = view, path
		}
		p95 := milliseconds(quantile(times[path], 0.95))
		if p95 > slowest {
			missed++
		}
		all = append(all, times[path]...)
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\n", path, milliseconds(median(times[path])), p95,
			milliseconds(quantile(times[path], 1)), view)
	}
	for _, path := range downloads {
		fmt.Fprintf(w, "%s (download)\t%.1f\t%.1f\t%.1f\t\n", path, milliseconds(median(times[path])),
			milliseconds(quantile(times[path], 0.95)), milliseconds(quantile(times[path], 1)))
	}
	w.Flush()
	fmt.Print("\n", table.String()) // b.Log cuts
	note := fmt.Sprintf("%s; %d pages, each seen %d times over HTTPS; %d of them above %d ms; slowest: %s; of all "+
		"pages together p50 %.1f ms, p95 %.1f ms", h.setting, len(pages), len(times[pages[0]]), missed, slowest,
		pages[0], milliseconds(median(all)), milliseconds(quantile(all, 0.95)))
	atMost(b, "console: slowest page, p95", milliseconds(quantile(times[pages[0]], 0.95)), slowest, "ms", note)
	note = "the page and all that it loads, with the handshake of TLS, by a browser that has nothing of it yet; " +
		"largest: " + heaviest
	if missing := assets.Missing(); len(missing) > 0 {
		note += "; WITHOUT " + strings.Join(missing, " and ") + ": run make setup"
	}
	atMost(b, "console: largest first view", largest, 150, "KB", note)
}

// slowest is how long a page may take at the 95th percentile, in ms.
const slowest = 50

var (
	linkPattern   = regexp.MustCompile(`<a [^>]*href="([^"]*)"`)
	assetPattern  = regexp.MustCompile(`(?:href|src)="(/console/assets/[^"]*)"`)
	searchPattern = regexp.MustCompile(`(?s)<form method="get" action="([^"]*)".*?</form>`)
	typedPattern  = regexp.MustCompile(`<input [^>]*>`)
	namePattern   = regexp.MustCompile(` name="([^"]*)"`)
)

// explore follows links from the first page, and fills every field of forms that search. Of pages of the same kind, it
// takes the first. It returns the paths of pages and of downloads.
func (h *house) explore(b *testing.B, browser *servertest.Browser) (pages, downloads []string) {
	b.Helper()
	seen := map[string]bool{}
	var open []string
	add := func(to string) {
		to, _, _ = strings.Cut(html.UnescapeString(to), "#")
		// a proof waits for the next checkpoint of the audit log
		if kind := pageKind(to); strings.HasPrefix(to, "/console") && !seen[kind] && !strings.Contains(to, "/proof") {
			seen[kind], open = true, append(open, to)
		}
	}
	for add("/console"); len(open) > 0; open = open[1:] {
		p := browser.Get(open[0])
		if p.Status != http.StatusOK {
			b.Fatalf("%s: %d %s", open[0], p.Status, p.Body)
		}
		if !strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
			downloads = append(downloads, open[0])
			continue
		}
		pages = append(pages, open[0])
		for _, m := range linkPattern.FindAllStringSubmatch(p.Body, -1) {
			add(m[1])
		}
		for _, m := range searchPattern.FindAllStringSubmatch(p.Body, -1) {
			for _, input := range typedPattern.FindAllString(m[0], -1) {
				name := namePattern.FindStringSubmatch(input)
				if name == nil || strings.Contains(input, `type="hidden"`) || strings.Contains(input, `type="date"`) {
					continue
				}
				value := "nobody" // what is searched to the end
				if name[1] == "resource" {
					value = "resource-0500"
				}
				add(m[1] + "?" + url.Values{name[1]: {value}}.Encode())
			}
		}
	}
	return pages, downloads
}

// pageKind is a path without the names of what it shows, except those of the resource with the group, of the one with a
// customer's key and of its vault.
func pageKind(path string) string {
	path, query, _ := strings.Cut(path, "?")
	numbered := func(text string) string {
		if strings.ContainsAny(text, "0123456789") {
			return "*"
		}
		return text
	}
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i] = numbered(segments[i])
	}
	values, _ := url.ParseQuery(query) // a link that is wrong is its own kind
	kind := strings.Join(segments, "/")
	for _, name := range slices.Sorted(maps.Keys(values)) {
		kind += " " + name + "=" + numbered(values.Get(name))
	}
	return kind
}

// counted counts the bytes that come over a connection.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

// Read implements net.Conn.
func (c counted) Read(to []byte) (int, error) {
	n, err := c.Conn.Read(to)
	c.bytes.Add(int64(n))
	return n, err
}

// firstView returns how many kilobytes come over the wire for a page and what it loads.
func (h *house) firstView(b *testing.B, as *servertest.Browser, path string) float64 {
	b.Helper()
	var bytes atomic.Int64
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: h.Client.Transport.(*http.Transport).TLSClientConfig.Clone(),
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return counted{conn, &bytes}, err
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Jar: as.Jar}
	get := func(path string) string {
		resp, err := client.Get(h.URL + path) // asks for gzip
		if err != nil {
			b.Fatalf("%s: %v", path, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		return string(body)
	}
	loaded := map[string]bool{}
	for _, m := range assetPattern.FindAllStringSubmatch(get(path), -1) {
		if !loaded[m[1]] {
			loaded[m[1]] = true
			get(m[1])
		}
	}
	return float64(bytes.Load()) / 1000
}

// benchmarkPeople has 50 people click through the console at once, in a process of their own, alone and beside clients
// that identify faces among 100,000 persons.
func (h *house) benchmarkPeople(b *testing.B) {
	const clients, queries, span = 4, 250, 20 * time.Second
	ca, err := os.ReadFile(h.Operator().CAFile)
	if err != nil {
		b.Fatal(err)
	}
	order := peopleOrder{Address: h.URL, CA: string(ca), Pause: time.Second / 4, Span: span}
	for i := range consolePeople {
		person := h.As(b, fmt.Sprintf("Person %d", i), identity.VisageOperator, identity.Owner)
		if i == 0 {
			order.Pages, _ = h.explore(b, person)
		}
		order.Cookies = append(order.Cookies, sessionOf(b, h, person))
	}
	people := startProcess(b, peopleVariable, order)
	visit := func() peopleRound {
		var found peopleRound
		people.end(b, &found)
		if len(found.Times) == 0 {
			b.Fatalf("the people saw nothing in %s: %s", span, found.Errors)
		}
		return found
	}
	identify := startClients(b, clientOrder{
		Address: h.URL, CA: string(ca), Key: h.Key, Clients: clients, Queries: queries, Probes: h.probes,
		Persons: h.persons,
	})
	identify() // loads the gallery
	during := func(span time.Duration) []time.Duration {
		var times []time.Duration
		for start := time.Now(); time.Since(start) < span; {
			times = append(times, identify()...)
		}
		return times
	}
	for done := false; b.Loop(); done = true {
		if done {
			continue // one run is enough
		}
		people.begin(b)
		quiet := visit()
		alone := during(span / 2)
		people.begin(b)
		beside := during(span)
		busy := visit()
		alone = append(alone, during(span/2)...)

		note := func(of peopleRound) string {
			return fmt.Sprintf("%s; %d pages in %.0f s by %d people in a process of their own; p50 %.1f ms, p99 %.1f "+
				"ms", h.setting, len(of.Times), span.Seconds(), consolePeople, milliseconds(median(of.Times)),
				milliseconds(quantile(of.Times, 0.99)))
		}
		for what, of := range map[string]peopleRound{
			"console: 50 people": quiet, "console: 50 people beside identify": busy,
		} {
			atMost(b, what+", p95", milliseconds(quantile(of.Times, 0.95)), slowest, "ms", note(of))
			atMost(b, what+", errors", float64(len(of.Errors)), 0, "errors", strings.Join(of.Errors[:min(3,
				len(of.Errors))], "; "))
		}
		first, then := milliseconds(quantile(alone, 0.99)), milliseconds(quantile(beside, 0.99))
		said := fmt.Sprintf("%d queries by %d clients in a process of their own, p50 %.2f ms; alone %d, p50 %.2f ms, "+
			"p99 %.2f ms; %d processors", len(beside), clients, milliseconds(median(beside)), len(alone),
			milliseconds(median(alone)), first, runtime.GOMAXPROCS(0))
		atMost(b, "identify: beside 50 people at the console, p99", then, 5, "ms", said)
		told(b, "identify: beside 50 people at the console against alone, p99", then/first, "times", said)
	}
}

// sessionOf returns the cookies of a browser as a header.
func sessionOf(b *testing.B, h *house, browser *servertest.Browser) string {
	b.Helper()
	at, err := url.Parse(h.URL)
	if err != nil {
		b.Fatal(err)
	}
	var pairs []string
	for _, c := range browser.Jar.Cookies(at) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// peopleOrder tells people what to look at.
type peopleOrder struct {
	Address, CA string
	Cookies     []string      // of each
	Pages       []string      // paths, from which each chooses by chance
	Pause       time.Duration // between the clicks of one of them
	Span        time.Duration // of a round
}

// peopleRound is what people saw in a round.
type peopleRound struct {
	Times  []time.Duration
	Errors []string
}

// ready gives each of the people a connection of their own, as browsers have.
func (o peopleOrder) ready() (func() peopleRound, error) {
	secure, err := trust(o.CA)
	if err != nil {
		return nil, err
	}
	browsers := make([]*http.Client, len(o.Cookies))
	for i := range browsers {
		browsers[i] = &http.Client{Transport: &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: secure.Clone(),
		}}
	}
	return func() peopleRound { return o.round(browsers) }, nil
}

func (o peopleOrder) round(browsers []*http.Client) peopleRound {
	each := make([]peopleRound, len(browsers))
	begin := time.Now()
	var all sync.WaitGroup
	for i, browser := range browsers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 7))
			due := begin.Add(time.Duration(random.Int64N(int64(o.Pause))))
			for ; due.Before(begin.Add(o.Span)); due = due.Add(o.Pause) {
				start := due // a click waits while the page before it is slow, and that is part of its time
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
					start = time.Now()
				}
				if err := o.click(browser, o.Cookies[i], o.Pages[random.IntN(len(o.Pages))]); err != nil {
					each[i].Errors = append(each[i].Errors, err.Error())
				}
				each[i].Times = append(each[i].Times, time.Since(start))
			}
		})
	}
	all.Wait()
	var whole peopleRound
	for _, r := range each {
		whole.Times, whole.Errors = append(whole.Times, r.Times...), append(whole.Errors, r.Errors...)
	}
	return whole
}

// click gets a page.
func (o peopleOrder) click(browser *http.Client, cookie, path string) error {
	req, err := http.NewRequest(http.MethodGet, o.Address+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Cookie", cookie)
	req.Header.Set("Accept", "text/html")
	resp, err := browser.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %.200s, %w", path, resp.StatusCode, body, err)
	}
	return nil
}
