package armapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keyvault"
)

// vaultKeyRoutes are the keys of a vault on the management plane, for templates that create a vault with its keys: a
// key can be created if its name is free, and read. All other operations are those of the vault's own address.
func (p *plane) vaultKeyRoutes(route routeMaker) []api.Route {
	const (
		all      = oneVault + "/keys"
		key      = all + "/{key}"
		versions = key + "/versions"
	)
	return []api.Route{
		route(http.MethodGet, all, p.listKeys,
			api.Doc{Summary: "List the keys of a vault", Answer: vaultKeyList{}, Query: pageParams}),
		route(http.MethodGet, key, p.getKey, api.Doc{Summary: "Get the newest version of a key", Answer: vaultKey{}}),
		route(http.MethodPut, key, p.putKey,
			api.Doc{Summary: "Make a key, if there is none of the name", Body: vaultKeyRequest{}, Answer: vaultKey{}}),
		route(http.MethodGet, versions, p.listKeyVersions,
			api.Doc{Summary: "List the versions of a key", Answer: vaultKeyList{}, Query: pageParams}),
		route(http.MethodGet, versions+"/{version}", p.getKey,
			api.Doc{Summary: "Get a version of a key", Answer: vaultKey{}}),
	}
}

type vaultKeyList struct{ armwire.Page[vaultKey] }

type vaultKey struct {
	ID         string             `json:"id"`
	Name       string             `json:"name"`
	Type       string             `json:"type"`
	Location   string             `json:"location"`
	Tags       map[string]string  `json:"tags"`
	Properties vaultKeyProperties `json:"properties"`
}

type vaultKeyProperties struct {
	Attributes vaultKeyAttributes `json:"attributes"`
	Type       string             `json:"kty"`
	Operations []string           `json:"keyOps"`
	Bits       int                `json:"keySize,omitempty"`
	Curve      string             `json:"curveName,omitempty"`
	URI        string             `json:"keyUri"`
	VersionURI string             `json:"keyUriWithVersion"`
}

// vaultKeyAttributes have times in seconds since 1970.
type vaultKeyAttributes struct {
	Enabled       bool   `json:"enabled"`
	NotBefore     *int64 `json:"nbf,omitempty"`
	Expires       *int64 `json:"exp,omitempty"`
	Created       int64  `json:"created"`
	Updated       int64  `json:"updated"`
	RecoveryLevel string `json:"recoveryLevel"`
	Exportable    bool   `json:"exportable"`
}

type vaultKeyRequest struct {
	Tags       map[string]string `json:"tags"`
	Properties vaultKeyWishes    `json:"properties" api:"required"`
}

type vaultKeyWishes struct {
	Attributes struct {
		Enabled    *bool  `json:"enabled"`
		NotBefore  *int64 `json:"nbf"`
		Expires    *int64 `json:"exp"`
		Exportable bool   `json:"exportable"`
	} `json:"attributes"`
	Type       string          `json:"kty"`
	Operations []string        `json:"keyOps"`
	Bits       int             `json:"keySize"`
	Curve      string          `json:"curveName"`
	Rotation   json.RawMessage `json:"rotationPolicy"`
	Release    json.RawMessage `json:"release_policy"`
}

// keyManager is the caller of an operation on keys that the roles of the management plane allow.
func keyManager(r *api.Request) visage.Caller {
	who := r.Caller()
	who.Manager = true
	return who
}

func (p *plane) vaultKey(v keyvault.Vault, k keyvault.Key, version bool) vaultKey {
	newest := k.Ref
	newest.Version = ""
	w := vaultKey{
		ID: p.vaultID(v) + "/keys/" + k.Name, Name: k.Name, Type: vaultType + "/keys", Location: v.Location,
		Tags: k.Tags,
		Properties: vaultKeyProperties{
			Attributes: vaultKeyAttributes{
				Enabled: k.Enabled, NotBefore: secondsOf(k.NotBefore), Expires: secondsOf(k.Expires),
				Created: k.Created.Unix(), Updated: k.Updated.Unix(),
				RecoveryLevel: v.RecoveryLevel(),
			},
			Type: k.Public.Type, Operations: []string{}, Bits: k.Public.Bits(), Curve: k.Public.Curve,
			URI: p.Vaults.KeyID(newest), VersionURI: p.Vaults.KeyID(k.Ref),
		},
	}
	if version {
		w.ID, w.Name, w.Type = w.ID+"/versions/"+k.Version, k.Version, vaultType+"/keys/versions"
	}
	if w.Tags == nil {
		w.Tags = map[string]string{}
	}
	for _, op := range k.Operations {
		w.Properties.Operations = append(w.Properties.Operations, string(op))
	}
	return w
}

