package console

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"time"
)

// Replicas are the processes that serve the instance together.
type Replicas interface {
	// Replicas returns all of them, first the one that answers, and the largest collections that they search together.
	Replicas(ctx context.Context) ([]Replica, []SharedCollection, error)
}

// Replica is a process that serves the instance.
type Replica struct {
	ID            string
	State         string // serving, starting, stopping or ended
	Answers       bool   // it is the one that answers
	Host, Listen  string // empty: it has not told
	Version       string // of the program; empty: unknown
	Started, Seen time.Time
	Claims        []string   // the work that it alone does
	Galleries     *Galleries // nil: it has not told
}

// Galleries are the faces that a replica has in memory.
type Galleries struct {
	Budget, Bytes       int64
	Partitions, Loading int
	Awaited             int // faces that are still to be read
}

// SharedCollection is a list or group of faces whose partitions replicas have in memory.
type SharedCollection struct {
	Resource   string // its name
	Kind       string // largefacelist, persongroup or largepersongroup
	Bytes      int64
	Partitions int
	Searched   time.Time
	At         map[string]int // how many partitions each replica has, by the ids of replicas; none: too little memory
}

const replicasPath = prefix + "/operations/replicas"

func (c *Console) replicaRoutes() []route {
	return []route{page(replicasPath, operator, c.replicas)}
}

// replicasData is the page of the replicas.
type replicasData struct {
	Replicas    table[replicaRow]
	Collections table[sharedRow]
	Versions    bool // the replicas have different ones
}

type replicaRow struct {
	Replica
	Name, Where string
	Badge       badge
	Claimed     string
}

type sharedRow struct {
	SharedCollection
	KindName string
	To       string
	Places   []replicaShare
}

// replicaShare is how many partitions of a collection a replica has.
type replicaShare struct {
	Name string
	Of   int
}

var replicaOrders = []order[replicaRow]{
	{"replica", "replicas.replica", byText(func(r replicaRow) string { return r.Name }), false},
	{"state", "operations.state", byText(func(r replicaRow) string { return r.Badge.Text }), false},
	{"version", "operations.version", byText(func(r replicaRow) string { return r.Version }), false},
	{"started", "operations.started", byTime(func(r replicaRow) time.Time { return r.Started }), false},
	{"memory", "replicas.memory", byNumber(func(r replicaRow) int {
		if r.Galleries == nil {
			return 0
		}
		return int(r.Galleries.Bytes)
	}), false},
	{"partitions", "replicas.partitions", byNumber(func(r replicaRow) int {
		if r.Galleries == nil {
			return 0
		}
		return r.Galleries.Partitions
	}), true},
	{"claims", "replicas.claims", nil, false},
}

var sharedOrders = []order[sharedRow]{
	{"resource", "replicas.resource", byText(func(r sharedRow) string { return r.Resource }), false},
	{"kind", "replicas.kind", byText(func(r sharedRow) string { return r.KindName }), false},
	{"bytes", "replicas.memory", byNumber(func(r sharedRow) int { return int(r.Bytes) }), true},
	{"cut", "replicas.partitions", byNumber(func(r sharedRow) int { return r.Partitions }), true},
	{"searched", "replicas.searched", byTime(func(r sharedRow) time.Time { return r.Searched }), false},
	{"places", "replicas.places", nil, false},
}

func (c *Console) replicas(v *visit) (*view, error) {
	all, shared, err := c.cfg.Replicas.Replicas(v.Context())
	if err != nil {
		return nil, err
	}
	d := replicasData{}
	var rows []replicaRow
	names, versions := map[string]string{}, map[string]bool{}
	for _, r := range all {
		row := replicaRow{Replica: r, Name: cmp.Or(r.Host, r.Listen, r.ID), Badge: v.replicaBadge(r)}
		if row.Name != r.Listen {
			row.Where = r.Listen
		}
		names[r.ID] = cmp.Or(r.Listen, row.Name)
		if r.Version != "" && r.State != "ended" {
			versions[r.Version] = true
		}
		rows = append(rows, row)
	}
	d.Versions = len(versions) > 1
	d.Replicas = tabled(v, replicasPath, rows, "", replicaOrders)
	var together []sharedRow
	for _, s := range shared {
		row := sharedRow{SharedCollection: s, KindName: v.text("faces.one." + s.Kind + "s"),
			To: prefix + "/resources/" + url.PathEscape(s.Resource)}
		for _, r := range all {
			if n := s.At[r.ID]; n > 0 {
				row.Places = append(row.Places, replicaShare{names[r.ID], n})
			}
		}
		slices.SortFunc(row.Places, func(a, b replicaShare) int { return cmp.Compare(a.Name, b.Name) })
		together = append(together, row)
	}
	d.Collections = tabled(v, replicasPath, together, "-bytes", sharedOrders)
	w := v.page("replicas", v.text("replicas.title"), &d)
	w.crumbs = []link{{v.text("operations.title"), prefix + "/operations"}}
	return w, nil
}

func (v *visit) replicaBadge(r Replica) badge {
	text := v.text("replicas.state." + r.State)
	switch r.State {
	case "serving":
		return badge{"ok", "ok", text}
	case "ended":
		return badge{"bad", "bad", text}
	}
	return badge{"warn", "warn", text}
}
