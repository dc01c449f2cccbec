package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/faceapi"
	"github.com/visage-face/visage/face"
)

// BenchmarkEnrol has 16 clients enrol people over HTTPS: each creates a person and adds a face. Vision is not included:
// the photos are numbers.
func BenchmarkEnrol(b *testing.B) {
	const clients, stretch = 16, 400
	dir := b.TempDir()
	store := openStore(b, dir)
	makeSpace(b, store, account.ID)
	service, err := face.New(face.Config{
		Store:     store,
		Models:    map[string]face.Recogniser{face.DefaultRecognitionModel: numbers{}},
		Resources: func(context.Context) ([]visage.ResourceID, error) { return []visage.ResourceID{account.ID}, nil },
	})
	if err != nil {
		b.Fatalf("make the service: %v", err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var background sync.WaitGroup
	background.Go(func() {
		if err := service.Run(ctx); err != nil {
			b.Errorf("run the service: %v", err)
		}
	})
	b.Cleanup(func() { cancel(); background.Wait() })
	if err := service.Create(ctx, account, face.Ref{Kind: face.LargePersonGroup, ID: groupID},
		face.Creation{Name: "everybody"}); err != nil {
		b.Fatalf("create the group: %v", err)
	}
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
	b.Cleanup(web.Close)
	web.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = clients // each client keeps its connection

	// post sends a request, and returns the id of the object it made.
	post := func(path, kind string, body []byte) (id string, err error) {
		req, err := http.NewRequestWithContext(ctx, "POST", web.URL+"/face/v1.2/largepersongroups/"+groupID+"/persons"+
			path, bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		req.Header.Set("Content-Type", kind)
		req.Header.Set(faceapi.KeyHeader, "any")
		resp, err := web.Client().Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%w, status %d: %s", err, resp.StatusCode, answer)
		}
		var made struct{ PersonID, PersistedFaceID string }
		err = json.Unmarshal(answer, &made)
		return made.PersonID + made.PersistedFaceID, err
	}
	var serial atomic.Int64
	enrolAll := func(count int) time.Duration {
		var next atomic.Int64
		var all sync.WaitGroup
		start := time.Now()
		for range clients {
			all.Go(func() {
				for next.Add(1) <= int64(count) && !b.Failed() {
					i := int(serial.Add(1))
					person, err := post("", "application/json", fmt.Appendf(nil, `{"name":"person %d"}`, i))
					if err == nil {
						_, err = post("/"+strings.ToLower(person)+"/persistedfaces", "application/octet-stream",
							numberPhoto(i, false))
					}
					if err != nil {
						b.Errorf("enrol: %v", err)
					}
				}
			})
		}
		all.Wait()
		return time.Since(start)
	}
	enrolAll(stretch)
	var times []time.Duration
	for b.Loop() {
		times = append(times, enrolAll(stretch))
	}
	note := fmt.Sprintf("median of %d stretches of %d people by %d clients in the same process; best %.0f", len(times),
		stretch, clients,
		stretch/quantile(times, 0).Seconds())
	told(b, "enrol: people a second over HTTPS", stretch/median(times).Seconds(), "people", note)
}
