package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

func (c *Console) auditRoutes() []route {
	return []route{
		page(prefix+"/audit", signedIn, c.auditPage),
		page(prefix+"/audit/export", signedIn, c.exportAudit),
		page(prefix+"/audit/events/{sequence}", signedIn, c.auditEvent),
		page(prefix+"/audit/events/{sequence}/proof", signedIn, c.auditProof),
		send(prefix+"/audit/verify", operator, c.verifyAudit),
	}
}

// readEvents is the action of reading the audit log of a resource.
const readEvents = "Microsoft.CognitiveServices/accounts/auditEvents/read"

// auditScope returns the resource whose entries a page shows, by the name or id in the field "resource". Only the
// operator may read the entries of all resources, and of those that are deleted.
func (v *visit) auditScope() (id visage.ResourceID, name string, err error) {
	name = v.field("resource")
	if name == "" {
		if !v.operates() {
			return id, "", refuseWholeLog()
		}
		return id, "", nil
	}
	if id, err = visage.ParseResourceID(name); err == nil {
		if a, found := v.c.cfg.Accounts.LookupID(id); found && v.may(readEvents, v.c.cfg.AccountPath(a)) {
			return id, a.Name, nil
		}
		if v.operates() {
			return id, name, nil
		}
		return id, "", refuseWholeLog()
	}
	a, err := v.c.cfg.Accounts.Get(v.Context(), name)
	if err != nil && v.operates() {
		return id, "", err
	}
	if err != nil || !v.may(readEvents, v.c.cfg.AccountPath(a)) {
		return id, "", refuseWholeLog()
	}
	return a.ID, a.Name, nil
}

func refuseWholeLog() error {
	return visage.Refuse(visage.Denied, "AuthorizationFailed",
		"You may read the audit log of resources on which you have a role that allows it: open it from the page of a "+
			"resource. Only the operator may read the whole log.")
}

// outcomes are the outcomes of events, with how they are shown.
var outcomes = map[audit.Outcome]badge{
	audit.Done: {"ok", "ok", ""}, audit.Refused: {"warn", "warn", ""}, audit.Failed: {"bad", "bad", ""},
	audit.Unknown: {"info", "info", ""},
}

// eventRow is an entry of the audit log in a table.
type eventRow struct {
	Sequence uint64
	Time     time.Time
	What     string
	Outcome  badge
	Code     string
	Actor    string
	Resource string
	To       string // the page of the entry
}

// eventRow describes an entry for people. names are the names of resources by id.
func (v *visit) eventRow(e audit.Entry, scope string) eventRow {
	row := eventRow{
		Sequence: e.Sequence, Time: e.Time, What: v.eventText(e.Kind), Code: e.Code, Actor: v.actorName(e.Actor),
		To: withQuery(prefix+"/audit/events/"+strconv.FormatUint(e.Sequence, 10), "resource", scope),
	}
	row.Outcome = outcomes[e.Outcome]
	row.Outcome.Text = v.text("audit.outcome." + string(e.Outcome))
	if e.Details[audit.DetailStep] == "intended" { // entered before anything irreversible happens
		row.Outcome = badge{"info", "info", v.text("encryption.event.intended")}
	}
	if a, found := v.c.cfg.Accounts.LookupID(e.Resource); found {
		row.Resource = a.Name
	} else if e.Resource != (visage.ResourceID{}) {
		row.Resource = e.Resource.String()
	}
	if details := e.Details[audit.DetailOperation]; details != "" {
		row.What += " (" + details + ")"
	}
	return row
}

// eventText names a kind of event; one of a newer program by its word.
func (v *visit) eventText(kind audit.Kind) string {
	if key := "audit.kind." + string(kind); v.lang.has(key) {
		return v.text(key)
	}
	return string(kind)
}

// actorName names an actor: a person by the name at that time, an identity by its present name.
func (v *visit) actorName(a audit.Actor) string {
	if a.Name != "" {
		return a.Name
	}
	if p, err := v.c.cfg.Directory.Principal(a.ID); err == nil && a.ID != "" {
		return p.Name
	}
	key := "audit.actor." + string(a.Kind)
	if !v.lang.has(key) {
		return string(a.Kind)
	}
	if a.ID == "" {
		return v.text(key)
	}
	return v.text(key) + " " + a.ID
}

