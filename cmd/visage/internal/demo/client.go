package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Box is a face's rectangle in pixels.
type Box struct {
	Top, Left, Width, Height int
}

// client speaks the Face API as any application does: over HTTPS, with a key.
type client struct {
	base string // of the service, without a slash at the end
	key  string
	http *http.Client

	calls  int
	waited time.Duration // waiting for the tier's rate
}

type detected struct {
	FaceID        string `json:"faceId"`
	FaceRectangle Box    `json:"faceRectangle"`
	Attributes    struct {
		Quality string `json:"qualityForRecognition"`
	} `json:"faceAttributes"`
}

type candidate struct {
	PersonID   string  `json:"personId"`
	Confidence float64 `json:"confidence"`
}

type identified struct {
	FaceID     string      `json:"faceId"`
	Candidates []candidate `json:"candidates"`
}

type similar struct {
	FaceID     string  `json:"faceId"`
	Confidence float64 `json:"confidence"`
}

// problem is an error answer.
type problem struct {
	status  int
	code    string
	message string
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.status, p.code, p.message) }

const (
	face       = "/face/v1.2"
	model      = "recognitionModel=recognition_04"
	maxAnswer  = 8 << 20
	maxRetries = 30
)

// do makes one request. body is []byte for an image, nil for none, and else written as JSON. When the service refuses
// because of its rate, do waits as long as the answer says and tries again.
func (c *client) do(ctx context.Context, method, path string, body, answer any) error {
	kind := "application/json"
	var content []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		kind, content = "application/octet-stream", b
	default:
		var err error
		if content, err = json.Marshal(b); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	for attempt := 0; ; attempt++ {
		c.calls++
		wait, err := c.once(ctx, method, path, kind, content, answer)
		if wait == 0 || attempt == maxRetries {
			return err
		}
		c.waited += wait
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// once makes one attempt. A wait above zero is the service's Retry-After.
func (c *client) once(
	ctx context.Context, method, path, kind string, content []byte, answer any,
) (wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(content))
	if err != nil {
		return 0, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", c.key)
	if len(content) > 0 {
		req.Header.Set("Content-Type", kind)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	if res.StatusCode >= 300 {
		var said struct {
			Error struct{ Code, Message string }
		}
		p := &problem{status: res.StatusCode}
		if json.Unmarshal(b, &said) == nil {
			p.code, p.message = said.Error.Code, said.Error.Message
		}
		if res.StatusCode == http.StatusTooManyRequests {
			seconds, convErr := strconv.Atoi(res.Header.Get("Retry-After"))
			if convErr != nil || seconds < 1 {
				seconds = 1
			}
			return time.Duration(seconds) * time.Second, p
		}
		return 0, p
	}
	if answer == nil {
		return 0, nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return 0, fmt.Errorf("read answer of %s %s: %w", method, path, err)
	}
	return 0, nil
}

func (c *client) detect(ctx context.Context, image []byte) ([]detected, error) {
	var faces []detected
	err := c.do(ctx, http.MethodPost,
		face+"/detect?returnFaceAttributes=qualityForRecognition&detectionModel=detection_03&"+model, image, &faces)
	return faces, err
}

func (c *client) group(ctx context.Context, faceIDs []string) (groups [][]string, alone []string, err error) {
	var answer struct {
		Groups     [][]string `json:"groups"`
		MessyGroup []string   `json:"messyGroup"`
	}
	err = c.do(ctx, http.MethodPost, face+"/group", map[string]any{"faceIds": faceIDs}, &answer)
	return answer.Groups, answer.MessyGroup, err
}

func (c *client) createGroup(ctx context.Context, id, name, userData string) error {
	return c.do(ctx, http.MethodPut, face+"/persongroups/"+id,
		map[string]string{"name": name, "userData": userData, "recognitionModel": "recognition_04"}, nil)
}

func (c *client) createPerson(ctx context.Context, group, name, userData string) (string, error) {
	var answer struct {
		PersonID string `json:"personId"`
	}
	err := c.do(ctx, http.MethodPost, face+"/persongroups/"+group+"/persons", map[string]string{"name": name,
		"userData": userData}, &answer)
	return answer.PersonID, err
}

func (c *client) addFace(ctx context.Context, group, person string, box Box, userData string, image []byte) error {
	q := url.Values{
		"targetFace": {fmt.Sprintf("%d,%d,%d,%d", box.Left, box.Top, box.Width, box.Height)}, "userData": {userData},
		"detectionModel": {"detection_03"},
	}
	return c.do(ctx, http.MethodPost, face+"/persongroups/"+group+"/persons/"+person+"/persistedfaces?"+q.Encode(),
		image, nil)
}

// train trains a group and waits until the training has ended.
func (c *client) train(ctx context.Context, group string) error {
	if err := c.do(ctx, http.MethodPost, face+"/persongroups/"+group+"/train", nil, nil); err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var state struct{ Status, Message string }
		if err := c.do(ctx, http.MethodGet, face+"/persongroups/"+group+"/training", nil, &state); err != nil {
			return err
		}
		switch state.Status {
		case "succeeded":
			return nil
		case "failed":
			return fmt.Errorf("training failed: %s", state.Message)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (c *client) identify(ctx context.Context, group string, faceIDs []string) ([]identified, error) {
	const most = 10 // of the contract, a request
	var all []identified
	for len(faceIDs) > 0 {
		n := min(most, len(faceIDs))
		var some []identified
		err := c.do(ctx, http.MethodPost, face+"/identify",
			map[string]any{"faceIds": faceIDs[:n], "personGroupId": group, "maxNumOfCandidatesReturned": 1}, &some)
		if err != nil {
			return nil, err
		}
		all, faceIDs = append(all, some...), faceIDs[n:]
	}
	return all, nil
}

func (c *client) verify(ctx context.Context, a, b string) (same bool, confidence float64, err error) {
	var answer struct {
		IsIdentical bool
		Confidence  float64
	}
	err = c.do(ctx, http.MethodPost, face+"/verify", map[string]string{"faceId1": a, "faceId2": b}, &answer)
	return answer.IsIdentical, answer.Confidence, err
}

func (c *client) findSimilar(ctx context.Context, faceID string, among []string) ([]similar, error) {
	var answer []similar
	err := c.do(ctx, http.MethodPost, face+"/findsimilars", map[string]any{"faceId": faceID, "faceIds": among}, &answer)
	return answer, err
}

func (c *client) deletePerson(ctx context.Context, group, person string) error {
	return c.do(ctx, http.MethodDelete, face+"/persongroups/"+group+"/persons/"+person, nil, nil)
}

func (c *client) getPerson(ctx context.Context, group, person string) (name string, err error) {
	var answer struct{ Name string }
	err = c.do(ctx, http.MethodGet, face+"/persongroups/"+group+"/persons/"+person, nil, &answer)
	return answer.Name, err
}
