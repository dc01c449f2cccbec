package hashivault

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// kvTokenLife is how long a token is used for a KV engine: one that ends sooner is noticed by its refusal.
const kvTokenLife = 5 * time.Minute

// maxList is how many bytes of an answer of a KV engine are read: a list has about 40 for each resource.
const maxList = 64 << 20

// KVForm is what the address of a folder in a KV engine looks like.
const KVForm = "hashivault://HOST/MOUNT/FOLDER?login=METHOD, where METHOD is token, approle, jwt or kubernetes"

// KV is a folder of a KV engine of version 2 of HashiCorp Vault or OpenBao, whose values have versions that can be
// destroyed. Its policy needs create and update on MOUNT/data/FOLDER/*, read there as well, update on
// MOUNT/destroy/FOLDER/*, list and delete on MOUNT/metadata/FOLDER/*. It is safe for concurrent use.
//
// Every error is a *keysource.Error: of the class ErrDenied when the server refuses for certain, and else of
// ErrUnknown, when it is not known whether the call was done.
type KV struct {
	*client
	folder  string
	appRole bool         // it logs in with a secret id
	ca      *answer.File // the authorities of the server's certificate; nil: the system's
	caPath  string
	caFault atomic.Pointer[error] // why ca was not read again; nil: it was
}

// kvAddress is an address of a KV engine in parts.
type kvAddress struct {
	at           place
	folder       string
	caFile       string
	method, role string
	loginMount   string
}

// CheckKV reports what is wrong with the address of a folder in a KV engine.
func CheckKV(address string) error {
	_, err := parseKV(address)
	return err
}

func parseKV(address string) (a kvAddress, err error) {
	u, err := url.Parse(address)
	if err != nil || strings.ToLower(u.Scheme) != Scheme || u.Opaque != "" || u.RawPath != "" || u.Fragment != "" {
		return a, fmt.Errorf("it is not the address of a KV engine: give %s", KVForm) // it may hold a secret
	}
	if u.User != nil {
		return a, errors.New("it has a user or a password, which everybody on the machine can see in the list of " +
			"processes: take it out, and name a file with the secret of the login instead")
	}
	if a.at.host, err = parseHost(u); err != nil {
		return a, err
	}
	query := u.Query()
	for name, values := range query {
		if !slices.Contains([]string{"namespace", "mount", "ca", "login", "role", "login-mount"}, name) {
			return a, fmt.Errorf("the parameter %.50q is not known; the known ones are namespace, mount, ca, login, "+
				"role and login-mount", name)
		}
		if len(values) != 1 || values[0] == "" {
			return a, fmt.Errorf("the parameter %s needs one value", name)
		}
	}
	a.at.namespace, a.caFile, a.role = query.Get("namespace"), query.Get("ca"), query.Get("role")
	a.method = cmp.Or(query.Get("login"), "token")
	a.loginMount = cmp.Or(query.Get("login-mount"), a.method)
	switch a.method {
	case "token":
	case "approle", "jwt", "kubernetes":
		if a.role == "" {
			return a, fmt.Errorf("login=%s needs role=…: the id of the AppRole, or the name of the role", a.method)
		}
	default:
		return a, fmt.Errorf("login=%.50s is not known: give token, approle, jwt or kubernetes", a.method)
	}
	path := strings.Trim(u.Path, "/")
	mount := strings.Trim(query.Get("mount"), "/")
	if mount == "" {
		mount, _, _ = strings.Cut(path, "/")
	}
	rest, under := strings.CutPrefix(path+"/", mount+"/")
	if mount == "" || !under {
		return a, fmt.Errorf("its path does not begin with the mount of the engine: give %s", KVForm)
	}
	a.at.mount, a.folder = mount, strings.Trim(rest, "/")
	if a.folder == "" {
		return a, fmt.Errorf("it names no folder in the engine: give %s", KVForm)
	}
	for segment := range strings.SplitSeq(a.at.mount+"/"+a.folder+"/"+a.loginMount, "/") {
		if !kvSegment(segment) {
			return a, fmt.Errorf("mounts and folders have letters, digits, points, hyphens and underscores; got %.100q",
				segment)
		}
	}
	return a, nil
}

