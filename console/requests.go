package console

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
)

func (c *Console) requestRoutes() []route {
	decides := operator
	return []route{
		page(prefix+"/requests", onSubscription(readRequests), c.accessRequests),
		texts(send(prefix+"/requests", onSubscription(writeRequests), c.submitRequest)),
		send(prefix+"/requests/capacity", decides, c.setCapacity),
		page(oneRequest, onSubscription(readRequests), c.accessRequest),
		send(oneRequest+"/withdraw", onSubscription(withdrawRequests), c.withdrawRequest),
		send(oneRequest+"/approve", decides, c.approveRequest),
		send(oneRequest+"/reject", decides, c.rejectRequest),
	}
}

// The actions on access requests, as the management plane names them.
const (
	readRequests     = "Microsoft.CognitiveServices/accessRequests/read"
	writeRequests    = "Microsoft.CognitiveServices/accessRequests/write"
	withdrawRequests = "Microsoft.CognitiveServices/accessRequests/withdraw/action"
	readCapacity     = "Microsoft.CognitiveServices/accessCapacity/E0/read"
)

// maxContact is how long the address in an access request may be, in bytes.
const maxContact = 256

const (
	requestsPath = prefix + "/requests"
	oneRequest   = requestsPath + "/{request}"
)

func requestPath(name, action string) string {
	path := requestsPath + "/" + url.PathEscape(name)
	if action != "" {
		path += "/" + action
	}
	return path
}

// requestRow is an access request in the table.
type requestRow struct {
	account.AccessRequest
	To    string
	Badge badge
}

// requestsData is the page of access requests.
type requestsData struct {
	table[requestRow]
	Automatic bool
	Waiting   int    // requests that the operator has not decided, for the operator
	Ask       *form  // nil: the person may not ask
	Create    string // the page that creates a resource; empty: no request has a free place, or the person may not
	Capacity  []fact // nil: the person may not see it
	Bound     *form  // sets the capacity; nil: the person may not
}

func (c *Console) accessRequests(v *visit) (*view, error) {
	data, err := c.requestsData(v)
	if err != nil {
		return nil, err
	}
	return v.requestsPage(data), nil
}

func (v *visit) requestsPage(data *requestsData) *view {
	return v.page("requests", v.text("requests.title"), data)
}

// requestOrders are the columns of the table of access requests.
var requestOrders = []order[requestRow]{
	{"name", "requests.name", byText(func(q requestRow) string { return q.Name }), false},
	{"state", "requests.state", func(q requestRow) rank { return rank{string(q.State), int64(q.Position)} }, false},
	{"region", "requests.region", byText(func(q requestRow) string { return q.Asked.Region }), false},
	{"contact", "requests.contact", byText(func(q requestRow) string { return q.Asked.Contact }), false},
	{"created", "requests.created", byTime(func(q requestRow) time.Time { return q.Created }), false},
}

func (c *Console) requestsData(v *visit) (*requestsData, error) {
	access := c.cfg.Accounts.Access()
	all, err := access.Requests(v.Context())
	if err != nil {
		return nil, err
	}
	d := &requestsData{Automatic: access.Automatic()}
	slices.Reverse(all) // the newest first
	var found []requestRow
	for _, q := range all {
		if q.State == account.RequestSubmitted {
			d.Waiting++
		}
		if q.State == account.RequestApproved && q.Account == "" && v.may(writeAccount, c.group()) {
			d.Create = prefix + "/create"
		}
		found = append(found, requestRow{q, requestPath(q.Name, ""), v.requestBadge(q)})
	}
	d.table = tabled(v, requestsPath, found, "-created", requestOrders)
	if !v.operates() {
		d.Waiting = 0
	}
	if v.may(writeRequests, c.subscription()) {
		d.Ask = v.askForm()
	}
	if v.operates() || v.may(readCapacity, c.subscription()) {
		now := access.Capacity()
		places := v.text("requests.capacity.unbounded")
		if now.Bounded {
			places = v.lang.number(now.Places)
		}
		d.Capacity = []fact{
			{v.text("requests.capacity.places"), places, false},
			{v.text("requests.capacity.taken"), v.lang.number(now.Taken), false},
			{v.text("requests.capacity.queued"), v.lang.number(now.Queued), false},
		}
		if v.operates() {
			d.Bound = v.capacityForm(now)
		}
	}
	return d, nil
}

