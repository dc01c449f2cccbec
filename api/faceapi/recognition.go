package faceapi

import (
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// verifyBody has the fields of all four bodies of contract §5.1; the service decides which fields may be combined.
type verifyBody struct {
	FaceID1            string `json:"faceId1"`
	FaceID2            string `json:"faceId2"`
	FaceID             string `json:"faceId"`
	PersonID           string `json:"personId"`
	PersonGroupID      string `json:"personGroupId"`
	LargePersonGroupID string `json:"largePersonGroupId"`
}

type verdictAnswer struct {
	IsIdentical bool    `json:"isIdentical"`
	Confidence  float64 `json:"confidence"`
}

func (p *plane) verify(r *api.Request) (any, error) {
	var body verifyBody
	if err := r.ReadJSON(&body); err != nil {
		return nil, err
	}
	foldIDs(&body.FaceID1, &body.FaceID2, &body.FaceID, &body.PersonID)
	verdict, err := p.service.Verify(r.Context(), r.Resource, face.VerifyQuery(body))
	if err != nil {
		return nil, err
	}
	return verdictAnswer{IsIdentical: verdict.Identical, Confidence: verdict.Confidence}, nil
}

type identifyBody struct {
	FaceIDs              []string `json:"faceIds" api:"required"`
	PersonGroupID        string   `json:"personGroupId"`
	LargePersonGroupID   string   `json:"largePersonGroupId"`
	DynamicPersonGroupID string   `json:"dynamicPersonGroupId"`
	PersonIDs            []string `json:"personIds"`
	MaxCandidates        *int     `json:"maxNumOfCandidatesReturned"`
	Threshold            *float64 `json:"confidenceThreshold"`
}

type identifiedAnswer struct {
	FaceID     string            `json:"faceId"`
	Candidates []candidateAnswer `json:"candidates"`
}

type candidateAnswer struct {
	PersonID   string  `json:"personId"`
	Confidence float64 `json:"confidence"`
}

func (p *plane) identify(r *api.Request) (any, error) {
	var body identifyBody
	if err := r.ReadJSON(&body); err != nil {
		return nil, err
	}
	foldAll(body.FaceIDs)
	foldAll(body.PersonIDs)
	want := face.IdentifyQuery{
		FaceIDs: body.FaceIDs, PersonGroupID: body.PersonGroupID, LargePersonGroupID: body.LargePersonGroupID,
		DynamicPersonGroupID: body.DynamicPersonGroupID, PersonIDs: body.PersonIDs, MaxCandidates: p.candidates,
		Threshold: body.Threshold,
	}
	if body.MaxCandidates != nil {
		want.MaxCandidates = *body.MaxCandidates
	}
	found, err := p.service.Identify(r.Context(), r.Resource, want)
	if err != nil {
		return nil, err
	}
	answer := make([]identifiedAnswer, len(found))
	for i, f := range found {
		answer[i] = identifiedAnswer{FaceID: f.FaceID, Candidates: make([]candidateAnswer, len(f.Candidates))}
		for j, c := range f.Candidates {
			answer[i].Candidates[j] = candidateAnswer(c)
		}
	}
	return answer, nil
}

type similarBody struct {
	FaceID          string   `json:"faceId" api:"required"`
	FaceIDs         []string `json:"faceIds"`
	FaceListID      string   `json:"faceListId"`
	LargeFaceListID string   `json:"largeFaceListId"`
	MaxCandidates   *int     `json:"maxNumOfCandidatesReturned"`
	Mode            string   `json:"mode" enum:"matchPerson matchFace"`
}

// similarAnswer has one of the two ids, never both (contract §5.3).
type similarAnswer struct {
	FaceID          string  `json:"faceId,omitempty"`
	PersistedFaceID string  `json:"persistedFaceId,omitempty"`
	Confidence      float64 `json:"confidence"`
}

func (p *plane) findSimilar(r *api.Request) (any, error) {
	var body similarBody
	if err := r.ReadJSON(&body); err != nil {
		return nil, err
	}
	foldIDs(&body.FaceID)
	foldAll(body.FaceIDs)
	found, err := p.service.FindSimilar(r.Context(), r.Resource, face.SimilarQuery(body))
	if err != nil {
		return nil, err
	}
	answer := make([]similarAnswer, len(found))
	for i, f := range found {
		answer[i] = similarAnswer(f)
	}
	return answer, nil
}

type groupBody struct {
	FaceIDs []string `json:"faceIds" api:"required"`
}

type groupAnswer struct {
	Groups     [][]string `json:"groups"`
	MessyGroup []string   `json:"messyGroup"`
}

func (p *plane) group(r *api.Request) (any, error) {
	var body groupBody
	if err := r.ReadJSON(&body); err != nil {
		return nil, err
	}
	foldAll(body.FaceIDs)
	grouping, err := p.service.Group(r.Context(), r.Resource, body.FaceIDs)
	if err != nil {
		return nil, err
	}
	return groupAnswer{Groups: grouping.Groups, MessyGroup: grouping.Messy}, nil
}