// kvSegment reports whether a part of a path means itself in every spelling.
func kvSegment(s string) bool {
	return s != "" && s != "." && s != ".." && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz"+
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}

// OpenKV returns the folder at an address, which is as KVForm says. The first line of secretFile is what the login
// needs: a token, the secret id of an AppRole, or the JWT of a workload, as Kubernetes puts it there. It is read with
// every login, so that it can be replaced; so can the file of ca. Nothing is sent yet.
func OpenKV(address, secretFile string) (*KV, error) {
	a, err := parseKV(address)
	if err != nil {
		return nil, fmt.Errorf("open the KV engine: %w", err)
	}
	if secretFile == "" {
		return nil, errors.New("open the KV engine: a file with the secret of the login is needed")
	}
	var roots *x509.CertPool
	var ca *answer.File
	if a.caFile != "" {
		ca = answer.Watch(a.caFile)
		if roots, err = answer.ReadRoots(a.caFile); err != nil {
			return nil, fmt.Errorf("open the KV engine: read the file of ca: %w", err)
		}
	}
	login := Token(secretFile)
	switch a.method {
	case "approle":
		login = AppRole(a.loginMount, a.role, secretFile)
	case "jwt", "kubernetes":
		login = JWT(a.loginMount, a.role, func(context.Context) (string, time.Time, error) {
			token, err := firstLine(secretFile)
			return token, time.Time{}, err
		})
	}
	refusals := &Refusals{once: true}
	if a.method != "approle" { // roles are made again under the same names, and nobody is locked out
		refusals.long = loginRest
	}
	c := newServers(Config{Roots: roots, Refusals: refusals}, maxList).client(a.at, login, kvTokenLife)
	return &KV{client: c, folder: a.folder, appRole: a.method == "approle", ca: ca, caPath: a.caFile}, nil
}

// Name is the address without parameters.
func (k *KV) Name() string { return Scheme + "://" + k.at.host + "/" + k.at.mount + "/" + k.folder }

// kvMetadata says of a version what is known beside its value.
type kvMetadata struct {
	Version   int    `json:"version"`
	Deletion  string `json:"deletion_time"`
	Destroyed bool   `json:"destroyed"`
}

// Read returns the newest version of a value. A version of zero: there is none and was none; a nil value of another
// version: it was deleted or destroyed.
func (k *KV) Read(ctx context.Context, path string) (value []byte, version int, err error) {
	var got struct {
		Data     *struct{ Value string } `json:"data"`
		Metadata kvMetadata              `json:"metadata"`
	}
	err = k.do(ctx, http.MethodGet, "data", path, nil, kept{&got})
	if isNothing(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, k.failed("read", path, err)
	}
	if got.Metadata.Version < 1 {
		return nil, 0, k.failed("read", path, errors.New("the answer is not of a KV engine of version 2"))
	}
	if got.Data == nil || got.Metadata.Destroyed {
		return nil, got.Metadata.Version, nil
	}
	if value, err = base64.StdEncoding.DecodeString(got.Data.Value); err != nil || len(value) == 0 {
		return nil, 0, k.failed("read", path, errors.New("the answer holds no value that was written here"))
	}
	return value, got.Metadata.Version, nil
}

// Write puts a value in place of a version, which must be the newest; zero: there is none. It returns the version that
// it has made. ok is false when another one is the newest: nothing was written then.
func (k *KV) Write(ctx context.Context, path string, after int, value []byte) (version int, ok bool, err error) {
	var made kvMetadata
	// Made twice, it would find its own version, and report that another one is the newest.
	err = k.do(answer.Once(ctx), http.MethodPost, "data", path, map[string]any{
		"options": map[string]any{"cas": after},
		"data":    map[string]any{"value": base64.StdEncoding.EncodeToString(value)},
	}, data{&made})
	if e, is := errors.AsType[*refusal](err); is && e.says("did not match the current version", http.StatusBadRequest) {
		return 0, false, nil
	}
	if err == nil && made.Version < 1 {
		err = errors.New("the answer is not of a KV engine of version 2")
	}
	if err != nil {
		return 0, false, k.failed("write", path, err)
	}
	if made.Deletion == "" {
		return made.Version, true, nil
	}
	if after == 0 {
		return 0, false, errors.Join(k.forgets(path, made), k.Destroy(ctx, path, made.Version))
	}
	// One that replaces another stays: the newest version counts, and destroying it would lose the value.
	return 0, false, k.forgets(path, made)
}