// auditQuery reads the filter of the page.
func (v *visit) auditQuery() (audit.Query, string, error) {
	id, name, err := v.auditScope()
	if err != nil {
		return audit.Query{}, "", err
	}
	q := audit.Query{Resource: id, Actor: strings.TrimSpace(v.field("actor")), Limit: rows}
	if kind, known := audit.ParseKind(v.field("kind")); known {
		q.Kinds = []audit.Kind{kind}
	} else if topic := v.field("kind"); topic != "" {
		for _, kind := range audit.Kinds() {
			if strings.HasPrefix(string(kind), topic+".") {
				q.Kinds = append(q.Kinds, kind)
			}
		}
	}
	if _, known := outcomes[audit.Outcome(v.field("outcome"))]; known {
		q.Outcome = audit.Outcome(v.field("outcome"))
	}
	for name, into := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		text := v.field(name)
		if text == "" {
			continue
		}
		if *into, err = time.Parse(time.DateOnly, text); err != nil {
			return q, "", visage.Refuse(visage.Invalid, "InvalidDate",
				"The date %q is not valid: write it as 2026-11-29.", cut(text, 40))
		}
	}
	if !q.To.IsZero() {
		q.To = q.To.AddDate(0, 0, 1) // the last day counts
	}
	q.After, _ = strconv.ParseUint(v.field("after"), 10, 64) // what is no number begins at the newest
	return q, name, nil
}

// auditData is the page with entries of the audit log.
type auditData struct {
	table[eventRow]
	Filter   *form
	Export   string
	Verify   *form // nil: the person may not verify the whole log
	Resource string
}

// eventOrders are the columns of the table of events. The log is read in the order of time alone: sorted otherwise, it
// would have to be read whole for each page.
func eventOrders(resources bool) []order[eventRow] {
	all := []order[eventRow]{
		{"time", "auditlog.time", byTime(func(e eventRow) time.Time { return e.Time }), false},
		{"what", "auditlog.what", nil, false},
		{"outcome", "auditlog.outcome", nil, false},
		{"actor", "auditlog.actor", nil, false},
	}
	if resources {
		all = append(all, order[eventRow]{"resource", "auditlog.resource", nil, false})
	}
	return all
}

func (c *Console) auditPage(v *visit) (*view, error) {
	q, name, err := v.auditQuery()
	if err != nil {
		return nil, err
	}
	q.Oldest = v.inAddress("sort") == "time"
	entries, next, err := c.cfg.History.Page(v.Context(), q)
	if err != nil {
		return nil, err
	}
	d := auditData{Filter: v.auditFilter(name), Resource: name}
	for _, e := range entries {
		d.Rows = append(d.Rows, v.eventRow(e, name))
	}
	d.Columns = sortRows(v, prefix+"/audit", nil, "-time", eventOrders(name == "")) // the log has sorted the rows
	filter := []string{"resource", name, "kind", v.field("kind"), "outcome", v.field("outcome"), "actor",
		v.field("actor"), "from", v.field("from"), "to", v.field("to")}
	if next > 0 {
		d.More = v.otherRows(prefix+"/audit", "after", strconv.FormatUint(next, 10))
	}
	d.Export = withQuery(prefix+"/audit/export", filter...)
	if v.operates() {
		d.Verify = v.button(prefix+"/audit/verify", v.text("auditlog.verify"), "plain")
	}
	w := v.page("audit", v.text("auditlog.title"), d)
	if name != "" {
		w.crumbs = []link{{v.text("nav.home"), prefix}, {name, resourcePath(name, "")}}
	}
	return w, nil
}

