package faceapi

import (
	"net/http"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	// maxImage is the length of the longest image, contract §2.1.
	maxImage = 6 * mib
	// maxJSON has room for 16,384 UTF-16 units of userData, each written as \uXXXX, and for 1,000 face ids.
	maxJSON = 256 * kib

	quick   = 30 * time.Second // for operations on records
	patient = 90 * time.Second // for operations that fetch and analyse photos
)

// routes is the table of one version, in the order of the contract.
func (p *plane) routes() []api.Route {
	routes := []api.Route{
		p.photo("/detect", p.detect,
			api.Doc{Summary: "Find faces on a photo", Query: detectQuery, Answer: []faceAnswer{}}),
		p.post("/verify", p.verify,
			api.Doc{Summary: "Compare two faces, or a face with a person", Body: verifyBody{},
				Answer: verdictAnswer{}}),
		p.post("/identify", p.identify,
			api.Doc{Summary: "Find the persons of a group that faces may show", Body: identifyBody{},
				Answer: []identifiedAnswer{}}),
		p.post("/findsimilars", p.findSimilar,
			api.Doc{Summary: "Find the faces most similar to a face", Body: similarBody{}, Answer: []similarAnswer{}}),
		p.post("/group", p.group,
			api.Doc{Summary: "Sort faces into groups of similar faces", Body: groupBody{}, Answer: groupAnswer{}}),
	}
	for _, f := range families {
		routes = append(routes, p.collectionRoutes(f)...)
		if f.persons {
			routes = append(routes, p.personRoutes(f)...)
		} else {
			routes = append(routes, p.faceRoutes(f)...)
		}
	}
	if p.liveness {
		routes = append(routes, p.livenessRoutes()...)
	}
	return routes
}

// family is one of the four kinds of collection with its words in paths and answers.
type family struct {
	kind    face.Kind
	path    string
	id      string // the name of the id in paths and answers
	noun    string
	persons bool // holds persons, who hold faces
	trained bool
	answer  any // for the OpenAPI document: one, and many
	answers any
}

var families = []family{
	{
		kind: face.FaceList, path: "/facelists", id: "faceListId", noun: "face list",
		answer: faceListAnswer{}, answers: []faceListAnswer{},
	},
	{
		kind: face.LargeFaceList, path: "/largefacelists", id: "largeFaceListId", noun: "large face list",
		trained: true, answer: largeFaceListAnswer{}, answers: []largeFaceListAnswer{},
	},
	{
		kind: face.PersonGroup, path: "/persongroups", id: "personGroupId", noun: "person group",
		persons: true, trained: true, answer: personGroupAnswer{}, answers: []personGroupAnswer{},
	},
	{
		kind: face.LargePersonGroup, path: "/largepersongroups", id: "largePersonGroupId", noun: "large person group",
		persons: true, trained: true, answer: largePersonGroupAnswer{}, answers: []largePersonGroupAnswer{},
	},
}

// ref returns the collection that the path names.
func (f family) ref(r *api.Request) face.Ref { return face.Ref{Kind: f.kind, ID: r.Path(f.id)} }

// idIn returns the id of a person or a face in the path.
func idIn(r *api.Request, name string) string { return visage.FoldUUID(r.Path(name)) }

// foldIDs converts ids of persons and faces in a body to lower case, the one form in answers and services.
func foldIDs(ids ...*string) {
	for _, id := range ids {
		*id = visage.FoldUUID(*id)
	}
}

// foldAll is foldIDs for a list.
func foldAll(ids []string) {
	for i := range ids {
		ids[i] = visage.FoldUUID(ids[i])
	}
}

// handle is a handler of this plane.
type handle = func(*api.Request) (any, error)

func (p *plane) route(method, path string, maxBody int64, timeout time.Duration, h handle, doc api.Doc) api.Route {
	return api.Route{
		Method: method, Pattern: p.base + path, Allow: api.ResourceKey, MaxBody: maxBody, Timeout: timeout, Handle: h,
		Doc: doc,
	}
}

func (p *plane) get(path string, h handle, doc api.Doc) api.Route {
	return p.route(http.MethodGet, path, 0, quick, h, doc)
}

func (p *plane) put(path string, h handle, doc api.Doc) api.Route {
	return p.route(http.MethodPut, path, maxJSON, quick, h, doc)
}

func (p *plane) patch(path string, h handle, doc api.Doc) api.Route {
	return p.route(http.MethodPatch, path, maxJSON, quick, h, doc)
}

func (p *plane) delete(path string, h handle, doc api.Doc) api.Route {
	return p.route(http.MethodDelete, path, 0, quick, h, doc)
}

func (p *plane) post(path string, h handle, doc api.Doc) api.Route {
	return p.route(http.MethodPost, path, maxJSON, quick, h, doc)
}

// photo is a POST with an image.
func (p *plane) photo(path string, h handle, doc api.Doc) api.Route {
	doc.Body, doc.Image = urlBody{}, true
	return p.route(http.MethodPost, path, maxImage, patient, h, doc)
}

// livenessRoutes refuses the sessions of contract §10, in the way the contract refuses a feature that a resource was
// not approved for.
func (p *plane) livenessRoutes() []api.Route {
	var routes []api.Route
	for _, path := range []string{"/detectLiveness-sessions", "/detectLivenessWithVerify-sessions"} {
		doc := api.Doc{Summary: "Not available: liveness sessions"}
		routes = append(routes,
			p.route(http.MethodPost, path, 0, quick, refuseLiveness, doc),
			p.get(path+"/{sessionId}", refuseLiveness, doc),
			p.delete(path+"/{sessionId}", refuseLiveness, doc))
	}
	return append(routes, p.get("/sessionImages/{sessionImageId}", refuseLiveness,
		api.Doc{Summary: "Not available: images of sessions"}))
}

func refuseLiveness(*api.Request) (any, error) {
	r := visage.Refuse(visage.Unsupported, "InvalidRequest", "This service does not support liveness sessions.")
	r.InnerCode = "UnsupportedFeature"
	return nil, r
}