// forgets is the refusal to keep anything where versions are deleted after a time.
func (k *KV) forgets(path string, made kvMetadata) error {
	return &keysource.Error{Class: keysource.ErrDenied, Text: fmt.Sprintf("%s deletes version %d of %s on %s: set "+
		"delete_version_after to 0s, for the engine and the path, and undelete versions that are in use",
		k.Name(), made.Version, path, made.Deletion)}
}

// Keeps makes sure that the engine does not delete versions after a time: it writes a value of no meaning under a name
// of its own, and deletes it. What is to be replaced would else get a newest version that the engine deletes.
func (k *KV) Keeps(ctx context.Context) error {
	path := "probe/" + strings.ToLower(rand.Text())
	_, ok, err := k.Write(ctx, path, 0, []byte("probe"))
	if err == nil && !ok {
		err = k.failed("write", path, errors.New("there is one already"))
	}
	return errors.Join(err, k.Delete(ctx, path))
}

// Destroy removes versions of a value for good.
func (k *KV) Destroy(ctx context.Context, path string, versions ...int) error {
	err := k.do(ctx, http.MethodPost, "destroy", path, map[string]any{"versions": versions}, nil)
	return k.failed("destroy", path, err)
}

// Delete removes a value for good, with all its versions and what is known of them.
func (k *KV) Delete(ctx context.Context, path string) error {
	return k.failed("delete", path, k.do(ctx, http.MethodDelete, "metadata", path, nil, nil))
}

// List returns the names in a folder, in no order. Those of folders end in a slash.
func (k *KV) List(ctx context.Context, path string) ([]string, error) {
	var got struct {
		Keys []string `json:"keys"`
	}
	err := k.do(ctx, "LIST", "metadata", path, nil, data{&got})
	if isNothing(err) {
		return nil, nil
	}
	return got.Keys, k.failed("list", path, err)
}

func (k *KV) do(ctx context.Context, method, what, path string, request, want any) error {
	k.renewRoots()
	ctx, cancel := timed(ctx)
	defer cancel()
	err := k.ask(ctx, method, k.at.mount+"/"+what+"/"+k.folder+"/"+path, request, want)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return ended{cause}
	}
	return err
}

// renewRoots reads the authorities again if their file has changed. What cannot be read leaves the former ones.
func (k *KV) renewRoots() {
	if k.ca == nil {
		return
	}
	k.ca.Renew(func() error {
		roots, err := answer.ReadRoots(k.caPath)
		if err != nil {
			k.caFault.Store(&err)
			return err
		}
		k.caFault.Store(nil)
		k.servers.http.Store(answer.Client(roots, nil, k.servers.limit))
		return nil
	})
}

// isNothing reports whether an error is the server's word that there is nothing at a path.
func isNothing(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	return ok && e.status == http.StatusNotFound && len(e.errors) == 0
}

// failed gives an error its class.
func (k *KV) failed(verb, path string, err error) error {
	if err == nil {
		return nil
	}
	class, text := keysource.ErrUnknown, err.Error()
	e, refused := errors.AsType[*refusal](err)
	login, noLogin := errors.AsType[*loginError](err)
	switch {
	case loginDenied(err):
		class, text = keysource.ErrDenied, "the login is refused: "+text
		if k.appRole {
			text += "; if the secret id had a limit of uses or of time (secret_id_num_uses, secret_id_ttl), it is " +
				"spent: put a new one into the first line of its file, which needs no restart"
		}
	case noLogin:
		text = fmt.Sprintf("no login could be made: %.300s", login)
	case denied(err):
		class, text = keysource.ErrDenied, text+"; its policy has to permit this"
	case refused && e.status == http.StatusNotFound:
		text = "there is no KV engine at " + k.at.mount + ": " + text
	}
	if fault := k.caFault.Load(); fault != nil && class == keysource.ErrUnknown {
		text += fmt.Sprintf("; the file of ca has changed and was not read again: %.200s", *fault)
	}
	return &keysource.Error{Class: class, Text: fmt.Sprintf("%s %s/%s: %s", verb, k.Name(), path, text)}
}
