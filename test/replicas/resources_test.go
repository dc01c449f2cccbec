//go:build linux

package replicas_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// resource is one that clients make, delete, recover and erase.
type resource struct{ register, name, key string }

// resources makes resources, deletes each, and then recovers or erases it, all at replicas by chance.
func (w *workload) resources(ctx context.Context, id int) {
	for n := 0; ctx.Err() == nil; n++ {
		r := &resource{register: fmt.Sprintf("resource-%d-%d", id, n), name: fmt.Sprintf("room-%d-%d", id, n)}
		call := w.history.now()
		if !w.makes(ctx, r) {
			pause(ctx, time.Second)
			continue // it may be there; nobody asks for it
		}
		w.history.did(id, r.register, enrol, call, output{yes: true})
		w.mu.Lock()
		w.made = append(w.made, r)
		w.mu.Unlock()
		steps := []verb{discard, erase}
		if rand.IntN(2) == 0 {
			steps = []verb{discard, restore, discard, erase}
		}
		for _, v := range steps {
			pause(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
			if !w.changes(ctx, id, r, v) {
				break // nobody knows when that takes effect
			}
		}
	}
}

// makes makes a resource with data.
func (w *workload) makes(ctx context.Context, r *resource) bool {
	a, ok := w.manage(ctx, http.MethodPut, r.path(), `{"kind":"Face","location":"westus2","sku":{"name":"S0"},`+
		`"properties":{}}`)
	if !ok || a.status != http.StatusCreated {
		return false
	}
	if a, ok = w.manage(ctx, http.MethodPost, r.path()+"/listKeys", ""); !ok || a.status != http.StatusOK {
		return false
	}
	r.key = a.text("key1")
	for range 5 {
		// A replica may not know of it for a second.
		a, ok = askAs(ctx, w.any(), r.key, "PUT", "persongroups/guests",
			`{"name":"g","recognitionModel":"recognition_04"}`)
		if ok && (a.status == http.StatusOK || a.status == http.StatusConflict) {
			return true
		}
		pause(ctx, lag/2)
	}
	return false
}

func (r *resource) path() string {
	return "resourceGroups/default/providers/" + account(r.name)
}

func (r *resource) deleted() string {
	return "providers/Microsoft.CognitiveServices/locations/westus2/resourceGroups/default/deletedAccounts/" + r.name
}

// changes deletes, recovers or erases a resource, and reports whether it is known what became of that.
func (w *workload) changes(ctx context.Context, id int, r *resource, v verb) bool {
	method, path, body := http.MethodDelete, r.path(), ""
	switch v {
	case restore:
		method, body = http.MethodPut, `{"kind":"Face","location":"westus2","sku":{"name":"S0"},`+
			`"properties":{"restore":true}}`
	case erase:
		path = r.deleted()
	}
	call := w.history.now()
	a, ok := w.manage(ctx, method, path, body)
	switch {
	case ok && (a.status == http.StatusOK || a.status == http.StatusCreated):
		w.history.did(id, r.register, v, call, output{yes: true})
	case ok && (a.status == http.StatusNoContent || a.status == http.StatusNotFound):
		w.history.did(id, r.register, v, call, output{})
	case !ok || a.status == http.StatusConflict:
		w.history.did(id, r.register, v, call, output{unknown: true})
		return false
	default:
		w.history.say("%s of %s: %s", v, r.register, a)
	}
	return true
}

// manage makes a request of the management plane at some replica, below the subscription; ok is false when it is not
// known what became of it.
func (w *workload) manage(ctx context.Context, method, path, body string) (a answer, ok bool) {
	return w.manageAt(ctx, w.any(), method, path, body)
}

func (w *workload) manageAt(ctx context.Context, at *client, method, path, body string) (a answer, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := at.manage(ctx, method, path, body)
	return a, err == nil && a.status < 500 && a.status != http.StatusRequestTimeout
}

// serves asks some replica for the data of resources.
func (w *workload) serves(ctx context.Context, id int) {
	for ctx.Err() == nil {
		w.mu.Lock()
		var r *resource
		if n := len(w.made); n > 0 {
			r = w.made[n-1-rand.IntN(min(n, 4))]
		}
		w.mu.Unlock()
		if r != nil {
			w.servesAt(ctx, id, r, w.any())
		}
		pause(ctx, time.Duration(100+rand.IntN(200))*time.Millisecond) // the fewer overlap, the sooner they are judged
	}
}

func (w *workload) servesAt(ctx context.Context, id int, r *resource, at *client) bool {
	call := w.history.now()
	a, ok := askAs(ctx, at, r.key, "GET", "persongroups/guests", nil)
	switch {
	case !ok:
		return false
	case a.status == http.StatusOK:
		w.history.did(id, r.register, serve, call, output{yes: true})
	case a.status == http.StatusUnauthorized:
		w.history.did(id, r.register, serve, call, output{})
	default:
		w.history.say("the data of %s: %s", r.register, a)
	}
	return true
}

// turns has the service make new root keys.
func (w *workload) turns(ctx context.Context, id int) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(rand.IntN(8000))*time.Millisecond)
		call := w.history.now()
		a, ok := w.manage(ctx, http.MethodPost, rootKey+"/rotate", "")
		switch {
		case ok && a.status == http.StatusOK:
			w.history.didTo(id, input{"root key", rotate, rootVersion(a)}, call, output{yes: true})
		case !ok || a.status == http.StatusConflict: // one is going on
			w.history.didTo(id, input{"root key", rotate, ""}, call, output{unknown: true})
		default:
			w.history.say("the rotation of the root key: %s", a)
		}
	}
}

