package bench_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/faceapi"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/timing"
)

const groupID = "everybody"

// account is the resource of the benchmark.
var account = visage.Resource{ID: visage.ResourceID{1}, Name: "bench", Tier: visage.S0}

// BenchmarkIdentify identifies a detected face among 10,000 persons of a trained group on the embedded engine: through
// the service alone, and over HTTPS. Vision is not included: the photos here are numbers, and detecting the probes is
// not timed.
func BenchmarkIdentify(b *testing.B) {
	const enrolled = 10_000
	crowd := newCrowd(b, enrolled)
	b.Run("service", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			for range 50 {
				i := len(times) % len(crowd.probes)
				start := time.Now()
				answer, err := crowd.service.Identify(b.Context(), account, face.IdentifyQuery{
					FaceIDs: crowd.probes[i : i+1], LargePersonGroupID: groupID, MaxCandidates: 1,
				})
				times = append(times, time.Since(start))
				if err != nil {
					b.Fatalf("identify: %v", err)
				}
				if len(answer) != 1 || len(answer[0].Candidates) != 1 ||
					answer[0].Candidates[0].PersonID != crowd.persons[i] {
					b.Fatalf("identify: %+v, want person %s", answer, crowd.persons[i])
				}
			}
		}
		reportIdentify(b, "identify: service", times, enrolled)
	})
	b.Run("https", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			for range 50 {
				i := len(times) % len(crowd.probes)
				start := time.Now()
				person := crowd.ask(b, crowd.probes[i])
				times = append(times, time.Since(start))
				if person != crowd.persons[i] {
					b.Fatalf("identify: %s, want person %s", person, crowd.persons[i])
				}
			}
		}
		reportIdentify(b, "identify: over HTTPS", times, enrolled)
	})
}

// BenchmarkIdentifyMany enrols 100,000 persons through the store, trains, and has four clients of another process
// identify detected faces over HTTPS at the same time. Every answer is checked. In turns, the clients send the same
// requests to a bare server, whose numbers are the floor: the share of the time that the machine, the clients and HTTPS
// take.
func BenchmarkIdentifyMany(b *testing.B) {
	const enrolled, clients, queries = 100_000, 4, 250
	crowd := newCrowd(b, enrolled)
	crowd.ask(b, crowd.probes[0]) // loads the gallery
	bare := newBareServer(b, crowd)
	rounds := make([]func() []time.Duration, 2)
	for i, web := range []*httptest.Server{crowd.web, bare} {
		rounds[i] = startClients(b, clientsOf(web, crowd, clients, queries))
		rounds[i]() // connects
	}
	var times, floor []time.Duration
	for b.Loop() {
		times = append(times, rounds[0]()...)
		floor = append(floor, rounds[1]()...)
	}
	p99, floor99 := milliseconds(quantile(times, 0.99)), milliseconds(quantile(floor, 0.99))
	note := fmt.Sprintf(
		"%d queries by %d clients in a process of their own; p50 %.2f ms; a bare server with the same work: p50 %.2f "+
			"ms, p99 %.2f ms",
		len(times), clients, milliseconds(median(times)), milliseconds(median(floor)), floor99)
	atMost(b, "identify: over HTTPS among 100,000, p99", p99, 3, "ms", note)
	atMost(b, "identify: over HTTPS among 100,000, p99 against a bare server's", p99/floor99, 1.25, "times", note)
}

// newBareServer starts an HTTPS server that answers the probes of a crowd with the same bytes as the service after the
// same amount of computing, in one goroutine a request, but without a store, a gallery or locks, and with almost no
// garbage.
func newBareServer(b *testing.B, c *crowd) *httptest.Server {
	b.Helper()
	answers := make(map[string]*httptest.ResponseRecorder)
	var times []time.Duration
	for range 5 { // the clients connect later, so that one request at a time is served
		for _, faceID := range c.probes {
			req, err := identifyRequest(b.Context(), c.web.URL, anyText, faceID)
			if err != nil {
				b.Fatal(err)
			}
			answer := httptest.NewRecorder()
			start := time.Now()
			c.web.Config.Handler.ServeHTTP(answer, req)
			times = append(times, time.Since(start))
			answers[identifyBody(faceID)] = answer
		}
	}
	// Work is counted in steps, not in elapsed time: a thread without a processor does no work.
	const trial = 20_000
	var trials []time.Duration
	for range 101 {
		start := time.Now()
		compute(trial)
		trials = append(trials, time.Since(start))
	}
	steps := int(trial * float64(median(times)) / float64(median(trials)))
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		answer := answers[string(body)]
		if err != nil || answer == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		compute(steps)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes()) // the client reports an error of the write
	}))
	b.Cleanup(web.Close)
	return web
}

