package faceapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/faceapi"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

func TestMain(m *testing.M) {
	// The first randomness of a process must not be drawn inside a synctest bubble: the FIPS module times its source.
	if _, err := rand.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// versions are the base paths that are served.
var versions = []string{"/face/v1.0", "/face/v1.2"}

// The resources of a faceServer, their keys and their host names.
var (
	alice = visage.Resource{ID: visage.ResourceID{1}, Name: "alice", Tier: visage.S0}
	bob   = visage.Resource{ID: visage.ResourceID{2}, Name: "bob", Tier: visage.F0}
)

// keys maps the keys of a faceServer to its resources. A host whose first label names a resource accepts only the keys
// of that resource.
type keys struct {
	mu    sync.Mutex
	byKey map[string]visage.Resource
}

func (k *keys) Resource(_ context.Context, key, host string) (visage.Resource, visage.Principal, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.byKey[key]
	label, _, _ := strings.Cut(host, ".")
	if !ok || (label == alice.Name || label == bob.Name) && label != r.Name {
		return visage.Resource{}, visage.Principal{},
			visage.Refuse(visage.Unauthenticated, "", "The key opens no resource.")
	}
	if key == "disabled" {
		return visage.Resource{}, visage.Principal{},
			visage.Refuse(visage.Denied, "AuthenticationTypeDisabled", "No keys here.")
	}
	return r, visage.Principal{Method: "key", KeyName: "Key1", Resource: r.ID}, nil
}

// rotate makes a key invalid.
func (k *keys) rotate(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byKey, key)
}

// faceServer is a running server with the plane and a Face service, whose recogniser is fake.
type faceServer struct {
	*httptest.Server
	service *face.Service
	store   *sealed.Store
	keys    *keys
	plane   api.Plane
	log     *safeBuffer
	specs   specs
}

type option func(*api.Config, *bool)

// idle disables the trainings that are requested.
func idle(_ *api.Config, run *bool) { *run = false }

// tierRates applies the rates of the tiers, which are off by default in a faceServer.
func tierRates(c *api.Config, _ *bool) { c.Rate = nil }

func newFaceServer(t testing.TB, options ...option) *faceServer {
	t.Helper()
	r := &faceServer{
		store: newStore(t), log: &safeBuffer{}, specs: loadSpecs(t),
		keys: &keys{byKey: map[string]visage.Resource{"alice1": alice, "alice2": alice, "bob1": bob,
			"disabled": alice}},
	}
	models := map[string]face.Recogniser{}
	for _, name := range []string{"recognition_01", "recognition_02", "recognition_03", "recognition_04"} {
		models[name] = fake{bare: name == "recognition_02", wide: name == "recognition_03"}
	}
	var err error
	r.service, err = face.New(face.Config{
		Store: r.store, Models: models,
		Resources: func(context.Context) ([]visage.ResourceID, error) {
			return []visage.ResourceID{alice.ID, bob.ID},
				nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.service.Close)
	if r.plane, err = faceapi.New(faceapi.Config{Service: r.service, AllowPrivate: true}); err != nil {
		t.Fatal(err)
	}
	origin, err := visage.ParseOrigin("https://face.example:8443")
	if err != nil {
		t.Fatal(err)
	}
	cfg := api.Config{
		Origin: origin,
		Planes: []api.Plane{r.plane}, Keys: r.keys, Logger: slog.New(slog.NewJSONHandler(r.log, nil)),
		Rate: func(visage.Resource) (float64, int) { return -1, 0 },
	}
	run := true
	for _, o := range options {
		o(&cfg, &run)
	}
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if run {
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := r.service.Run(ctx); err != nil {
				t.Errorf("run face service: %v", err)
			}
		})
		t.Cleanup(func() { cancel(); running.Wait() })
	}
	r.Server = httptest.NewTLSServer(h)
	t.Cleanup(r.Close)
	return r
}

// call is one request.
type call struct {
	method, path string
	json         any    // the body; a string is sent as it is
	image        string // the body, as application/octet-stream
	header       http.Header
	key          string // "" is alice's first, "-" none
	host         string // "" is the server's address
}

// reply is the answer to a call, after the checks that every answer must pass.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r *faceServer) do(t testing.TB, c call) reply {
	t.Helper()
	var body io.Reader
	header := http.Header{}
	switch v := c.json.(type) {
	case nil:
	case string:
		body = strings.NewReader(v)
		header.Set("Content-Type", "application/json")
	default:
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(data)
		header.Set("Content-Type", "application/json")
	}
	if c.image != "" {
		body = strings.NewReader(c.image)
		header.Set("Content-Type", "application/octet-stream")
	}
	req, err := http.NewRequestWithContext(t.Context(), c.method, r.URL+c.path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	for name, values := range c.header {
		req.Header[name] = values
	}
	switch c.key {
	case "":
		req.Header.Set(faceapi.KeyHeader, "alice1")
	case "-":
	default:
		req.Header.Set(faceapi.KeyHeader, c.key)
	}
	req.Host = c.host
	return r.send(t, req)
}

