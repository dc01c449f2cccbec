package faceapi

import (
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// personBody is the request to create a person.
type personBody struct {
	Name     string  `json:"name" api:"required"`
	UserData *string `json:"userData"`
}

type addedPerson struct {
	ID string `json:"personId"`
}

type personAnswer struct {
	ID       string   `json:"personId"`
	Name     string   `json:"name"`
	UserData *string  `json:"userData"`
	FaceIDs  []string `json:"persistedFaceIds"`
}

func encodePerson(p face.Person) personAnswer {
	if p.FaceIDs == nil {
		p.FaceIDs = []string{} // the contract requires an array
	}
	return personAnswer{ID: p.ID, Name: p.Name, UserData: p.UserData, FaceIDs: p.FaceIDs}
}

// person returns the person that the path names.
func (f family) person(r *api.Request) face.PersonRef {
	return face.PersonRef{Group: f.ref(r), ID: idIn(r, "personId")}
}

// personRoutes are the operations on the persons of a group and their faces.
func (p *plane) personRoutes(f family) []api.Route {
	persons := f.path + "/{" + f.id + "}/persons"
	item := persons + "/{personId}"
	faces := item + "/persistedfaces"
	faceItem := faces + "/{persistedFaceId}"
	in := " in a " + f.noun
	return []api.Route{
		p.post(persons, p.createPerson(f),
			api.Doc{Summary: "Create a person without faces" + in, Body: personBody{}, Answer: addedPerson{}}),
		p.get(persons, p.listPersons(f),
			api.Doc{Summary: "List the persons" + in, Query: pageQuery, Answer: []personAnswer{}}),
		p.get(item, p.getPerson(f), api.Doc{Summary: "Return a person" + in, Answer: personAnswer{}}),
		p.patch(item, p.updatePerson(f),
			api.Doc{Summary: "Change the name or userData of a person" + in, Body: changeBody{}}),
		p.delete(item, p.deletePerson(f), api.Doc{Summary: "Delete a person with all its faces" + in}),
		p.photo(faces, p.addPersonFace(f),
			api.Doc{Summary: "Add a face to a person" + in, Query: enrolQuery, Answer: addedFace{}}),
		p.get(faceItem, p.getPersonFace(f),
			api.Doc{Summary: "Return a face of a person" + in, Answer: persistedFaceAnswer{}}),
		p.patch(faceItem, p.updatePersonFace(f),
			api.Doc{Summary: "Change the userData of a face of a person" + in, Body: faceChangeBody{}}),
		p.delete(faceItem, p.deletePersonFace(f), api.Doc{Summary: "Delete a face of a person" + in}),
	}
}

func (p *plane) createPerson(f family) handle {
	return func(r *api.Request) (any, error) {
		var body personBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		id, err := p.service.CreatePerson(r.Context(), r.Resource, f.ref(r), body.Name, body.UserData)
		if err != nil {
			return nil, err
		}
		return addedPerson{id}, nil
	}
}

func (p *plane) listPersons(f family) handle {
	return func(r *api.Request) (any, error) {
		q := queryOf(r)
		page := q.page()
		if q.err != nil {
			return nil, q.err
		}
		persons, err := p.service.Persons(r.Context(), r.Resource, f.ref(r), page)
		if err != nil {
			return nil, err
		}
		answer := make([]personAnswer, len(persons))
		for i, person := range persons {
			answer[i] = encodePerson(person)
		}
		return answer, nil
	}
}

func (p *plane) getPerson(f family) handle {
	return func(r *api.Request) (any, error) {
		person, err := p.service.GetPerson(r.Context(), r.Resource, f.person(r))
		if err != nil {
			return nil, err
		}
		return encodePerson(person), nil
	}
}

func (p *plane) updatePerson(f family) handle {
	return func(r *api.Request) (any, error) {
		var body changeBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.UpdatePerson(r.Context(), r.Resource, f.person(r), face.Change(body))
	}
}

func (p *plane) deletePerson(f family) handle {
	return func(r *api.Request) (any, error) {
		return nil, p.service.DeletePerson(r.Context(), r.Resource, f.person(r))
	}
}

func (p *plane) addPersonFace(f family) handle {
	return func(r *api.Request) (any, error) {
		e, err := p.enrolment(r)
		if err != nil {
			return nil, err
		}
		id, err := p.service.AddPersonFace(r.Context(), r.Resource, f.person(r), e)
		if err != nil {
			return nil, err
		}
		return addedFace{id}, nil
	}
}

func (p *plane) getPersonFace(f family) handle {
	return func(r *api.Request) (any, error) {
		found, err := p.service.GetPersonFace(r.Context(), r.Resource, f.person(r), idIn(r, "persistedFaceId"))
		if err != nil {
			return nil, err
		}
		return persistedFaceAnswer(found), nil
	}
}

func (p *plane) updatePersonFace(f family) handle {
	return func(r *api.Request) (any, error) {
		var body faceChangeBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.UpdatePersonFace(r.Context(), r.Resource, f.person(r), idIn(r, "persistedFaceId"),
			body.UserData)
	}
}

func (p *plane) deletePersonFace(f family) handle {
	return func(r *api.Request) (any, error) {
		return nil, p.service.DeletePersonFace(r.Context(), r.Resource, f.person(r), idIn(r, "persistedFaceId"))
	}
}
