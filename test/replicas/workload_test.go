//go:build linux

package replicas_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage/server/servertest"
)

// workload is what clients do while replicas are attacked.
type workload struct {
	t       *testing.T
	clients []*client // one for each replica, for the default resource
	owned   *client   // key of the resource that its owner locks; http is not used
	revoked *client   // and of the one whose key is disabled
	turned  *client   // and of the one whose key is rotated
	history *history
	heard   *answers
	photos  atomic.Int64

	mu    sync.Mutex
	live  []*subject // faces of lists, the newest last
	known []*subject // persons of trained groups
	made  []*resource

	current atomic.Pointer[apiKey]
	former  atomic.Pointer[apiKey]
	stale   longest // how long a former API key was taken
	grant   longest // how long data was served under a disabled key
	refused longest // and by some replica after another one had refused it
	opened  longest // how long data stayed closed after its key was enabled
	checked int     // at the end, at each replica
}

// closure is a time for which a customer's key is disabled, in nanoseconds of the history's clock.
type closure struct {
	since   int64        // when that was acknowledged
	refused atomic.Int64 // when the first replica had refused; 0: none has
}

// subject is a made-up face or person, whose name is that of its register.
type subject struct {
	register string
	path     string // to remove it; empty: its id is not known
	group    string
}

type apiKey struct {
	text  string
	since int64 // of the history's clock: when it was acknowledged
}

// longest keeps the largest duration.
type longest struct {
	mu sync.Mutex
	d  time.Duration
}

func (l *longest) take(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.d = max(l.d, d)
}

// patience is how long a client waits for an answer.
const patience = 10 * time.Second

// later is when what was not answered has been done, or is never done: no replica is stopped for as long.
const later = 30 * time.Second

// any returns the client of some replica.
func (w *workload) any() *client { return w.clients[rand.IntN(len(w.clients))] }

// ask makes a face request at some replica, with the current key; ok is false when it is not known what became of it.
func (w *workload) ask(ctx context.Context, method, path string, body any) (a answer, ok bool) {
	return w.askAt(ctx, w.any(), method, path, body)
}

// askAt is ask at one replica.
func (w *workload) askAt(ctx context.Context, at *client, method, path string, body any) (a answer, ok bool) {
	return askAs(ctx, at, w.current.Load().text, method, path, body)
}

func askAs(ctx context.Context, at *client, key, method, path string, body any) (a answer, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := at.of(key).face(ctx, method, path, body)
	// A replica that was paused has not seen the body in time.
	return a, err == nil && a.status < 500 && a.status != http.StatusRequestTimeout
}

// photo is a new photo of somebody.
func (w *workload) photo(name string) []byte { return servertest.Photo(int(w.photos.Add(1)), name) }

const listCapacity = 900

// liveFaces enrols faces in lists, removes them, and looks for them, all at replicas by chance.
func (w *workload) liveFaces(ctx context.Context, id int) {
	for n := 0; ctx.Err() == nil; n++ {
		list := fmt.Sprintf("list-%d-%d", id, n/listCapacity)
		if n%listCapacity == 0 {
			for ctx.Err() == nil {
				a, _ := w.ask(ctx, "PUT", "facelists/"+list, `{"name":"l","recognitionModel":"recognition_04"}`)
				if a.status == http.StatusOK || a.status == http.StatusConflict {
					break
				}
				pause(ctx, 100*time.Millisecond)
			}
		}
		s := &subject{register: fmt.Sprintf("face-%d-%d", id, n), group: list}
		call := w.history.now()
		a, ok := w.ask(ctx, "POST", "facelists/"+list+"/persistedfaces", w.photo(s.register))
		w.enrolled(id, s, call, a, ok, "facelists/"+list+"/persistedfaces/"+a.text("persistedFaceId"), &w.live)
		if rand.IntN(3) > 0 {
			w.forget(ctx, id, &w.live)
		}
	}
}