// send sends a request and checks its answer against the contract's ground rules and the official specification.
func (r *faceServer) send(t testing.TB, req *http.Request) reply {
	t.Helper()
	client := *r.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Timeout = time.Minute
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := reply{res.StatusCode, res.Header, string(data)}
	if err := checkGroundRules(a); err != "" {
		t.Errorf("%s %s: %s\n%d %s", req.Method, req.URL.Path, err, a.status, a.body)
	}
	r.specs.check(t, req.Method, req.URL.Path, a)
	return a
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// checkGroundRules checks contract §1.2 to §1.4, for every answer.
func checkGroundRules(a reply) string {
	switch {
	case !guid.MatchString(a.header.Get("apim-request-id")):
		return "no request id"
	case a.header.Get("Content-Length") != strconv.Itoa(len(a.body)):
		return "content length " + a.header.Get("Content-Length")
	case a.body == "" && a.header.Get("Content-Type") != "":
		return "a content type without content"
	case a.body != "" && a.header.Get("Content-Type") != "application/json; charset=utf-8":
		return "content type " + a.header.Get("Content-Type")
	case strings.Contains(a.body, "canary"):
		return "the answer contains internal text"
	}
	if a.status < 300 {
		if a.status != http.StatusOK && a.status != http.StatusAccepted {
			return "a success status that clients do not accept"
		}
		return ""
	}
	var problem struct {
		Error struct {
			Code       string           `json:"code"`
			Message    string           `json:"message"`
			InnerError *json.RawMessage `json:"innererror"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil {
		return "no error body: " + err.Error()
	}
	switch {
	case problem.Error.Code == "" || problem.Error.Code != a.header.Get("x-ms-error-code"):
		return "the code differs from the header's " + a.header.Get("x-ms-error-code")
	case !strings.HasSuffix(problem.Error.Message, "."):
		return "the message is no sentence"
	case a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") == "":
		return "no Retry-After"
	case (problem.Error.InnerError != nil) != (problem.Error.Code == "InvalidRequest"):
		return "an inner error where there is none, or none where there is"
	}
	return ""
}

// want fails the test unless the answer has the status and the code; an empty code is a success.
func (a reply) want(t testing.TB, status int, code string) reply {
	t.Helper()
	if a.status != status || a.header.Get("x-ms-error-code") != code {
		t.Fatalf("got %d %s, want %d %s", a.status, a.body, status, code)
	}
	return a
}

// decode reads a body, strictly.
func decode[T any](t testing.TB, a reply) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// safeBuffer is a buffer that a server writes to while a test reads.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type object = map[string]any

// Short forms of what most tests need.

func (r *faceServer) put(t testing.TB, path string, body any) {
	t.Helper()
	if a := r.do(t, call{method: "PUT", path: path, json: body}).want(t, 200, ""); a.body != "" {
		t.Errorf("PUT %s: got a body %s", path, a.body)
	}
}

func (r *faceServer) get(t testing.TB, path string) reply {
	t.Helper()
	return r.do(t, call{method: "GET", path: path}).want(t, 200, "")
}

func (r *faceServer) post(t testing.TB, path string, body any) reply {
	t.Helper()
	return r.do(t, call{method: "POST", path: path, json: body}).want(t, 200, "")
}

type detected struct {
	FaceID           string          `json:"faceId"`
	RecognitionModel string          `json:"recognitionModel"`
	FaceRectangle    map[string]int  `json:"faceRectangle"`
	FaceLandmarks    json.RawMessage `json:"faceLandmarks"`
	FaceAttributes   json.RawMessage `json:"faceAttributes"`
}

// detect returns the ids of the faces on a photo.
func (r *faceServer) detect(t testing.TB, base, photo string, query ...string) []string {
	t.Helper()
	path := base + "/detect?" + strings.Join(query, "&")
	var ids []string
	for _, f := range decode[[]detected](t, r.do(t, call{method: "POST", path: path, image: photo}).want(t, 200, "")) {
		ids = append(ids, f.FaceID)
	}
	return ids
}

// addFace enrols a photo and returns the persisted face's id.
func (r *faceServer) addFace(t testing.TB, path, photo string) string {
	t.Helper()
	a := r.do(t, call{method: "POST", path: path, image: photo}).want(t, 200, "")
	return decode[map[string]string](t, a)["persistedFaceId"]
}

// enrol makes a person with the faces of some photos.
func (r *faceServer) enrol(t testing.TB, group, name string, photos ...string) string {
	t.Helper()
	id := decode[map[string]string](t, r.post(t, group+"/persons", object{"name": name}))["personId"]
	for _, photo := range photos {
		r.addFace(t, group+"/persons/"+id+"/persistedfaces", photo)
	}
	return id
}

type training struct {
	Status      string  `json:"status"`
	Created     string  `json:"createdDateTime"`
	LastAction  *string `json:"lastActionDateTime"`
	LastSuccess *string `json:"lastSuccessfulTrainingDateTime"`
	Message     string  `json:"message"`
}

// train trains a collection and waits for the end.
func (r *faceServer) train(t testing.TB, path string) training {
	t.Helper()
	r.do(t, call{method: "POST", path: path + "/train"}).want(t, 202, "")
	for {
		state := decode[training](t, r.get(t, path+"/training"))
		if state.Status == "succeeded" || state.Status == "failed" {
			return state
		}
	}
}
