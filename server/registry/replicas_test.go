package registry_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server/registry"
	"github.com/visage-face/visage/test/postgres"
)

// unheard is an audit log that nobody reads.
type unheard struct{}

func (unheard) Append(context.Context, ...audit.Event) error { return nil }
func (unheard) Tally(context.Context, audit.Event) error     { return nil }

// key is a key of a customer, whose calls can be met.
type key struct {
	*sourcetest.Fake
	of visage.KeyRef
	// meet, if it is not nil, is called before each call with its name.
	meet func(call string)
}

func (k *key) ref(ref keysource.Ref) keysource.Ref {
	return keysource.Ref{URI: k.of.Unversioned(), Version: ref.Version}
}

// its returns a reference as the fake knows it.
func its(ref keysource.Ref) keysource.Ref {
	if ref == (keysource.Ref{}) {
		return ref
	}
	return keysource.Ref{URI: "fake:faces", Version: ref.Version}
}

func (k *key) met(call string) {
	if k.meet != nil {
		k.meet(call)
	}
}

// Wrap implements keysource.Source.
func (k *key) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	k.met("wrap")
	blob, ref, err := k.Fake.Wrap(ctx, inner)
	return blob, k.ref(ref), err
}

// Unwrap implements keysource.Source.
func (k *key) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	k.met("unwrap")
	return k.Fake.Unwrap(ctx, its(ref), blob)
}

// Describe implements keysource.Source.
func (k *key) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	k.met("describe")
	d, err := k.Fake.Describe(ctx, its(ref))
	d.Ref = k.ref(d.Ref)
	return d, err
}

// process is one opening of a store, with what changes the list of key stores and the keys of resources. It follows no
// other one: what it knows of them, it reads when it must.
type process struct {
	store   *sealed.Store
	custody *custody.Custody
	list    *registry.Registry
	// users, if it is not nil, is called after the users of a store are read.
	users    func()
	changing bool // keys of resources change before each transaction
	settings []stores.Store
	files    string // the folder of the files of stores
}