// enrolled notes the end of an enrolment.
func (w *workload) enrolled(id int, s *subject, call int64, a answer, ok bool, path string, to *[]*subject) {
	switch {
	case ok && a.status == http.StatusOK:
		s.path = path
		w.history.did(id, s.register, enrol, call, output{yes: true})
	case a.status == http.StatusInsufficientStorage && s.register[0] == 'f': // nothing was written: it is never found
	case !ok:
		w.history.did(id, s.register, enrol, call, output{unknown: true})
	default:
		w.history.say("the enrolment of %s: %s", s.register, a)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	*to = append(*to, s)
}

// forget removes one of the newest subjects.
func (w *workload) forget(ctx context.Context, id int, of *[]*subject) {
	s := w.recent(of)
	if s == nil || s.path == "" {
		return
	}
	call := w.history.now()
	a, ok := w.ask(ctx, "DELETE", s.path, nil)
	switch {
	case ok && (a.status == http.StatusOK || a.status == http.StatusNotFound):
		w.history.did(id, s.register, remove, call, output{yes: a.status == http.StatusOK})
	case a.status == http.StatusInsufficientStorage: // nothing was written
	case !ok || a.status == http.StatusConflict: // of concurrent operations; nothing was done, and that is allowed
		w.history.did(id, s.register, remove, call, output{unknown: true})
	default:
		w.history.say("the removal of %s: %s", s.register, a)
	}
}

// recent returns one of the newest subjects.
func (w *workload) recent(of *[]*subject) *subject {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(*of) == 0 {
		return nil
	}
	n := min(len(*of), 12)
	return (*of)[len(*of)-1-rand.IntN(n)]
}

// people enrols persons in a group of its own, trains it, and removes persons.
func (w *workload) people(ctx context.Context, id int) {
	group := fmt.Sprintf("group-%d", id)
	for ctx.Err() == nil {
		a, _ := w.ask(ctx, "PUT", "largepersongroups/"+group, `{"name":"g","recognitionModel":"recognition_04"}`)
		if a.status == http.StatusOK || a.status == http.StatusConflict {
			break
		}
		pause(ctx, 100*time.Millisecond)
	}
	for n := 0; ctx.Err() == nil; n++ {
		s := &subject{register: fmt.Sprintf("person-%d-%d", id, n), group: group}
		call := w.history.now()
		a, ok := w.ask(ctx, "POST", "largepersongroups/"+group+"/persons", `{"name":"p"}`)
		path := "largepersongroups/" + group + "/persons/" + a.text("personId")
		if ok && a.status == http.StatusOK {
			a, ok = w.ask(ctx, "POST", path+"/persistedfaces", w.photo(s.register))
		}
		if ok && a.status == http.StatusOK {
			a, ok = w.trained(ctx, group)
		}
		w.enrolled(id, s, call, a, ok, path, &w.known)
		for range rand.IntN(3) {
			w.forget(ctx, id, &w.known)
		}
	}
}

// trained trains a group and waits for the end.
func (w *workload) trained(ctx context.Context, group string) (a answer, ok bool) {
	if a, ok = w.ask(ctx, "POST", "largepersongroups/"+group+"/train", nil); !ok || a.status != http.StatusAccepted {
		return a, ok && a.status != http.StatusConflict
	}
	for until := time.Now().Add(time.Minute); ctx.Err() == nil && time.Now().Before(until); {
		a, ok = w.ask(ctx, "GET", "largepersongroups/"+group+"/training", nil)
		if ok && a.text("status") == "succeeded" {
			return a, true
		}
		pause(ctx, 50*time.Millisecond)
	}
	return answer{}, false
}

// look searches for subjects: the photo is analysed at one replica, and searched for at another.
func (w *workload) look(ctx context.Context, id int) {
	for ctx.Err() == nil {
		of := &w.live
		if rand.IntN(3) == 0 {
			of = &w.known
		}
		s := w.recent(of)
		if s == nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		w.lookFor(ctx, id, s, w.any(), w.any())
	}
}

// lookFor has one replica analyse a photo, and one search for the face.
func (w *workload) lookFor(ctx context.Context, id int, s *subject, analyse, search *client) (ok bool) {
	a, ok := w.askAt(ctx, analyse, "POST", "detect?recognitionModel=recognition_04", w.photo(s.register))
	var faces []struct{ FaceID string }
	if !ok || a.status != http.StatusOK || json.Unmarshal(a.body, &faces) != nil || len(faces) != 1 {
		return false
	}
	call := w.history.now()
	if s.register[0] == 'f' {
		a, ok = w.askAt(ctx, search, "POST", "findsimilars",
			fmt.Sprintf(`{"faceId":%q,"faceListId":%q}`, faces[0].FaceID, s.group))
	} else {
		a, ok = w.askAt(ctx, search, "POST", "identify", fmt.Sprintf(`{"faceIds":[%q],"largePersonGroupId":%q}`,
			faces[0].FaceID, s.group))
	}
	switch code := a.text("error.code"); {
	case !ok:
	case code == "LargePersonGroupNotTrained", code == "FaceListNotReady": // nobody is in it
		w.history.did(id, s.register, find, call, output{})
		return true
	case code == "LargePersonGroupTrainingNotFinished":
		return false
	}
	if ok && a.status != http.StatusOK {
		w.history.say("the search for %s: %s", s.register, a)
		return false
	}
	var found []struct{ Candidates []struct{ PersonID string } }
	if ok && json.Unmarshal(a.body, &found) != nil {
		w.history.say("the search for %s: %s", s.register, a)
		return false
	}
	there := len(found) > 0
	if s.register[0] == 'p' {
		there = there && len(found[0].Candidates) > 0
	}
	w.history.did(id, s.register, find, call, output{unknown: !ok, yes: there})
	return ok
}

// locks has the owner of a resource lock and unlock its data.
func (w *workload) locks(ctx context.Context, id int) {
	for ctx.Err() == nil {
		for _, v := range []verb{lock, unlock} {
			call := w.history.now()
			asking, cancel := context.WithTimeout(ctx, patience)
			a, err := w.any().arm(asking, http.MethodPost, account("owned")+"/encryption:"+string(v), nil)
			cancel()
			w.history.did(id, "lock", v, call, output{unknown: err != nil || a.status != http.StatusOK, yes: true})
			pause(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
		}
	}
}

// uses asks for the data of the resource that its owner locks.
func (w *workload) uses(ctx context.Context, id int) {
	for ctx.Err() == nil {
		call := w.history.now()
		a, ok := askAs(ctx, w.any(), w.owned.key, "GET", "persongroups/guests", nil)
		if ok && a.status == http.StatusOK {
			w.history.did(id, "lock", use, call, output{yes: true})
		}
		pause(ctx, time.Duration(rand.IntN(40))*time.Millisecond)
	}
}

// revokes disables and enables a customer's key.
func (w *workload) revokes(ctx context.Context, disabled *atomic.Pointer[closure]) {
	for ctx.Err() == nil {
		if w.enableKey(ctx, false) {
			disabled.Store(&closure{since: w.history.now()})
		}
		pause(ctx, time.Duration(2000+rand.IntN(6000))*time.Millisecond)
		disabled.Store(nil)
		if w.enableKey(ctx, true) {
			w.opens(ctx)
			pause(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
		} else {
			pause(ctx, later)
		}
	}
}

// enableKey enables or disables the customer's key, and reports whether that was acknowledged.
func (w *workload) enableKey(ctx context.Context, on bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := w.any().vault(ctx, "safe", "PATCH", "/keys/revoked/", fmt.Sprintf(`{"attributes":{"enabled":%t}}`, on))
	return err == nil && a.status == http.StatusOK
}

// opens waits until some replica serves the data whose key was just enabled.
func (w *workload) opens(ctx context.Context) {
	enabled := w.history.now()
	for ctx.Err() == nil {
		if a, ok := askAs(ctx, w.any(), w.revoked.key, "GET", "persongroups/guests", nil); ok &&
			a.status == http.StatusOK {
			w.opened.take(time.Duration(w.history.now() - enabled))
			return
		}
		if time.Duration(w.history.now()-enabled) > 2*time.Minute {
			w.history.say("data is closed two minutes after its key was enabled")
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// reads asks for the data of the resource whose key is disabled. open says which replicas served it when they were
// last asked.
func (w *workload) reads(ctx context.Context, open []atomic.Bool, disabled *atomic.Pointer[closure]) {
	for ctx.Err() == nil {
		now, refused := disabled.Load(), int64(0)
		if now != nil {
			refused = now.refused.Load()
		}
		at := rand.IntN(len(w.clients))
		call := w.history.now()
		a, ok := askAs(ctx, w.clients[at], w.revoked.key, "GET", "persongroups/guests", nil)
		switch {
		case now == nil || !ok:
		case a.status == http.StatusOK:
			w.grant.take(time.Duration(call - now.since))
			if refused != 0 {
				w.refused.take(time.Duration(call - refused))
			}
		case a.status == http.StatusForbidden && open[at].Load():
			now.refused.CompareAndSwap(0, w.history.now())
		}
		// One that was paused may refuse still because of an earlier time.
		if ok {
			open[at].Store(a.status == http.StatusOK)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// regenerates makes new API keys of the default resource.
func (w *workload) regenerates(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(1000+rand.IntN(2000))*time.Millisecond)
		asking, cancel := context.WithTimeout(ctx, patience)
		a, err := w.any().arm(asking, http.MethodPost, account("default")+"/regenerateKey", `{"keyName":"key2"}`)
		cancel()
		if err != nil || a.status != http.StatusOK {
			w.former.Store(nil) // nobody knows which one holds
			pause(ctx, later)
			continue
		}
		now := w.history.now()
		if last := w.former.Load(); last != nil {
			w.former.Store(&apiKey{text: a.text("key2"), since: now})
			w.tryFormer(ctx, last.text, now)
			continue
		}
		w.former.Store(&apiKey{text: a.text("key2"), since: now})
	}
}

// tryFormer uses a key that has ended at all replicas until all refuse it, and the new one, which must be accepted.
func (w *workload) tryFormer(ctx context.Context, former string, ended int64) {
	var all sync.WaitGroup
	for i, c := range w.clients {
		all.Go(func() {
			for until := time.Now().Add(20 * time.Second); ctx.Err() == nil && time.Now().Before(until); {
				call := w.history.now()
				asking, cancel := context.WithTimeout(ctx, patience)
				a, err := c.of(former).face(asking, "GET", "facelists", nil)
				cancel()
				if err == nil && a.status == http.StatusUnauthorized {
					break
				}
				if err == nil && a.status == http.StatusOK {
					w.stale.take(time.Duration(call - ended))
				} else {
					pause(ctx, 50*time.Millisecond)
				}
			}
			now := w.former.Load()
			if now == nil {
				return
			}
			asking, cancel := context.WithTimeout(ctx, patience)
			a, err := c.of(now.text).face(asking, "GET", "facelists", nil)
			cancel()
			if err == nil && a.status == http.StatusUnauthorized {
				w.history.say("replica %c refuses an API key that was made %v before: %s", 'A'+i,
					time.Duration(w.history.now()-now.since), a)
			}
		})
	}
	all.Wait()
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