// secondsOf encodes a time as keys do; nil for the zero time.
func secondsOf(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.Unix()
	return &n
}

// timeOf reverses secondsOf.
func timeOf(seconds *int64) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	return time.Unix(*seconds, 0).UTC()
}

// keyPath returns the key that a path names, and whether it names a version.
func keyPath(r *api.Request) (keyvault.Ref, bool) {
	ref := keyvault.Ref{Vault: r.Path("vault"), Name: r.Path("key")}
	if !strings.HasSuffix(r.Route().Pattern, "/{version}") {
		return ref, false
	}
	ref.Version = r.Path("version")
	return ref, true
}

func (p *plane) getKey(r *api.Request) (any, error) {
	v, err := p.Vaults.Vault(r.Context(), r.Path("vault"))
	if err != nil {
		return nil, notFound(r, err)
	}
	ref, version := keyPath(r)
	k, err := p.Vaults.Key(r.Context(), keyManager(r), ref)
	if err != nil {
		return nil, err
	}
	return p.vaultKey(v, k, version), nil
}

// putKey creates a key. An existing key is answered unchanged, since templates are applied repeatedly.
func (p *plane) putKey(r *api.Request) (any, error) {
	var want vaultKeyRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	v, err := p.Vaults.Vault(r.Context(), r.Path("vault"))
	if err != nil {
		return nil, notFound(r, err)
	}
	ref, _ := keyPath(r)
	k, err := p.Vaults.Key(r.Context(), keyManager(r), ref)
	if isUnknown(err) {
		var made keyvault.NewKey
		if made, err = want.key(); err == nil {
			k, err = p.Vaults.CreateKey(r.Context(), keyManager(r), ref, made)
		}
	}
	if err != nil {
		return nil, err
	}
	return p.vaultKey(v, k, false), nil
}

// key decodes the key to create.
func (want vaultKeyRequest) key() (keyvault.NewKey, error) {
	w := want.Properties
	given := func(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
	switch {
	case given(w.Rotation):
		return keyvault.NewKey{},
			badVault(
				"rotationPolicy is not supported here: create the key, then set its rotation policy at the vaultUri.",
			)
	case given(w.Release), w.Attributes.Exportable:
		return keyvault.NewKey{}, badVault("Keys cannot be exported from the vault: leave release_policy and " +
			"exportable out.")
	}
	made := keyvault.NewKey{
		Type: w.Type, Bits: w.Bits, Curve: w.Curve, Tags: want.Tags,
		Attributes: keyvault.Attributes{
			Enabled: w.Attributes.Enabled == nil || *w.Attributes.Enabled, NotBefore: timeOf(w.Attributes.NotBefore),
			Expires: timeOf(w.Attributes.Expires),
		},
	}
	if made.Type == "" {
		made.Type = "RSA"
	}
	for _, op := range w.Operations {
		made.Operations = append(made.Operations, keyvault.Operation(op))
	}
	return made, nil
}

func (p *plane) listKeys(r *api.Request) (any, error) {
	return p.answerKeys(r, false, func(after string, most int) (keyvault.Page, error) {
		return p.Vaults.Keys(r.Context(), keyManager(r), r.Path("vault"), after, most)
	})
}

func (p *plane) listKeyVersions(r *api.Request) (any, error) {
	ref, _ := keyPath(r)
	return p.answerKeys(r, true, func(after string, most int) (keyvault.Page, error) {
		if _, err := p.Vaults.Key(r.Context(), keyManager(r), ref); err != nil {
			return keyvault.Page{}, err
		}
		return p.Vaults.KeyVersions(r.Context(), keyManager(r), ref, after, most)
	})
}

// answerKeys answers with a part of a list of keys and a link to the next.
func (p *plane) answerKeys(
	r *api.Request, versions bool, list func(after string, most int) (keyvault.Page, error),
) (any, error) {
	v, err := p.Vaults.Vault(r.Context(), r.Path("vault"))
	if err != nil {
		return nil, notFound(r, err)
	}
	most, err := topOf(r)
	if err != nil {
		return nil, err
	}
	after, err := skipOf(r)
	if err != nil {
		return nil, err
	}
	part, err := list(after, most)
	if err != nil {
		return nil, err
	}
	answer := armwire.Page[vaultKey]{Value: []vaultKey{}}
	for _, k := range part.Keys {
		answer.Value = append(answer.Value, p.vaultKey(v, k, versions))
	}
	if part.Next != "" {
		answer.Next, err = p.nextLink(r, base64.RawURLEncoding.EncodeToString([]byte(part.Next)))
	}
	return answer, err
}