// computed keeps the compiler from leaving compute out.
var computed atomic.Uint64

// compute keeps a processor busy for the given number of steps.
func compute(steps int) {
	x := uint64(steps)
	for range steps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	computed.Store(x)
}

func reportIdentify(b *testing.B, what string, times []time.Duration, enrolled int) {
	b.Helper()
	note := fmt.Sprintf("%d queries among %d persons; p95 %.2f ms", len(times), enrolled,
		milliseconds(quantile(times, 0.95)))
	atMost(b, what+", p50", milliseconds(median(times)), 2, "ms", note)
}

// crowd is a service with a trained group, and detected faces of some of its persons.
type crowd struct {
	dir     string // of the data
	store   *sealed.Store
	service *face.Service
	web     *httptest.Server
	probes  []string // face ids
	persons []string // the person on each
}

func newCrowd(b *testing.B, enrolled int) *crowd {
	b.Helper()
	dir := b.TempDir()
	store := openStore(b, dir)
	makeSpace(b, store, account.ID)
	c := &crowd{dir: filepath.Join(dir, "data"), store: store, service: newService(b, store)}
	c.gather(b, enrolled)
	c.web = openAPI(b, c.service)
	return c
}

// gather enrols persons in the benchmark's group, trains it, and detects faces of 100 of them.
func (c *crowd) gather(b *testing.B, enrolled int) {
	b.Helper()
	ids := enrol(b, c.service, account, enrolled, enrolled)
	for i := 0; i < enrolled; i += enrolled / 100 {
		faces, err := c.service.Detect(b.Context(), account, numberPhoto(i, true), face.DetectQuery{ReturnFaceID: true})
		if err != nil || len(faces) != 1 {
			b.Fatalf("detect: %v", err)
		}
		c.probes, c.persons = append(c.probes, faces[0].ID), append(c.persons, ids[i])
	}
}

// newService makes a service over a store, and runs it until the benchmark ends.
func newService(b *testing.B, store *sealed.Store) *face.Service {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	service, ended := startService(ctx, b, store)
	b.Cleanup(func() { cancel(); ended() })
	return service
}

// startService makes a service over a store, and runs it until ctx ends; ended waits for that.
func startService(ctx context.Context, b *testing.B, store *sealed.Store) (service *face.Service, ended func()) {
	b.Helper()
	service, err := face.New(face.Config{
		Store:     store,
		Models:    map[string]face.Recogniser{face.DefaultRecognitionModel: numbers{}},
		Resources: func(context.Context) ([]visage.ResourceID, error) { return []visage.ResourceID{account.ID}, nil },
	})
	if err != nil {
		b.Fatalf("make the service: %v", err)
	}
	var background sync.WaitGroup
	background.Go(func() {
		if err := service.Run(ctx); err != nil {
			b.Errorf("run the service: %v", err)
		}
	})
	return service, background.Wait
}

// enrol creates persons in the benchmark's group, gives the first of them a face each, and trains the group. It returns
// their ids.
func enrol(b *testing.B, service *face.Service, in visage.Resource, persons, withFace int) []string {
	b.Helper()
	ctx, group := b.Context(), face.Ref{Kind: face.LargePersonGroup, ID: groupID}
	if err := service.Create(ctx, in, group, face.Creation{Name: "everybody"}); err != nil {
		b.Fatalf("create the group: %v", err)
	}
	ids := make([]string, persons)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < persons && !b.Failed(); i = int(next.Add(1)) - 1 {
				id, err := service.CreatePerson(ctx, in, group, fmt.Sprintf("person %d", i), nil)
				if err == nil && i < withFace {
					_, err = service.AddPersonFace(ctx, in, face.PersonRef{Group: group, ID: id},
						face.Enrolment{Photo: numberPhoto(i, false)})
				}
				if err != nil {
					b.Errorf("enrol person %d: %v", i, err)
				}
				ids[i] = id
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	if err := service.Train(ctx, in, group); err != nil {
		b.Fatalf("train: %v", err)
	}
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		training, err := service.Training(ctx, in, group)
		if err != nil || training.Status == face.Failed {
			b.Fatalf("train: %v %s", err, training.Message)
		}
		if training.Status == face.Succeeded {
			break
		}
	}
	return ids
}

