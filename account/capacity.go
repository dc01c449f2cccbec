package account

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// capacityRecord is the stored capacity.
type capacityRecord struct {
	Bounded bool
	Places  int
}

var capacities = sealed.NewTable[capacityRecord]("account/capacity", 1)

// theCapacity is the name of the only capacity record.
const theCapacity = "E0"

// Capacity is the number of E0 accounts that the instance may have.
type Capacity struct {
	Bounded bool // whether there is a limit
	Places  int  // the limit; 0 without one
	Taken   int  // places of accounts, and places reserved by approved requests
	Queued  int  // requests that wait for a place
}

// Capacity returns the capacity and its use.
func (c *Access) Capacity() Capacity {
	x := c.accounts.index.Now()
	now := Capacity{Bounded: x.capacity.Bounded, Taken: x.taken(), Queued: len(x.queue())}
	if now.Bounded {
		now.Places = x.capacity.Places
	}
	return now
}

// SetCapacity limits the number of E0 accounts; a negative number removes the limit. Existing accounts keep their
// places.
func (c *Access) SetCapacity(ctx context.Context, by visage.Caller, places int) (Capacity, error) {
	a := c.accounts
	a.changes.Lock()
	promoted, err := a.keep(ctx, func(x *index) (request, capacityRecord, error) {
		return request{}, capacityRecord{Bounded: places >= 0, Places: max(0, places)}, nil
	})
	a.changes.Unlock()
	if err = a.record(ctx, event(audit.RequestCapacity, by), err); err != nil {
		return Capacity{}, err
	}
	return c.Capacity(), a.recordPromoted(ctx, promoted)
}

// vacate approves a queued request for the place of a purged account, and returns the requests that it changed.
func (a *Accounts) vacate(ctx context.Context, rec record) ([]request, error) {
	if rec.Tier != visage.E0 {
		return nil, nil
	}
	return a.keep(ctx, asItIs)
}

// place finds a place for a new E0 account at a location: the unused place of an approved request, or a free place. It
// returns the id of the request; empty: a free place.
func (x *index) place(location string, auto bool) (request string, err error) {
	holders := x.holders()
	approved := false
	for _, r := range x.ordered(RequestApproved) {
		if r.Asked.Region != "" && !visage.SameLocation(r.Asked.Region, location) {
			continue
		}
		if _, taken := holders[r.ID]; !taken {
			return r.ID, nil
		}
		approved = true
	}
	switch {
	case !approved && !auto:
		return "", refuseUnapproved(location)
	case !x.hasSpace() || len(x.queue()) > 0:
		return "", visage.Refuse(visage.Denied, "CustomerManagedKeyNotApproved",
			"The capacity for resources of tier E0 is used up. %s; it is approved when space becomes available.",
			howToAsk)
	}
	return "", nil
}

// howToAsk ends a refusal for lack of an approval.
const howToAsk = "Request access with \"visage cmk request\", or by PUT of " +
	"/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/accessRequests/{name}"

func refuseUnapproved(location string) error {
	return visage.Refuse(visage.Denied, "CustomerManagedKeyNotApproved",
		"The subscription has no approval to use customer-managed keys in %q, which tier E0 is for. %s.", location,
		howToAsk)
}

// approved reports whether an approved request allows customer-managed keys at a location.
func (x *index) approved(location string) bool {
	return slices.ContainsFunc(x.ordered(RequestApproved), func(r request) bool {
		return r.Asked.Region == "" || visage.SameLocation(r.Asked.Region, location)
	})
}

// holders returns the accounts with the place of a request, by the request's id. Deleted accounts count.
func (x *index) holders() map[string]record {
	held := map[string]record{}
	for rec := range x.all() {
		if rec.Request != "" {
			held[rec.Request] = rec
		}
	}
	return held
}

// taken counts the places of approved requests, and of accounts without an approved request.
func (x *index) taken() int {
	approved := map[string]bool{}
	for _, r := range x.requests {
		if r.State == RequestApproved {
			approved[r.ID] = true
		}
	}
	n := len(approved)
	for rec := range x.all() {
		if rec.Tier == visage.E0 && !approved[rec.Request] {
			n++
		}
	}
	return n
}

func (x *index) requestByID(id string) (request, bool) {
	for _, r := range x.requests {
		if r.ID == id {
			return r, true
		}
	}
	return request{}, false
}

func (x *index) hasSpace() bool { return !x.capacity.Bounded || x.taken() < x.capacity.Places }

// queue returns the requests that wait for a place, the next one first.
func (x *index) queue() []request { return x.ordered(RequestQueued) }

func (x *index) ordered(in RequestState) []request {
	var all []request
	for _, r := range x.requests {
		if r.State == in {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b request) int {
		if a.Turn != b.Turn {
			return int(a.Turn - b.Turn)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// grant returns a request at the end of the queue; settle approves it when there is a place.
func (x *index) grant(r request, note string) request {
	r.State, r.Note, r.Turn = RequestQueued, note, 1
	for _, other := range x.requests {
		r.Turn = max(r.Turn, other.Turn+1)
	}
	return r
}

// with returns a copy of the index with another capacity and, if r has an id, with r.
func (x *index) with(r request, c capacityRecord) *index {
	y := *x
	y.capacity = c
	y.requests = maps.Clone(x.requests)
	if r.ID != "" {
		y.requests[strings.ToLower(r.Name)] = r
	}
	return &y
}

// settle approves queued requests while there are places, and returns all requests that it changed. An approved request
// whose account was purged keeps its place until another request waits for it.
func (x *index) settle() []request {
	var changed []request
	set := func(r request) {
		x.requests[strings.ToLower(r.Name)] = r
		changed = append(changed, r)
	}
	for _, next := range x.queue() {
		if !x.hasSpace() && !x.makeRoom(set) {
			break
		}
		next.State = RequestApproved
		set(next)
	}
	return changed
}

// makeRoom withdraws approved requests whose accounts were purged, oldest first, until there is one free place. If all
// of them would not suffice, it withdraws none.
func (x *index) makeRoom(set func(request)) bool {
	holders := x.holders()
	idle := slices.DeleteFunc(x.ordered(RequestApproved), func(r request) bool {
		_, held := holders[r.ID]
		return !r.Used || held
	})
	needed := x.taken() - x.capacity.Places + 1
	if needed > len(idle) {
		return false
	}
	for _, r := range idle[:needed] {
		r.State, r.Note = RequestWithdrawn, "Its resource is gone, and another request was waiting for the place."
		set(r)
	}
	return true
}