func start(t *testing.T, cfg sealed.Config, k *key) *process {
	t.Helper()
	p := &process{}
	var err error
	if p.store, err = sealed.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.store.Close(); err != nil {
			t.Error(err)
		}
	})
	p.open(t)
	if err := p.list.Admit(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	p.custody, err = custody.New(t.Context(), custody.Config{
		Store: p.store, Audit: unheard{}, Kept: p.list.Kept,
		Open: func(_ context.Context, of visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
			return k, p.list.Set().Require(of)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens the list, without Admit.
func (p *process) open(t *testing.T) {
	t.Helper()
	var err error
	p.files = t.TempDir()
	p.list, err = registry.Open(t.Context(), registry.Config{
		Store: p.store, Settings: p.settings, Files: p.files, Audit: unheard{}, Calls: registry.NewCalls(),
		Uses: func(context.Context, visage.Caller, string) ([]string, int, error) { return nil, 0, nil },
		Users: func(ctx context.Context, _ visage.Caller, address string) (
			users []registry.User, unchanged func(sealed.Reader) (bool, error), err error,
		) {
			uses, unchanged, err := p.custody.StoredUses(ctx, visage.KeyRef{Vault: address})
			if p.users != nil {
				p.users()
			}
			if p.changing {
				unchanged = func(sealed.Reader) (bool, error) { return false, nil }
			}
			for _, use := range uses {
				users = append(users, registry.User{Name: use.ID.String(), Path: path, Unreadable: use.Unreadable})
			}
			return users, unchanged, err
		},
		Asker: func(visage.KeyRef, visage.PrincipalID) stores.Asker { return stores.Asker{Path: path} },
	})
	if err != nil {
		t.Fatal(err)
	}
}

const (
	group = "/subscriptions/0f00c31a-9aa7-41cd-a6aa-b60cbd57f2b4/resourceGroups/team"
	path  = group + "/providers/Microsoft.CognitiveServices/accounts/vip"
)

var resource = sealed.SpaceID{1}

// two are two processes over one store with a resource, and a key store of which both know.
type two struct {
	a, b *process
	key  *key
	id   string // of the key store
}

func startTwo(t *testing.T, engine string) two {
	t.Helper()
	cfg := sealed.Config{Engine: engine, Shared: true, KeyDir: t.TempDir(),
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}}}
	described := stores.Store{Address: "awskms://eu-central-1/111122223333", Resources: []string{group},
		Login: stores.Login{Method: "web-identity"}}
	r := two{key: &key{Fake: sourcetest.NewFake("faces"), of: visage.KeyRef{Vault: described.Address, Name: "faces"}}}
	r.a = start(t, cfg, r.key)
	if err := r.a.store.Spaces().Create(t.Context(), resource); err != nil {
		t.Fatal(err)
	}
	e, err := r.a.list.Add(t.Context(), visage.Caller{}, described)
	if err != nil {
		t.Fatal(err)
	}
	r.id = e.ID
	r.b = start(t, cfg, r.key)
	return r
}

// only is the change of a description that lets these resources alone use the store.
func only(resources ...string) map[string]string {
	return map[string]string{stores.ResourcesField: strings.Join(resources, ",")}
}

// TestListChangesDuringAStart: another process adds a store after a starting one has read the list, and before that one
// admits the stores, which takes so long that it looks at the list again.
func TestListChangesDuringAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startTwo(t, "memory:"+t.Name())
		r.b.open(t)
		next := stores.Store{Address: "awskms://eu-west-1/111122223333", Login: stores.Login{Method: "web-identity"}}
		if _, err := r.a.list.Add(t.Context(), visage.Caller{}, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := r.b.list.Admit(func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{r.key.of.Vault, next.Address} {
			if err := r.b.list.Set().Require(visage.KeyRef{Vault: address}); err != nil {
				t.Errorf("after the start: %v", err)
			}
		}
	})
}

// TestResourcesAreNotEmptied: an empty list, which would stand for all resources, is no change of a restricted store.
func TestResourcesAreNotEmptied(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	for _, empty := range [][]string{nil, {}} {
		_, err := r.a.list.Change(t.Context(), visage.Caller{}, r.id, only(empty...))
		if codeOf(err) != "InvalidKeyStore" {
			t.Errorf("an empty list: %v", err)
		}
	}
	if e, err := r.a.list.Find(r.id); err != nil || len(e.Store.Resources) != 1 {
		t.Errorf("afterwards: %+v, %v", e, err)
	}
}

// TestAnotherStoreAtTheAddressStays: another process removes a store and adds one at its address while it is removed.
func TestAnotherStoreAtTheAddressStays(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	e, err := r.a.list.Find(r.id)
	if err != nil {
		t.Fatal(err)
	}
	described := e.Store
	r.b.users = func() {
		r.b.users = nil
		if err := r.remove(t); err != nil {
			t.Error(err)
		}
		if _, err := r.a.list.Add(t.Context(), visage.Caller{}, described); err != nil {
			t.Error(err)
		}
	}
	if err := r.b.list.Remove(t.Context(), visage.Caller{}, r.id); codeOf(err) != "KeyStoreNotFound" {
		t.Errorf("remove what another process has removed: %v", err)
	}
	if _, err := r.a.list.Find(r.id); err != nil {
		t.Errorf("the store that was added since: %v", err)
	}
}

// TestChangesOfKeysEndARemoval: keys of resources change faster than a removal can be tried.
func TestChangesOfKeysEndARemoval(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	r.a.changing = true
	if err := r.remove(t); codeOf(err) != "KeyStoreInUse" {
		t.Errorf("remove a store while keys change all the time: %v", err)
	}
	r.a.changing = false
	if err := r.remove(t); err != nil {
		t.Error(err)
	}
}

// TestSettingsGoBeforeWhatWasAdded: a store is in the settings of one process and was added in another, which changes
// the resources of what was added.
func TestSettingsGoBeforeWhatWasAdded(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	set := stores.Store{Address: r.key.of.Vault, Resources: []string{path}, Login: stores.Login{Method: "web-identity"}}
	r.b.settings = []stores.Store{set}
	r.b.open(t)
	if err := r.b.list.Admit(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	all := []string{stores.Everybody}
	if _, err := r.a.list.Change(t.Context(), visage.Caller{}, r.id, only(all...)); err != nil {
		t.Fatal(err)
	}
	next := stores.Store{Address: "awskms://eu-west-1/111122223333", Login: stores.Login{Method: "web-identity"}}
	if _, err := r.b.list.Add(t.Context(), visage.Caller{}, next); err != nil { // it reads the list
		t.Fatal(err)
	}
	e, err := r.b.list.Find(r.id)
	if err != nil || len(e.Store.Resources) != 1 || e.Store.Resources[0] != path {
		t.Errorf("the store of the settings: %+v, %v", e, err)
	}
}

// TestChangeReachesOtherProcesses: another process uses a changed description, and says so if it cannot because its own
// files are others; a change of two processes at the same time is refused to one of them.
func TestChangeReachesOtherProcesses(t *testing.T) {
	authority := certificate(t)
	synctest.Test(t, func(t *testing.T) { changeReachesOthers(t, authority) })
}

func changeReachesOthers(t *testing.T, authority []byte) {
	r := startTwo(t, "memory:"+t.Name())
	roleOf := func() (role, fault string) {
		t.Helper()
		time.Sleep(2 * time.Second) // Current accepts what is a second old
		if err := r.b.list.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		e, err := r.b.list.Find(r.id)
		if err != nil {
			t.Fatal(err)
		}
		return e.Store.Login.Role, e.Fault
	}
	change := func(p *process, fields map[string]string) error {
		_, err := p.list.Change(t.Context(), visage.Caller{}, r.id, fields)
		return err
	}
	if err := change(r.a, map[string]string{"login.role": "faces-{principal}"}); err != nil {
		t.Fatal(err)
	}
	if role, fault := roleOf(); role != "faces-{principal}" || fault != "" {
		t.Errorf("another process has the role %q, fault %q", role, fault)
	}
	authorities := filepath.Join(r.a.files, "ca.pem") // of the first one alone
	if err := os.WriteFile(authorities, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := change(r.a, map[string]string{"caFile": authorities}); err != nil {
		t.Fatal(err)
	}
	if _, fault := roleOf(); !strings.Contains(fault, "must be in") {
		t.Errorf("without its file, another process has the fault %q", fault)
	}
	if !r.b.list.Set().Describes(r.key.of) || r.b.list.Set().Require(r.key.of) == nil {
		t.Error("another process uses the former description")
	}
	if err := change(r.a, map[string]string{"caFile": ""}); err != nil {
		t.Fatal(err)
	}
	if _, fault := roleOf(); fault != "" || r.b.list.Set().Require(r.key.of) != nil {
		t.Errorf("with a description that it can use: fault %q", fault)
	}
	r.b.users = func() {
		r.b.users = nil
		if err := change(r.a, map[string]string{"login.role": "a-{principal}"}); err != nil {
			t.Error(err)
		}
	}
	if err := change(r.b, map[string]string{"login.role": "b-{principal}"}); codeOf(err) != "RequestConflict" {
		t.Errorf("the second of two changes: %v", err)
	}
	if role, _ := roleOf(); role != "a-{principal}" {
		t.Errorf("after both, the role is %q", role)
	}
}

// TestStoreOfTheSettingsWithoutItsFile: a store of the settings whose file is missing keeps no server from starting,
// and is used when the file is there. A mistake in a description stays an error.
func TestStoreOfTheSettingsWithoutItsFile(t *testing.T) {
	authority := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		r := startTwo(t, "memory:"+t.Name())
		ca := filepath.Join(t.TempDir(), "ca.pem")
		lacking := stores.Store{Address: "hashivault://one.example/transit", CAFile: ca,
			Login: stores.Login{Method: "jwt"}}
		whole := stores.Store{Address: "hashivault://two.example/transit", Login: stores.Login{Method: "jwt"}}
		r.b.settings = []stores.Store{lacking, whole}
		r.b.open(t)
		if err := r.b.list.Admit(func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		of := func(s stores.Store) visage.KeyRef { return visage.KeyRef{Vault: s.Address, Name: "faces"} }
		set, id := r.b.list.Set(), registry.IDOf(lacking.Address)
		if err := set.Require(of(whole)); err != nil {
			t.Errorf("the other store: %v", err)
		}
		if err := set.Require(of(lacking)); codeOf(err) != "KeyStoreNotUsable" || !set.Describes(of(lacking)) {
			t.Errorf("the store without its file: %v", err)
		}
		if e, err := r.b.list.Find(id); err != nil || e.Origin != registry.FromSettings ||
			!strings.Contains(e.Fault, "no such file") {
			t.Errorf("in the list: %+v, %v", e, err)
		}
		if _, err := r.b.list.Add(t.Context(), visage.Caller{}, lacking); codeOf(err) != "KeyStoreExists" {
			t.Errorf("added as well: %v", err)
		}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.b.list.Run(ctx) }()
		if err := os.WriteFile(ca, authority, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if e, err := r.b.list.Find(id); err != nil || e.Fault != "" || set.Require(of(lacking)) != nil {
			t.Errorf("with its file: %+v, %v", e, err)
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for name, bad := range map[string][]stores.Store{
			"twice": {whole, whole}, "no login": {{Address: whole.Address}},
			"twice without its file": {{Address: whole.Address, CAFile: ca + "x", Login: whole.Login}, whole},
		} {
			_, err := registry.Open(t.Context(), registry.Config{Store: r.b.store, Settings: bad, Audit: unheard{},
				Calls: registry.NewCalls()})
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}

// TestStoreThatCannotBeUsedIsRemoved: nothing of a store that could not be used stays after its removal.
func TestStoreThatCannotBeUsedIsRemoved(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	r.b.open(t)
	if err := r.b.list.Admit(func(string) bool { return true }); err != nil { // its audience is one of the instance
		t.Fatal(err)
	}
	if !r.b.list.Set().Describes(r.key.of) || r.b.list.Set().Require(r.key.of) == nil {
		t.Fatal("the store has no fault")
	}
	if err := r.b.list.Remove(t.Context(), visage.Caller{}, r.id); err != nil {
		t.Fatal(err)
	}
	if r.b.list.Set().Describes(r.key.of) {
		t.Error("the store is still reserved")
	}
}

// TestRefusalsOfThisInstanceAreNoAnswers: what this instance refuses is not counted as an answer of the store.
func TestRefusalsOfThisInstanceAreNoAnswers(t *testing.T) {
	calls, fake := registry.NewCalls("awskms"), sourcetest.NewFake("faces")
	of := visage.KeyRef{Vault: "awskms://eu-central-1/111122223333", Name: "faces"}
	src := calls.Observe("awskms", of, true, refusing{fake})
	if _, err := src.Describe(t.Context(), keysource.Ref{}); codeOf(err) != "KeyStoreNotPermitted" {
		t.Fatal(err)
	}
	if last, found := calls.Last(of.Vault); found {
		t.Errorf("an answer: %+v", last)
	}
	src = calls.Observe("awskms", of, true, fake)
	if _, err := src.Describe(t.Context(), keysource.Ref{}); err != nil {
		t.Fatal(err)
	}
	if last, found := calls.Last(of.Vault); !found || last.Class != "ok" {
		t.Errorf("no answer: %+v", last)
	}
}

// refusing is a source that this instance does not ask.
type refusing struct{ keysource.Source }

// Describe implements keysource.Source.
func (refusing) Describe(context.Context, keysource.Ref) (d keysource.Description, err error) {
	return d, stores.Store{Address: "awskms://eu-central-1/111122223333", Resources: []string{group}}.Permit(
		stores.Asker{})
}

func (r two) enable(t *testing.T) error {
	_, err := r.b.custody.Enable(t.Context(), resource, r.key.of, "a-principal")
	return err
}

func (r two) remove(t *testing.T) error { return r.a.list.Remove(t.Context(), visage.Caller{}, r.id) }

func codeOf(err error) string {
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		return refusal.Code
	}
	return ""
}

// TestRemovedStoreProtectsNothing: another process checks a key while its store is removed, and does not know of that.
func TestRemovedStoreProtectsNothing(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	var once sync.Once
	r.key.meet = func(call string) {
		once.Do(func() {
			if err := r.remove(t); err != nil {
				t.Errorf("remove a store that no resource uses: %v", err)
			}
		})
	}
	if err := r.enable(t); codeOf(err) != "InvalidKeyVaultProperties" {
		t.Errorf("enable a key in a store that was removed meanwhile: %v", err)
	}
	if s, err := r.b.custody.Status(t.Context(), resource); err != nil || s.Condition != custody.ServiceManaged ||
		s.Operation.Progress != custody.Failed {
		t.Errorf("afterwards: %+v, %v", s, err)
	}
}

// TestStoreInUseElsewhereStays: another process is about to wrap a resource's data key with a key in a store.
func TestStoreInUseElsewhereStays(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	var unchanged func(sealed.Reader) (bool, error) // since the key was checked
	r.key.meet = func(call string) {
		users, since, err := r.a.custody.StoredUses(t.Context(), visage.KeyRef{Vault: r.key.of.Vault})
		if err != nil || len(users) == 0 {
			unchanged = since
			return // the key is only being checked
		}
		if n := len(r.a.custody.Uses(visage.KeyRef{Vault: r.key.of.Vault})); n != 0 {
			t.Errorf("the process knows of %d uses already, so that this test shows nothing", n)
		}
		if err := r.remove(t); codeOf(err) != "KeyStoreInUse" {
			t.Errorf("remove a store that another process is about to use: %v", err)
		}
		nobody := []string{group + "/providers/Microsoft.CognitiveServices/accounts/other"}
		_, err = r.a.list.Change(t.Context(), visage.Caller{}, r.id, only(nobody...))
		if codeOf(err) != "KeyStoreInUse" {
			t.Errorf("leave out a resource that another process is about to protect: %v", err)
		}
	}
	if err := r.enable(t); err != nil {
		t.Fatalf("enable: %v", err)
	}
	r.key.meet = nil
	if err := r.remove(t); codeOf(err) != "KeyStoreInUse" {
		t.Errorf("remove a store that another process uses: %v", err)
	}
	err := r.a.store.Space(sealed.Operator).View(t.Context(), func(tx sealed.Reader) error {
		same, err := unchanged(tx)
		if err == nil && same {
			err = errors.New("what was read before the use is taken for what is stored now")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestUnreadableKeysKeepAStore: nobody can tell which keys protect a resource whose record of them cannot be read.
func TestUnreadableKeysKeepAStore(t *testing.T) {
	r := startTwo(t, "memory:"+t.Name())
	bundle := r.a.store.Bundle(resource)
	keys, err := bundle.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.SetNote(t.Context(), keys.Sequence, []byte(`{"Format":0}`)); err != nil {
		t.Fatal(err)
	}
	err = r.remove(t)
	if codeOf(err) != "KeyStoreInUse" || !strings.Contains(err.Error(), "cannot be read: "+resource.String()) {
		t.Errorf("remove a store while the keys of a resource cannot be read: %v", err)
	}
}

// TestRemovalAndUseExcludeEachOther: one process removes a store while another one puts a resource under a key in it.
func TestRemovalAndUseExcludeEachOther(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		exclude(t, 25, func(t *testing.T) string { return "memory:" + visage.NewUUID().String() })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		exclude(t, 5, func(t *testing.T) string { return postgres.Shared(t).Database(t) })
	})
}

func exclude(t *testing.T, rounds int, engine func(*testing.T) string) {
	won := map[string]int{}
	for range rounds {
		r := startTwo(t, engine(t))
		var removed, enabled error
		var both sync.WaitGroup
		both.Go(func() { removed = r.remove(t) })
		both.Go(func() { enabled = r.enable(t) })
		both.Wait()
		_, err := r.a.list.Find(r.id)
		switch {
		case removed == nil && codeOf(enabled) == "InvalidKeyVaultProperties" && codeOf(err) == "KeyStoreNotFound":
			won["removal"]++
		case codeOf(removed) == "KeyStoreInUse" && enabled == nil && err == nil:
			won["use"]++
		case codeOf(removed) == "KeyStoreInUse" && enabled != nil && err == nil:
			won["none"]++
		default:
			t.Fatalf("removed: %v; enabled: %v; the store: %v", removed, enabled, err)
		}
	}
	t.Logf("won: %v", won)
}

// certificate returns one in PEM.
func certificate(t *testing.T) []byte {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
