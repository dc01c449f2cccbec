package faceapi

import (
	"net/http"

	"github.com/visage-face/visage/api"
)

// The migration of a list or group to another recognition model is an extension of the contract.

type migrationBody struct {
	RecognitionModel string `json:"recognitionModel" api:"required" enum:"recognition_01 recognition_02 recognition_03 recognition_04"`
}

type completionBody struct {
	DropMissing bool `json:"dropMissing"` // delete the faces whose photo was not sent
}

// migrationAnswer is the progress of a migration.
type migrationAnswer struct {
	From    string    `json:"recognitionModel"`
	To      string    `json:"newRecognitionModel"`
	Faces   int       `json:"faces"`
	Sent    int       `json:"sentFaces"`
	Started timestamp `json:"startedDateTime"`
}

// missingAnswer is a person with missing photos, or a missing face of a list.
type missingAnswer struct {
	PersonID string   `json:"personId,omitempty"`
	FaceIDs  []string `json:"persistedFaceIds"`
}

var sendQuery = []api.Param{
	enrolQuery[0], // targetFace
	detectionModel,
	{Name: "force", Text: "Accept a photo whose face does not match the stored one; default false.", Value: false},
}

func (p *plane) migrationRoutes(f family) []api.Route {
	item := f.path + "/{" + f.id + "}"
	faces := item + "/persistedfaces"
	if f.persons {
		faces = item + "/persons/{personId}/persistedfaces"
	}
	migration := item + "/migration"
	return []api.Route{
		p.post(migration, p.startMigration(f), api.Doc{
			Summary: "Start the migration of a " + f.noun + " to the pack of another recognition model",
			Body:    migrationBody{},
		}),
		p.get(migration, p.migration(f),
			api.Doc{Summary: "Return the progress of the migration of a " + f.noun, Answer: migrationAnswer{}}),
		p.delete(migration, p.cancelMigration(f),
			api.Doc{Summary: "Cancel the migration of a " + f.noun}),
		// It reads past all faces that have been sent, and there may be very many.
		p.route(http.MethodGet, migration+"/missing", 0, patient, p.missing(f), api.Doc{
			Summary: "List the faces whose photos have not been sent for the migration of a " + f.noun,
			Query:   pageQuery, Answer: []missingAnswer{},
		}),
		p.route(http.MethodPost, migration+"/complete", maxJSON, patient, p.completeMigration(f), api.Doc{
			Summary: "Complete the migration of a " + f.noun + " to the new model", Body: completionBody{},
		}),
		p.route(http.MethodPut, faces+"/{persistedFaceId}/migration", maxImage, patient, p.migrateFace(f), api.Doc{
			Summary: "Send the photo of a face again for the migration of a " + f.noun, Query: sendQuery,
			Body: urlBody{}, Image: true,
		}),
	}
}

func (p *plane) startMigration(f family) handle {
	return func(r *api.Request) (any, error) {
		var body migrationBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.StartMigration(r.Context(), r.Resource, f.ref(r), body.RecognitionModel)
	}
}

func (p *plane) migration(f family) handle {
	return func(r *api.Request) (any, error) {
		m, err := p.service.Migration(r.Context(), r.Resource, f.ref(r))
		if err != nil {
			return nil, err
		}
		return migrationAnswer{From: m.From, To: m.To, Faces: m.Faces, Sent: m.Sent, Started: timestamp(m.Started)}, nil
	}
}

func (p *plane) cancelMigration(f family) handle {
	return func(r *api.Request) (any, error) {
		return nil, p.service.CancelMigration(r.Context(), r.Resource, f.ref(r))
	}
}

func (p *plane) missing(f family) handle {
	return func(r *api.Request) (any, error) {
		q := queryOf(r)
		page := q.page()
		if q.err != nil {
			return nil, q.err
		}
		missing, err := p.service.MissingFaces(r.Context(), r.Resource, f.ref(r), page)
		if err != nil {
			return nil, err
		}
		answer := make([]missingAnswer, len(missing))
		for i, m := range missing {
			answer[i] = missingAnswer(m)
		}
		return answer, nil
	}
}

func (p *plane) completeMigration(f family) handle {
	return func(r *api.Request) (any, error) {
		var body completionBody
		if err := r.ReadJSON(&body); err != nil {
			return nil, err
		}
		return nil, p.service.CompleteMigration(r.Context(), r.Resource, f.ref(r), body.DropMissing)
	}
}

func (p *plane) migrateFace(f family) handle {
	return func(r *api.Request) (any, error) {
		q := queryOf(r)
		force := q.flag("force", false)
		if q.err != nil {
			return nil, q.err
		}
		e, err := p.enrolment(r)
		if err != nil {
			return nil, err
		}
		personID := ""
		if f.persons {
			personID = idIn(r, "personId")
		}
		return nil, p.service.MigrateFace(r.Context(), r.Resource, f.ref(r), personID, idIn(r, "persistedFaceId"), e,
			force)
	}
}
