package faceapi

import (
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// creationBody is the request to create a list or group.
type creationBody struct {
	Name             string  `json:"name" api:"required"`
	UserData         *string `json:"userData"`
	RecognitionModel string  `json:"recognitionModel" enum:"recognition_01 recognition_02 recognition_03 recognition_04"`
}

// changeBody is the request to change a list, group or person; a field that is absent or null stays as it is.
type changeBody struct {
	Name     *string `json:"name"`
	UserData *string `json:"userData"`
}

// collectionAnswer holds the fields that the four kinds have in common. UserData is null when it was never set.
type collectionAnswer struct {
	Name             string  `json:"name"`
	UserData         *string `json:"userData"`
	RecognitionModel string  `json:"recognitionModel,omitempty"`
}

type faceListAnswer struct {
	ID string `json:"faceListId"`
	collectionAnswer
	// only in the answer for one list; lists of lists have none
	Faces *[]persistedFaceAnswer `json:"persistedFaces,omitempty"`
}

type largeFaceListAnswer struct {
	ID string `json:"largeFaceListId"`
	collectionAnswer
}

type personGroupAnswer struct {
	ID string `json:"personGroupId"`
	collectionAnswer
}

type largePersonGroupAnswer struct {
	ID string `json:"largePersonGroupId"`
	collectionAnswer
}

type persistedFaceAnswer struct {
	ID       string  `json:"persistedFaceId"`
	UserData *string `json:"userData"`
}

// encode returns a collection in the form of its family.
func (f family) encode(c face.Collection, returnModel bool) any {
	alike := collectionAnswer{Name: c.Name, UserData: c.UserData}
	if returnModel {
		alike.RecognitionModel = c.RecognitionModel
	}
	switch f.kind {
	case face.FaceList:
		answer := faceListAnswer{ID: c.ID, collectionAnswer: alike}
		if c.Faces != nil {
			faces := encodeFaces(c.Faces)
			answer.Faces = &faces
		}
		return answer
	case face.LargeFaceList:
		return largeFaceListAnswer{c.ID, alike}
	case face.PersonGroup:
		return personGroupAnswer{c.ID, alike}
	default:
		return largePersonGroupAnswer{c.ID, alike}
	}
}

func encodeFaces(faces []face.PersistedFace) []persistedFaceAnswer {
	answer := make([]persistedFaceAnswer, len(faces))
	for i, f := range faces {
		answer[i] = persistedFaceAnswer(f)
	}
	return answer
}

// collectionRoutes are the operations of all four kinds, and training for those that have it.
func (p *plane) collectionRoutes(f family) []api.Route {
	item := f.path + "/{" + f.id + "}"
	model := []api.Param{{
		Name: "returnRecognitionModel", Text: "Return the name of the recognition model; default false.", Value: false,
	}}
	routes := []api.Route{
		p.put(item, p.create(f), api.Doc{Summary: "Create an empty " + f.noun, Body: creationBody{}}),
		p.get(item, p.read(f), api.Doc{Summary: "Return a " + f.noun, Query: model, Answer: f.answer}),
		p.patch(item, p.update(f), api.Doc{Summary: "Change the name or userData of a " + f.noun, Body: changeBody{}}),
		p.delete(item, p.remove(f), api.Doc{Summary: "Delete a " + f.noun + " and all its contents"}),
	}
	list := model
	if f.kind != face.FaceList {
		list = append(list[:1:1], pageQuery...)
	}
	routes = append(routes, p.get(f.path, p.list(f),
		api.Doc{Summary: "List every " + f.noun, Query: list, Answer: f.answers}))
	if f.trained {
		routes = append(routes, p.trainingRoutes(f)...)
	}
	return append(routes, p.migrationRoutes(f)...)
}

func (p *plane) create(f family) handle {
	return func(r *api.Request) (any, error) {
		var body creationBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.Create(r.Context(), r.Resource, f.ref(r), face.Creation(body))
	}
}

func (p *plane) read(f family) handle {
	return func(r *api.Request) (any, error) {
		q := queryOf(r)
		returnModel := q.flag("returnRecognitionModel", false)
		if q.err != nil {
			return nil, q.err
		}
		c, err := p.service.Get(r.Context(), r.Resource, f.ref(r))
		if err != nil {
			return nil, err
		}
		return f.encode(c, returnModel), nil
	}
}

func (p *plane) update(f family) handle {
	return func(r *api.Request) (any, error) {
		var body changeBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.Update(r.Context(), r.Resource, f.ref(r), face.Change(body))
	}
}

func (p *plane) remove(f family) handle {
	return func(r *api.Request) (any, error) { return nil, p.service.Delete(r.Context(), r.Resource, f.ref(r)) }
}

func (p *plane) list(f family) handle {
	return func(r *api.Request) (any, error) {
		q := queryOf(r)
		returnModel := q.flag("returnRecognitionModel", false)
		var page face.Page
		if f.kind != face.FaceList { // small face lists have no pages (contract §6)
			page = q.page()
		}
		if q.err != nil {
			return nil, q.err
		}
		collections, err := p.service.List(r.Context(), r.Resource, f.kind, page)
		if err != nil {
			return nil, err
		}
		answer := make([]any, len(collections))
		for i, c := range collections {
			answer[i] = f.encode(c, returnModel)
		}
		return answer, nil
	}
}
