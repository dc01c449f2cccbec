package faceapi

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// The content types of a request with an image.
const (
	jsonType  = "application/json"
	bytesType = "application/octet-stream"
)

// urlBody names an image by its address.
type urlBody struct {
	URL *string `json:"url" api:"required"`
}

// sessionBody names an image by its address or by that of a liveness session (contract §4, v1.2).
type sessionBody struct {
	URL            *string `json:"url"`
	SessionImageID *string `json:"sessionImageId"`
}

// image returns the photo of a request: its body, or the image at the address in its body.
func (p *plane) image(r *api.Request, sessions bool) ([]byte, error) {
	if err := r.NeedContentType(jsonType, bytesType); err != nil {
		return nil, explained(r.ContentType(), err)
	}
	body, err := r.ReadBody()
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.TooLarge {
		return nil, imageTooLarge()
	}
	if err != nil {
		return nil, err
	}
	if r.ContentType() == bytesType {
		return body, nil
	}
	if len(body) > maxJSON {
		return nil, visage.Refuse(visage.Invalid, "BadArgument",
			"The body is too long to hold a URL: send the bytes of an image as %s.", bytesType)
	}
	if isImage(body) {
		return nil, visage.Refuse(visage.Invalid, "BadArgument",
			"The body is the bytes of an image, and its Content-Type is %s; send it as %s.", jsonType, bytesType)
	}
	var where sessionBody
	if sessions {
		err = api.DecodeJSON(body, &where)
	} else {
		var only urlBody
		err = api.DecodeJSON(body, &only)
		where.URL = only.URL
	}
	switch {
	case err != nil:
		return nil, err
	case where.SessionImageID != nil:
		_, err := refuseLiveness(r)
		return nil, err
	case where.URL == nil:
		return nil, visage.Refuse(visage.Invalid, "BadArgument", "The field \"url\" is required.")
	}
	return p.images.fetch(r.Context(), *where.URL)
}

// explained adds to the refusal of a content type how to send the image.
func explained(contentType string, err error) error {
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	told := *problem
	switch {
	case strings.HasPrefix(contentType, "multipart/"):
		told.Message += " Send the bytes of the image alone, without a form around them."
	case strings.HasPrefix(contentType, "image/"):
		told.Message += " Send the bytes of the image as " + bytesType + ", whatever its format."
	}
	return &told
}

// isImage reports whether a body begins like an image file and not like JSON.
func isImage(body []byte) bool {
	for _, magic := range []string{"\xff\xd8\xff", "\x89PNG", "GIF8", "BM", "RIFF"} {
		if bytes.HasPrefix(body, []byte(magic)) {
			return true
		}
	}
	return len(body) > 8 && string(body[4:8]) == "ftyp"
}

func imageTooLarge() error {
	return visage.Refuse(visage.Invalid, "InvalidImageSize", "The image is larger than %d MB.", maxImage/mib)
}

// enrolQuery are the query parameters of contract §7.1.
var enrolQuery = []api.Param{
	{Name: "targetFace", Text: "Selects a face of a photo with several: left,top,width,height in pixels.",
		Value: ""},
	detectionModel,
	{Name: "userData", Text: "Data of the caller to store with the face, at most 1 KB.", Value: ""},
}

// enrolment decodes the request to add a face.
func (p *plane) enrolment(r *api.Request) (face.Enrolment, error) {
	var e face.Enrolment
	q := queryOf(r)
	e.DetectionModel = q.text("detectionModel")
	e.UserData = q.optional("userData")
	if target := q.optional("targetFace"); target != nil && q.err == nil {
		box, err := face.ParseTargetFace(*target)
		if err != nil {
			return e, err
		}
		e.TargetFace = &box
	}
	if q.err != nil {
		return e, q.err
	}
	var err error
	e.Photo, err = p.image(r, false)
	return e, err
}

// query reads query parameters; err is the first error.
type query struct {
	r   *api.Request
	err error
}

func queryOf(r *api.Request) *query { return &query{r: r} }

// optional returns a parameter, nil when it is absent.
func (q *query) optional(name string) *string {
	value, ok, err := q.r.Query(name)
	if err != nil && q.err == nil {
		q.err = err
	}
	if !ok {
		return nil
	}
	return &value
}

func (q *query) text(name string) string {
	if v := q.optional(name); v != nil {
		return *v
	}
	return ""
}

// flag reads a boolean in upper or lower case, because .NET clients write True.
func (q *query) flag(name string, otherwise bool) bool {
	v := q.optional(name)
	switch {
	case v == nil || q.err != nil:
		return otherwise
	case strings.EqualFold(*v, "true"):
		return true
	case strings.EqualFold(*v, "false"):
		return false
	}
	q.err = visage.Refuse(visage.Invalid, "BadArgument", "The query parameter %s must be true or false.", name)
	return otherwise
}

// number reads a whole number, nil when it is absent.
func (q *query) number(name string) *int {
	v := q.optional(name)
	if v == nil || q.err != nil {
		return nil
	}
	n, err := strconv.ParseInt(*v, 10, 32)
	if err != nil {
		q.err = visage.Refuse(visage.Invalid, "BadArgument", "The query parameter %s must be a whole number.", name)
		return nil
	}
	i := int(n)
	return &i
}

// list reads a list separated by commas, without empty members.
func (q *query) list(name string) []string {
	var members []string
	for member := range strings.SplitSeq(q.text(name), ",") {
		if member = strings.TrimSpace(member); member != "" {
			members = append(members, member)
		}
	}
	return members
}

// pageQuery are the query parameters of lists with pages.
var pageQuery = []api.Param{
	{Name: "start", Text: "The list begins after this id.", Value: ""},
	{Name: "top", Text: "How many to return, 1 to 1000; default 1000.", Value: 0},
}

func (q *query) page() face.Page {
	return face.Page{Start: visage.FoldUUID(q.text("start")), Top: q.number("top")}
}