// auditFilter is the form that narrows the list.
func (v *visit) auditFilter(resource string) *form {
	topics := map[string]bool{}
	kinds := []option{{Text: v.text("auditlog.any")}}
	for _, kind := range audit.Kinds() {
		topics[strings.SplitN(string(kind), ".", 2)[0]] = true
	}
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		kinds = append(kinds, option{Value: topic, Text: v.text("auditlog.topic." + topic)})
	}
	for _, kind := range audit.Kinds() {
		kinds = append(kinds, option{Value: string(kind), Text: v.eventText(kind)})
	}
	ends := []option{{Text: v.text("auditlog.any")}}
	for _, o := range []audit.Outcome{audit.Done, audit.Refused, audit.Failed, audit.Unknown} {
		ends = append(ends, option{Value: string(o), Text: v.text("audit.outcome." + string(o))})
	}
	f := v.form(prefix+"/audit", v.text("auditlog.filter"),
		&field{Name: "resource", Kind: "text", Label: v.text("auditlog.resource"), Value: resource},
		&field{Name: "kind", Kind: "select", Label: v.text("auditlog.kind"), Options: kinds, Value: v.field("kind")},
		&field{Name: "outcome", Kind: "select", Label: v.text("auditlog.outcome"), Options: ends,
			Value: v.field("outcome")},
		&field{Name: "actor", Kind: "text", Label: v.text("auditlog.actor"), Value: v.field("actor"), Code: true},
		&field{Name: "from", Kind: "date", Label: v.text("auditlog.from"), Value: v.field("from")},
		&field{Name: "to", Kind: "date", Label: v.text("auditlog.to"), Value: v.field("to")},
	)
	f.Style = "plain"
	return f
}

// exportAudit downloads the filtered entries as JSON lines, the newest first.
func (c *Console) exportAudit(v *visit) (*view, error) {
	q, _, err := v.auditQuery()
	if err != nil {
		return nil, err
	}
	q.Limit, q.After = 0, 0
	who := v.Principal.ObjectID
	if c.exports.full(who) {
		return nil, refuseTooManyJobs()
	}
	return &view{download: &download{
		name: "audit.jsonl", contentType: "application/jsonl; charset=utf-8",
		stream: func(ctx context.Context, w io.Writer) error {
			if !c.exports.begin(who) { // another has begun meanwhile
				return refuseTooManyJobs()
			}
			defer c.exports.end(who)
			buffered := bufio.NewWriter(w)
			if _, err := c.cfg.History.Export(ctx, buffered, q); err != nil {
				return err
			}
			return buffered.Flush()
		},
	}}, nil
}

// exports counts the exports of the audit log that each person has under way: each reads the whole log.
type exports struct {
	mu     sync.Mutex
	counts map[string]int // guarded by mu: by object id
}

// maxExports is how many exports of one person run at once.
const maxExports = 2

func newExports() *exports { return &exports{counts: map[string]int{}} }

func (e *exports) full(who string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[who] >= maxExports
}

func (e *exports) begin(who string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts[who] >= maxExports {
		return false
	}
	e.counts[who]++
	return true
}

func (e *exports) end(who string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts[who]--; e.counts[who] == 0 {
		delete(e.counts, who)
	}
}

// entry returns the entry that the path names, if the person may read it.
func (v *visit) entry() (audit.Entry, string, error) {
	id, name, err := v.auditScope()
	if err != nil {
		return audit.Entry{}, "", err
	}
	unknown := visage.Refuse(visage.NotFound, "AuditEventNotFound", "The audit log has no event %.20q.",
		v.Path("sequence"))
	sequence, err := strconv.ParseUint(v.Path("sequence"), 10, 64)
	if err != nil || sequence == 0 {
		return audit.Entry{}, "", unknown
	}
	for e, err := range v.c.cfg.History.Entries(v.Context(), audit.Query{After: sequence - 1, Oldest: true, Limit: 1}) {
		if err != nil {
			return audit.Entry{}, "", err
		}
		if e.Sequence == sequence && (id == visage.ResourceID{} || e.Resource == id) {
			return e, name, nil
		}
	}
	return audit.Entry{}, "", unknown
}

// eventData is the page of one entry.
type eventData struct {
	Row   eventRow
	Facts []fact
	JSON  string
	Proof string // the address of the proof
}

