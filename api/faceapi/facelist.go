package faceapi

import (
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// addedFace is the answer to an enrolment.
type addedFace struct {
	ID string `json:"persistedFaceId"`
}

// faceChangeBody is the request to change a persisted face.
type faceChangeBody struct {
	UserData *string `json:"userData"`
}

// faceRoutes are the operations on the faces of a list. The contract cannot read or change one face of a small list.
func (p *plane) faceRoutes(f family) []api.Route {
	faces := f.path + "/{" + f.id + "}/persistedfaces"
	item := faces + "/{persistedFaceId}"
	routes := []api.Route{
		p.photo(faces, p.addFace(f),
			api.Doc{Summary: "Add a face to a " + f.noun, Query: enrolQuery, Answer: addedFace{}}),
		p.delete(item, p.deleteFace(f), api.Doc{Summary: "Delete a face of a " + f.noun}),
	}
	if f.kind == face.FaceList {
		return routes
	}
	return append(routes,
		p.get(faces, p.listFaces(f),
			api.Doc{Summary: "List the faces of a " + f.noun, Query: pageQuery, Answer: []persistedFaceAnswer{}}),
		p.get(item, p.getFace(f), api.Doc{Summary: "Return a face of a " + f.noun, Answer: persistedFaceAnswer{}}),
		p.patch(item, p.updateFace(f),
			api.Doc{Summary: "Change the userData of a face of a " + f.noun, Body: faceChangeBody{}}),
	)
}

func (p *plane) addFace(f family) handle {
	return func(r *api.Request) (any, error) {
		e, err := p.enrolment(r)
		if err != nil {
			return nil, err
		}
		id, err := p.service.AddFace(r.Context(), r.Resource, f.ref(r), e)
		if err != nil {
			return nil, err
		}
		return addedFace{id}, nil
	}
}

func (p *plane) listFaces(f family) handle {
	return func(r *api.Request) (any, error) {
		q := queryOf(r)
		page := q.page()
		if q.err != nil {
			return nil, q.err
		}
		faces, err := p.service.Faces(r.Context(), r.Resource, f.ref(r), page)
		if err != nil {
			return nil, err
		}
		return encodeFaces(faces), nil
	}
}

func (p *plane) getFace(f family) handle {
	return func(r *api.Request) (any, error) {
		found, err := p.service.GetFace(r.Context(), r.Resource, f.ref(r), idIn(r, "persistedFaceId"))
		if err != nil {
			return nil, err
		}
		return persistedFaceAnswer(found), nil
	}
}

func (p *plane) updateFace(f family) handle {
	return func(r *api.Request) (any, error) {
		var body faceChangeBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.UpdateFace(r.Context(), r.Resource, f.ref(r), idIn(r, "persistedFaceId"), body.UserData)
	}
}

func (p *plane) deleteFace(f family) handle {
	return func(r *api.Request) (any, error) {
		return nil, p.service.DeleteFace(r.Context(), r.Resource, f.ref(r), idIn(r, "persistedFaceId"))
	}
}