// shows asks some replica which versions of keys are in use.
func (w *workload) shows(ctx context.Context, id int) {
	for ctx.Err() == nil {
		at := w.any()
		w.showsRoot(ctx, id, at)
		w.showsTurned(ctx, id, at)
		pause(ctx, time.Duration(100+rand.IntN(200))*time.Millisecond) // the fewer overlap, the sooner they are judged
	}
}

const rootKey = "providers/Visage.Operations/rootKey"

func (w *workload) showsRoot(ctx context.Context, id int, at *client) (version string) {
	call := w.history.now()
	a, ok := w.manageAt(ctx, at, http.MethodGet, rootKey, "")
	if version = rootVersion(a); ok && version != "" {
		w.history.didTo(id, input{"root key", show, version}, call, output{yes: true})
	}
	return version
}

func rootVersion(a answer) string {
	var root struct{ Version json.Number }
	if a.status != http.StatusOK || json.Unmarshal(a.body, &root) != nil {
		return ""
	}
	return root.Version.String()
}

// showsTurned asks which version of the customer's key protects the resource whose key is rotated. Each replica has a
// register of its own: one that asks keys meanwhile shows a change that another one has made some seconds later.
func (w *workload) showsTurned(ctx context.Context, id int, at *client) (version string) {
	call := w.history.now()
	a, ok := w.manageAt(ctx, at, http.MethodGet, turnedPath, "")
	if version = a.text("properties.encryption.status.keyVersion"); ok && version != "" {
		w.history.didTo(id, input{turnedKey(slices.Index(w.clients, at)), show, version}, call, output{yes: true})
	}
	return version
}

// turnedKey is the register of the key at a replica.
func turnedKey(at int) string { return fmt.Sprintf("customer's key at %c", 'A'+at) }

// newVersion notes a version of the key, as of which every replica may use it.
func (w *workload) newVersion(id int, version string, call int64, out output) {
	for at := range w.clients {
		w.history.didTo(id, input{turnedKey(at), rotate, version}, call, out)
	}
}

const turnedPath = "resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/turned"

// rotates makes new versions of a customer's key, and has the resource use each.
func (w *workload) rotates(ctx context.Context, id int) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(rand.IntN(5000))*time.Millisecond)
		asking, cancel := context.WithTimeout(ctx, patience)
		call := w.history.now()
		a, err := w.any().vault(asking, "safe", "POST", "/keys/turned/rotate", nil)
		cancel()
		if err != nil || a.status != http.StatusOK {
			w.newVersion(id, "", call, output{unknown: true})
			continue
		}
		w.newVersion(id, keyVersion(a), call, output{yes: true})
		w.turn(ctx, w.any(), keyVersion(a))
	}
}

// turn has the resource use a version of its key.
func (w *workload) turn(ctx context.Context, at *client, version string) {
	a, ok := w.manageAt(ctx, at, http.MethodPatch, turnedPath, useVersion(version))
	if ok && a.status != http.StatusOK && a.status != http.StatusAccepted &&
		a.status != http.StatusConflict { // another change is under way
		w.history.say("the change to version %s of the key: %s", version, a)
	}
}

// useVersion is the request to use a version of the key.
func useVersion(version string) string {
	return `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{` +
		`"keyVaultUri":"https://safe.` + vaultDomain + `/","keyName":"turned","keyVersion":"` + version + `"}}}}`
}

// usesTurned asks for the data of the resource whose key is rotated, which nobody locks.
func (w *workload) usesTurned(ctx context.Context) {
	for ctx.Err() == nil {
		a, ok := askAs(ctx, w.any(), w.turned.key, "GET", "persongroups/guests", nil)
		if ok && a.status != http.StatusOK {
			w.history.say("the data under a key that is rotated: %s", a)
		}
		pause(ctx, time.Duration(rand.IntN(100))*time.Millisecond)
	}
}

// settleTurned has the resource use the newest version of its key, and waits until a replica shows that.
func (w *workload) settleTurned(ctx context.Context, id int, at *client) {
	ok := w.eventually(ctx, func() bool {
		key, err := at.vault(ctx, "safe", http.MethodGet, "/keys/turned/", nil)
		if err != nil || key.status != http.StatusOK {
			return false
		}
		if w.showsTurned(ctx, id, at) == keyVersion(key) {
			return true
		}
		w.turn(ctx, at, keyVersion(key))
		return false
	})
	if !ok {
		w.history.say("a replica does not use the newest version of the customer's key within a minute")
	}
	if !w.eventually(ctx, func() bool { return w.showsRoot(ctx, id, at) != "" }) {
		w.history.say("a replica does not show the root key")
	}
}

// keyVersion is that of the key that a vault's answer describes.
func keyVersion(a answer) string {
	kid := a.text("key.kid")
	return kid[strings.LastIndexByte(kid, '/')+1:]
}
