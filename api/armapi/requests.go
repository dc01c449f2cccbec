package armapi

import (
	"net/http"
	"strconv"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// The paths of access requests, and of the capacity for them. They are extensions: Azure uses a form for it.
const (
	accessRequests   = provider + "/accessRequests"
	oneAccessRequest = accessRequests + "/{request}"
	accessCapacity   = provider + "/accessCapacity/E0"
)

func (p *plane) requestRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, accessRequests, p.listRequests,
			api.Doc{Summary: "List the requests to use customer-managed keys", Answer: armwire.AccessRequestList{}}),
		route(http.MethodGet, oneAccessRequest, p.getRequest,
			api.Doc{Summary: "Get an access request", Answer: armwire.AccessRequest{}}),
		route(http.MethodPut, oneAccessRequest, p.submit,
			api.Doc{Summary: "Ask for customer-managed keys",
				Body: armwire.AccessRequestBody{}, Answer: armwire.AccessRequest{}}),
		route(http.MethodPost, oneAccessRequest+"/approve", p.forOperator(p.approve),
			api.Doc{Summary: "Approve an access request, or queue it where there is no space",
				Answer: armwire.AccessRequest{}}),
		route(http.MethodPost, oneAccessRequest+"/reject", p.forOperator(p.reject),
			api.Doc{Summary: "Reject an access request", Body: armwire.Rejection{}, Answer: armwire.AccessRequest{}}),
		route(http.MethodPost, oneAccessRequest+"/withdraw", p.withdraw,
			api.Doc{Summary: "Take an access request back", Answer: armwire.AccessRequest{}}),
		route(http.MethodGet, accessCapacity, p.getCapacity,
			api.Doc{Summary: "Get how many E0 resources there may be", Answer: armwire.Capacity{}}),
		route(http.MethodPut, accessCapacity, p.forOperator(p.setCapacity),
			api.Doc{Summary: "Bound the E0 resources there may be",
				Body: armwire.CapacityBody{}, Answer: armwire.Capacity{}}),
	}
}

func (p *plane) request(q account.AccessRequest) armwire.AccessRequest {
	return armwire.AccessRequest{
		ID:   "/subscriptions/" + p.Subscription + "/providers/Microsoft.CognitiveServices/accessRequests/" + q.Name,
		Name: q.Name, Type: "Microsoft.CognitiveServices/accessRequests",
		ETag: strconv.Quote(q.ID[:8] + "-" + strconv.FormatInt(q.Revision, 10)),
		Properties: armwire.AccessRequestProperties{
			Service: q.Asked.Service, Region: q.Asked.Region, Contact: q.Asked.Contact, Reason: q.Asked.Reason,
			State: string(q.State),
			Note:  q.Note, Position: q.Position, Account: q.Account, Created: stamp(q.Created),
			Changed: stamp(q.Changed),
		},
	}
}

// answer answers with a request after an operation on it.
func (p *plane) answer(q account.AccessRequest, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return p.request(q), nil
}

func (p *plane) listRequests(r *api.Request) (any, error) {
	all, err := p.Accounts.Access().Requests(r.Context())
	if err != nil {
		return nil, err
	}
	answer := armwire.AccessRequestList{Value: []armwire.AccessRequest{}}
	for _, q := range all {
		answer.Value = append(answer.Value, p.request(q))
	}
	return answer, nil
}

func (p *plane) getRequest(r *api.Request) (any, error) {
	return p.answer(p.Accounts.Access().Request(r.Context(), r.Path("request")))
}

func (p *plane) submit(r *api.Request) (any, error) {
	var want armwire.AccessRequestBody
	if err := read(r, &want); err != nil {
		return nil, err
	}
	w := want.Properties
	if w.Service == "" {
		w.Service = kindFace
	}
	q, err := p.Accounts.Access().Submit(r.Context(), r.Caller(), r.Path("request"),
		account.Asked{Service: w.Service, Region: w.Region, Contact: w.Contact, Reason: w.Reason})
	if err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusCreated, Body: p.request(q)}, nil
}

func (p *plane) approve(r *api.Request) (any, error) {
	return p.answer(p.Accounts.Access().Approve(r.Context(), r.Caller(), r.Path("request")))
}

func (p *plane) reject(r *api.Request) (any, error) {
	var want armwire.Rejection
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return p.answer(p.Accounts.Access().Reject(r.Context(), r.Caller(), r.Path("request"), want.Reason))
}

func (p *plane) withdraw(r *api.Request) (any, error) {
	return p.answer(p.Accounts.Access().Withdraw(r.Context(), r.Caller(), r.Path("request")))
}

func (p *plane) capacity(s account.Capacity) armwire.Capacity {
	c := armwire.Capacity{
		ID:   "/subscriptions/" + p.Subscription + "/providers/Microsoft.CognitiveServices/accessCapacity/E0",
		Name: "E0", Type: "Microsoft.CognitiveServices/accessCapacity",
		Properties: armwire.CapacityProperties{Taken: s.Taken, Queued: s.Queued},
	}
	if s.Bounded {
		c.Properties.Capacity = &s.Places
	}
	return c
}

func (p *plane) getCapacity(*api.Request) (any, error) {
	return p.capacity(p.Accounts.Access().Capacity()), nil
}

func (p *plane) setCapacity(r *api.Request) (any, error) {
	var want armwire.CapacityBody
	if err := read(r, &want); err != nil {
		return nil, err
	}
	places := -1
	if c := want.Properties.Capacity; c != nil {
		if places = *c; places < 0 {
			return nil, visage.Refuse(visage.Invalid, "InvalidRequestContent",
				"capacity must be 0 or more, or null for no limit; got %d.", places)
		}
	}
	s, err := p.Accounts.Access().SetCapacity(r.Context(), r.Caller(), places)
	if err != nil {
		return nil, err
	}
	return p.capacity(s), nil
}
