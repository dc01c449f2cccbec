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

	"github.com/visage-face/visage/api/faceapi"
	"github.com/visage-face/visage/face"
)

// enrolClients is how many clients enrol people at a time, each of whom one client creates and gives a face.
const enrolClients = 16

// BenchmarkEnrol has 16 clients enrol people over HTTPS: each creates a person and adds a face. Vision is not included:
// the photos are numbers.
func BenchmarkEnrol(b *testing.B) {
	const stretch = 400
	store := openStore(b, b.TempDir())
	makeSpace(b, store, account.ID)
	service := newService(b, store)
	if err := service.Create(b.Context(), account, face.Ref{Kind: face.LargePersonGroup, ID: groupID},
		face.Creation{Name: "everybody"}); err != nil {
		b.Fatalf("create the group: %v", err)
	}
	d := &desks{webs: []*httptest.Server{openAPI(b, service)}}
	d.enrol(b, stretch)
	var times []time.Duration
	for b.Loop() {
		times = append(times, d.enrol(b, stretch))
	}
	note := fmt.Sprintf("median of %d stretches of %d people by %d clients in the same process; best %.0f", len(times),
		stretch, enrolClients, stretch/quantile(times, 0).Seconds())
	told(b, "enrol: people a second over HTTPS", stretch/median(times).Seconds(), "people", note)
}

// desks are where clients enrol people in the benchmark's group, over HTTPS.
type desks struct {
	webs   []*httptest.Server
	serial atomic.Int64 // of the last person
}

// enrol has the clients enrol so many people, in turn at each of the desks, and returns how long that took.
func (d *desks) enrol(b *testing.B, people int) time.Duration {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for client := range enrolClients {
		web := d.webs[client%len(d.webs)]
		all.Go(func() {
			for next.Add(1) <= int64(people) && !b.Failed() {
				i := int(d.serial.Add(1))
				person, err := post(b.Context(), web, "", "application/json", fmt.Appendf(nil, `{"name":"person %d"}`, i))
				if err == nil {
					_, err = post(b.Context(), web, "/"+strings.ToLower(person)+"/persistedfaces",
						"application/octet-stream", numberPhoto(i, false))
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

// post sends a request about the persons of the benchmark's group, and returns the id of the object it made.
func post(ctx context.Context, web *httptest.Server, path, kind string, body []byte) (id string, err error) {
	req, err := http.NewRequestWithContext(ctx, "POST", web.URL+"/face/v1.2/largepersongroups/"+groupID+"/persons"+path,
		bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set(faceapi.KeyHeader, anyText)
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