// requestBadge says how far an access request is.
func (v *visit) requestBadge(q account.AccessRequest) badge {
	switch q.State {
	case account.RequestApproved:
		if q.Account != "" {
			return badge{"off", "ok", v.text("requests.state.used", q.Account)}
		}
		return badge{"ok", "ok", v.text("requests.state.approved")}
	case account.RequestQueued:
		return badge{"info", "hourglass", v.text("requests.state.queued", q.Position)}
	case account.RequestRejected:
		return badge{"bad", "bad", v.text("requests.state.rejected")}
	case account.RequestWithdrawn:
		return badge{"off", "off", v.text("requests.state.withdrawn")}
	}
	return badge{"warn", "clock", v.text("requests.state.submitted")}
}

func (v *visit) askForm() *form {
	contact := ""
	if p, err := v.c.cfg.Directory.Principal(v.session.Principal); err == nil {
		contact = p.Email
	}
	return v.form(requestsPath, v.text("requests.ask.submit"),
		&field{Name: "name", Kind: "text", Label: v.text("requests.name"), Required: true, Max: 64, Code: true,
			Hint: v.text("requests.name.hint")},
		&field{Name: "region", Kind: "text", Label: v.text("requests.region"), Max: 64,
			Hint: v.text("requests.region.hint")},
		&field{Name: "contact", Kind: "text", Label: v.text("requests.contact"), Required: true, Value: contact,
			Max: maxContact, Hint: v.text("requests.contact.hint"), Autocomplete: "email"},
		&field{Name: "reason", Kind: "textarea", Label: v.text("requests.reason"), Required: true, Max: 4096,
			Hint: v.text("requests.reason.hint")},
	)
}

func (c *Console) submitRequest(v *visit) (*view, error) {
	q, err := c.cfg.Accounts.Access().Submit(v.Context(), v.Caller(), v.field("name"), account.Asked{
		Service: "Face", Region: v.field("region"), Contact: v.field("contact"), Reason: v.field("reason"),
	})
	if err == nil {
		return v.done(requestPath(q.Name, ""), "requests.submitted"), nil
	}
	return c.requestsAgain(v, err, func(d *requestsData) *form { return d.Ask }, map[string]string{
		"InvalidResourceName": "name", "AccessRequestAlreadyExists": "name", "InvalidRequestContent": v.wrongAnswer(),
	})
}

// wrongAnswer names the field of an access request that the service refuses, which its sentence describes.
func (v *visit) wrongAnswer() string {
	notInRegion := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != ' ' && r != '-'
	}
	notInContact := func(r rune) bool { return !unicode.IsPrint(r) }
	contact := v.field("contact")
	switch {
	case strings.ContainsFunc(v.field("region"), notInRegion), strings.HasPrefix(v.field("region"), " "):
		return "region"
	case contact == "", len(contact) > maxContact, strings.ContainsFunc(contact, notInContact):
		return "contact"
	}
	return "reason"
}

// requestsAgain shows the page of access requests with a form that was refused.
func (c *Console) requestsAgain(
	v *visit, refused error, pick func(*requestsData) *form, fields map[string]string,
) (*view, error) {
	data, err := c.requestsData(v)
	if err != nil {
		return nil, err
	}
	f := pick(data)
	if f == nil || !v.refused(f, refused, fields) {
		return nil, refused
	}
	return v.again(v.requestsPage(data), f.Error), nil
}

func (v *visit) capacityForm(now account.Capacity) *form {
	places := &field{Name: "places", Kind: "text", Label: v.text("requests.capacity.field"), Max: 9,
		Hint: v.text("requests.capacity.hint")}
	if now.Bounded {
		places.Value = strconv.Itoa(now.Places)
	}
	f := v.form(requestsPath+"/capacity", v.text("requests.capacity.submit"), places)
	f.Style = "plain"
	return f
}

func (c *Console) setCapacity(v *visit) (*view, error) {
	places, err := -1, error(nil)
	if text := strings.TrimSpace(v.field("places")); text != "" {
		if places, err = strconv.Atoi(text); err != nil || places < 0 {
			err = visage.Refuse(visage.Invalid, "InvalidCapacity",
				"The number of places must be 0 or more, or empty for no limit; got %q.", cut(text, 40))
		}
	}
	if err == nil {
		_, err = c.cfg.Accounts.Access().SetCapacity(v.Context(), v.Caller(), places)
	}
	if err == nil {
		return v.done(requestsPath, "requests.capacity.saved"), nil
	}
	return c.requestsAgain(v, err, func(d *requestsData) *form { return d.Bound },
		map[string]string{"InvalidCapacity": "places"})
}

// requestData is the page of one access request.
type requestData struct {
	Badge     badge
	Facts     []fact
	Reason    string
	Note      string
	Position  int    // in the queue; 0: it does not wait there
	Waiting   bool   // the operator has not decided
	Account   string // the page of the resource that has its place; empty: none
	Create    string // the page that creates a resource in its place
	Approve   *form
	Reject    *form
	Withdraw  *form
	Revocable bool // a resource has its place, and would keep it
}