func (c *Console) auditEvent(v *visit) (*view, error) {
	e, name, err := v.entry()
	if err != nil {
		return nil, err
	}
	d := eventData{
		Row:   v.eventRow(e, name),
		Proof: withQuery(prefix+"/audit/events/"+strconv.FormatUint(e.Sequence, 10)+"/proof", "resource", name),
	}
	add := func(key, value string, code bool) {
		if value != "" {
			d.Facts = append(d.Facts, fact{v.text(key), value, code})
		}
	}
	add("auditlog.number", strconv.FormatUint(e.Sequence, 10), false)
	add("auditlog.time", e.Time.UTC().Format(time.RFC3339Nano), false)
	add("auditlog.kind", string(e.Kind), true)
	add("auditlog.actor", d.Row.Actor, false)
	add("auditlog.actor.id", e.Actor.ID, true)
	add("auditlog.resource", d.Row.Resource, false)
	add("auditlog.key", e.KeyID, true)
	add("auditlog.key.version", e.KeyVersion, true)
	add("auditlog.code", e.Code, true)
	add("auditlog.request", e.RequestID, true)
	for _, name := range slices.Sorted(maps.Keys(e.Details)) {
		d.Facts = append(d.Facts, fact{string(name), e.Details[name], false})
	}
	b, err := e.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, b, "", "  "); err != nil {
		return nil, err
	}
	d.JSON = text.String()
	w := v.page("auditevent", v.text("auditlog.event", strconv.FormatUint(e.Sequence, 10)), d)
	w.crumbs = []link{{v.text("auditlog.title"), withQuery(prefix+"/audit", "resource", name)}}
	return w, nil
}

// auditProof downloads the proof that an entry is in the log, for people who do not trust the service.
func (c *Console) auditProof(v *visit) (*view, error) {
	e, _, err := v.entry()
	if err != nil {
		return nil, err
	}
	p, err := c.cfg.History.Prove(v.Context(), e.Sequence)
	return proofFile("audit-proof", p, err)
}

// proofFile gives a proof as a file, which "visage erase-proof check" checks without the server. err is that of
// audit.History.Prove.
func proofFile(name string, p audit.Proof, err error) (*view, error) {
	if errors.Is(err, audit.ErrUnsigned) || errors.Is(err, audit.ErrCatchingUp) {
		refusal := visage.Refuse(visage.Unavailable, "AuditEventNotSigned",
			"The event is not covered by a signed checkpoint yet. Try again later.")
		refusal.RetryAfter = time.Second
		return nil, refusal
	}
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write a proof: %w", err)
	}
	return &view{download: &download{
		name: proofName(name, p.Entry.Sequence), contentType: "application/json", data: b,
	}}, nil
}

// proofName is the name of the file with the proof of an entry.
func proofName(name string, entry uint64) string { return fmt.Sprintf("%s-%d.json", name, entry) }

// verifyAudit reads the whole log, as a task.
func (c *Console) verifyAudit(v *visit) (*view, error) {
	lang := v.lang
	return v.start(v.text("auditlog.verifying"), link{v.text("auditlog.title"), prefix + "/audit"}, c.cfg.Operates,
		func(ctx context.Context, p progress) error {
			p.step(lang.text("auditlog.verifying.step"))
			report, err := c.cfg.History.Verify(ctx)
			if broken, ok := errors.AsType[*audit.BrokenError](err); ok {
				return visage.Refuse(visage.Conflict, "AuditLogBroken",
					"The audit log was damaged or changed: %s. Copy the data directory to a safe place, and find out "+
						"who could write to it.", broken.Error())
			}
			if err != nil {
				return err
			}
			p.line(true, lang.text("auditlog.verified.entries", int(report.Entries)))
			p.line(true, lang.text("auditlog.verified.checkpoints", int(report.Checkpoints)))
			p.line(true, lang.text("auditlog.verified.unsigned", int(report.Unsigned)))
			if report.Last.Size > 0 {
				p.line(true, lang.text("auditlog.verified.last", int(report.Last.Size)))
				p.attach("checkpoint.txt", report.Last.Note)
			}
			return nil
		})
}