// openAPI puts a service behind the data plane, without a rate limit.
func openAPI(b *testing.B, service *face.Service) *httptest.Server {
	b.Helper()
	plane, err := faceapi.New(faceapi.Config{Service: service})
	if err != nil {
		b.Fatalf("make the data plane: %v", err)
	}
	handler, err := api.New(api.Config{
		Planes: []api.Plane{plane}, Keys: anyKey{}, Rate: func(visage.Resource) (float64, int) { return -1, 0 },
	})
	if err != nil {
		b.Fatalf("make the data plane: %v", err)
	}
	web := httptest.NewTLSServer(handler)
	web.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 16 // each client keeps its connection
	b.Cleanup(web.Close)
	return web
}

// ask identifies a face over HTTPS and returns the best person, or an empty string after an error.
func (c *crowd) ask(b *testing.B, faceID string) string {
	b.Helper()
	person, err := identifyAt(b.Context(), c.web.Client(), c.web.URL, anyText, faceID)
	if err != nil {
		b.Errorf("identify: %v", err)
	}
	return person
}

// identifyAt identifies a face over HTTPS and returns the best person.
func identifyAt(ctx context.Context, client *http.Client, address, key, faceID string) (string, error) {
	req, err := identifyRequest(ctx, address, key, faceID)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s, %w", resp.StatusCode, answer, err)
	}
	var identified []struct{ Candidates []struct{ PersonID string } }
	if err := json.Unmarshal(answer, &identified); err != nil || len(identified) != 1 ||
		len(identified[0].Candidates) == 0 {
		return "", fmt.Errorf("answered %s", answer)
	}
	return identified[0].Candidates[0].PersonID, nil
}

func identifyBody(faceID string) string {
	return fmt.Sprintf(`{"faceIds":[%q],"largePersonGroupId":%q}`, faceID, groupID)
}

func identifyRequest(ctx context.Context, address, key, faceID string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", address+"/face/v1.2/identify",
		strings.NewReader(identifyBody(faceID)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(faceapi.KeyHeader, key)
	return req, nil
}

// anyKey accepts every API key as one of the benchmark's resource.
type anyKey struct{}

// anyText is an API key for it.
const anyText = "any"

func (anyKey) Resource(context.Context, string, string) (visage.Resource, visage.Principal, error) {
	return account, visage.Principal{Method: "key", KeyName: "Key1", Resource: account.ID}, nil
}

// numbers is a recogniser for "photos" that contain the number of a person, and whether it is a second photo of that
// person.
type numbers struct{}

// numberPhoto is a photo of person i.
func numberPhoto(i int, another bool) []byte {
	photo := make([]byte, 2048)
	binary.BigEndian.PutUint64(photo, uint64(i)+1)
	if another {
		photo[8] = 1
	}
	return photo
}

func (numbers) Detect(_ context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	person := binary.BigEndian.Uint64(photo)
	faces := []vision.Face{{Box: vision.Box{Left: 10, Top: 10, Width: 200, Height: 200}, Score: 1}}
	if want.Attributes&vision.Quality != 0 {
		faces[0].Attributes = vision.Measured{vision.Quality: vision.High}
	}
	if want.Templates && (want.Select == nil || len(want.Select(faces)) == 1) {
		faces[0].Template = randomTemplate(rand.New(rand.NewPCG(person, 0)))
		if photo[8] == 1 {
			blur(faces[0].Template, randomTemplate(rand.New(rand.NewPCG(person, 1))))
		}
	}
	return &vision.Photo{Width: timing.SmallWidth, Height: timing.SmallHeight, Faces: faces}, nil
}

// blur moves a template a little towards another and back to unit length.
func blur(v, towards []float32) {
	var square float64
	for i := range v {
		v[i] += 0.3 * towards[i]
		square += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(square))
	}
}

func (numbers) Name() string { return "numbers" }

// Confidence puts strangers, whose random directions are about 1 apart, well below 0.5.
func (numbers) Confidence(distance float64) float64 { return max(0, 1-distance) }

// Threshold is 0.5 for groups of every size.
func (numbers) Threshold(int) float64       { return 0.5 }
func (numbers) Dim() int                    { return templateDim }
func (numbers) Supports() vision.Attributes { return vision.Quality }