func (c *Console) accessRequest(v *visit) (*view, error) {
	q, err := c.cfg.Accounts.Access().Request(v.Context(), v.Path("request"))
	if err != nil {
		return nil, err
	}
	return c.requestPage(v, q), nil
}

func (c *Console) requestPage(v *visit, q account.AccessRequest) *view {
	if q.Note == account.ApprovedByItself {
		q.Note = v.text("requests.approved.automatic")
	}
	d := &requestData{
		Badge: v.requestBadge(q), Reason: q.Asked.Reason, Note: q.Note, Position: q.Position,
		Waiting: q.State == account.RequestSubmitted,
		Facts: []fact{
			{v.text("requests.region"), q.Asked.Region, false},
			{v.text("requests.contact"), q.Asked.Contact, false},
			{v.text("requests.created"), v.lang.when(q.Created), false},
			{v.text("requests.changed"), v.lang.when(q.Changed), false},
		},
	}
	if q.Asked.Region == "" {
		d.Facts[0].Value = v.text("requests.region.any")
	}
	if q.Account != "" {
		d.Account = q.Account
		d.Facts = append(d.Facts, fact{v.text("requests.account"), q.Account, false})
	} else if q.State == account.RequestApproved && v.may(writeAccount, c.group()) {
		d.Create = prefix + "/create"
	}
	granted := q.State == account.RequestApproved || q.State == account.RequestQueued
	d.Revocable = q.Account != "" && granted
	asked := &field{Name: "revision", Kind: "hidden", Value: strconv.FormatInt(q.Revision, 10)}
	if v.may(withdrawRequests, c.subscription()) && (granted || d.Waiting) {
		d.Withdraw = v.form(requestPath(q.Name, "withdraw"), v.text("requests.withdraw"), asked)
		d.Withdraw.Style = "danger"
	}
	if v.operates() && q.State != account.RequestWithdrawn {
		if !granted {
			d.Approve = v.form(requestPath(q.Name, "approve"), v.text("requests.approve"), asked)
			d.Approve.Icon = "check"
		}
		if q.State != account.RequestRejected {
			d.Reject = v.form(requestPath(q.Name, "reject"), v.text("requests.reject"), asked,
				&field{Name: "note", Kind: "text", Label: v.text("requests.note"), Max: 1024,
					Hint: v.text("requests.note.hint")})
			d.Reject.Style = "danger"
		}
	}
	w := v.page("request", v.text("requests.one", q.Name), d)
	w.crumbs = []link{{v.text("requests.title"), requestsPath}}
	return w
}

// decideRequest does what a form for an access request asks for, unless somebody else has changed the request since the
// form was made.
func (c *Console) decideRequest(
	v *visit, said string, pick func(*requestData) *form, fields map[string]string,
	do func(name string) (account.AccessRequest, error),
) (*view, error) {
	q, err := c.cfg.Accounts.Access().Request(v.Context(), v.Path("request"))
	if err != nil {
		return nil, err
	}
	if v.field("revision") != strconv.FormatInt(q.Revision, 10) {
		err = visage.Refuse(visage.Conflict, "ChangedMeanwhile", "This access request was changed on %s, after you "+
			"opened the page. The page now shows it as it is: check it, and send the form again.",
			q.Changed.UTC().Format("2006-01-02 15:04:05 UTC"))
	} else {
		_, err = do(q.Name)
	}
	if err == nil {
		return v.done(requestPath(q.Name, ""), said), nil
	}
	w := c.requestPage(v, q)
	f := pick(w.data.(*requestData))
	if f == nil || !v.refused(f, err, fields) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}

func (c *Console) withdrawRequest(v *visit) (*view, error) {
	return c.decideRequest(v, "requests.withdrawn", func(d *requestData) *form { return d.Withdraw }, nil,
		func(name string) (account.AccessRequest, error) {
			return c.cfg.Accounts.Access().Withdraw(v.Context(), v.Caller(), name)
		})
}

func (c *Console) approveRequest(v *visit) (*view, error) {
	return c.decideRequest(v, "requests.approved", func(d *requestData) *form { return d.Approve }, nil,
		func(name string) (account.AccessRequest, error) {
			return c.cfg.Accounts.Access().Approve(v.Context(), v.Caller(), name)
		})
}

func (c *Console) rejectRequest(v *visit) (*view, error) {
	return c.decideRequest(v, "requests.rejected", func(d *requestData) *form { return d.Reject },
		map[string]string{"InvalidRequestContent": "note"},
		func(name string) (account.AccessRequest, error) {
			return c.cfg.Accounts.Access().Reject(v.Context(), v.Caller(), name, v.field("note"))
		})
}
