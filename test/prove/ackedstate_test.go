package prove_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// ackedState is what one client knows of its own part of the service: one large person group, whose persons and faces
// no other client changes. Everything in it was acknowledged, except for inDoubt.
type ackedState struct {
	group   string
	photo   []byte // of one face; nil: no faces are added
	made    bool   // the group exists
	name    string // the group's
	persons map[string]*person
	inDoubt *doubt // the request that was running when the service was killed
	serial  int    // makes every name unique, also over several rounds
	acked   int    // answers received in all
}

// person is one person as it was acknowledged.
type person struct {
	name  string
	faces map[string]string // persisted face id to userData
}

// doubt is a request without an answer. It may have taken effect or not; a third outcome is a failure.
type doubt struct {
	what   string // for messages
	verb   verb
	person string // the person concerned, when it is known
	face   string // the face concerned, when it is known
	token  string // the new name or userData, unique
}

// verb is an operation of a client.
type verb int

const (
	makeGroup verb = iota
	renameGroup
	dropGroup
	addPerson
	renamePerson
	dropPerson
	addFace
	dropFace
)

// choose draws the next request from those that are possible now.
func (w *ackedState) choose(r *rand.Rand) doubt {
	w.serial++
	token := fmt.Sprintf("%s-canary-%06d", w.group, w.serial)
	if !w.made {
		return doubt{what: "create group", verb: makeGroup, token: token}
	}
	ids := sortedKeys(w.persons)
	pick := func() string { return ids[r.IntN(len(ids))] }
	n := r.IntN(100)
	switch {
	case len(ids) == 0 || n < 40:
		return doubt{what: "create person", verb: addPerson, token: token}
	case n < 60:
		return doubt{what: "rename person", verb: renamePerson, person: pick(), token: token}
	case n < 74:
		return doubt{what: "delete person", verb: dropPerson, person: pick()}
	case n < 88 && w.photo != nil:
		return doubt{what: "add face", verb: addFace, person: pick(), token: token}
	case n < 94 && w.photo != nil:
		id := pick()
		faces := sortedKeys(w.persons[id].faces)
		if len(faces) == 0 {
			return doubt{what: "add face", verb: addFace, person: id, token: token}
		}
		return doubt{what: "delete face", verb: dropFace, person: id, face: faces[r.IntN(len(faces))]}
	case n < 99:
		return doubt{what: "rename group", verb: renameGroup, token: token}
	default:
		return doubt{what: "delete group", verb: dropGroup}
	}
}

// act sends one request and records the acknowledged change. An error is an unexpected answer; ok says whether there
// was an answer at all. Without one the request stays in doubt.
func (w *ackedState) act(ctx context.Context, api *client, d doubt) (ok bool, err error) {
	w.inDoubt = &d
	base := "/largepersongroups/" + w.group
	var answer struct{ PersonID, PersistedFaceID string }
	var status int
	switch d.verb {
	case makeGroup:
		status, ok = api.call(ctx, "PUT", base, map[string]any{"name": d.token, "userData": d.token}, nil)
	case renameGroup:
		status, ok = api.call(ctx, "PATCH", base, map[string]any{"name": d.token, "userData": d.token}, nil)
	case dropGroup:
		status, ok = api.call(ctx, "DELETE", base, nil, nil)
	case addPerson:
		status, ok = api.call(ctx, "POST", base+"/persons", map[string]any{"name": d.token, "userData": d.token},
			&answer)
	case renamePerson:
		status, ok = api.call(ctx, "PATCH", base+"/persons/"+d.person,
			map[string]any{"name": d.token, "userData": d.token}, nil)
	case dropPerson:
		status, ok = api.call(ctx, "DELETE", base+"/persons/"+d.person, nil, nil)
	case addFace:
		status, ok = api.call(ctx, "POST", base+"/persons/"+d.person+"/persistedfaces?userData="+d.token, w.photo,
			&answer)
	case dropFace:
		status, ok = api.call(ctx, "DELETE", base+"/persons/"+d.person+"/persistedfaces/"+d.face, nil, nil)
	}
	if !ok {
		return false, nil
	}
	if status != 200 {
		return true, fmt.Errorf("%s in %s: status %d, want 200", d.what, w.group, status)
	}
	w.inDoubt = nil
	w.acked++
	w.apply(d, cmp.Or(answer.PersonID, answer.PersistedFaceID))
	return true, nil
}

// apply records that d has taken effect; made is the id of the new object, if there is one.
func (w *ackedState) apply(d doubt, made string) {
	switch d.verb {
	case makeGroup:
		w.made, w.name, w.persons = true, d.token, make(map[string]*person)
	case renameGroup:
		w.name = d.token
	case dropGroup:
		w.made, w.name, w.persons = false, "", nil
	case addPerson:
		w.persons[made] = &person{name: d.token, faces: make(map[string]string)}
	case renamePerson:
		w.persons[d.person].name = d.token
	case dropPerson:
		delete(w.persons, d.person)
	case addFace:
		w.persons[d.person].faces[made] = d.token
	case dropFace:
		delete(w.persons[d.person].faces, d.face)
	}
}

// compare reads everything back and returns the differences from the ackedState. They settle the request in doubt.
func (w *ackedState) compare(ctx context.Context, api *client) error {
	found, err := w.read(ctx, api)
	if err != nil {
		return err
	}
	d := w.inDoubt
	w.inDoubt = nil
	before := w.describe()
	if found.describe() == before {
		return nil
	}
	if d == nil {
		return fmt.Errorf("group %s is not as acknowledged:\n%s", w.group, difference(before, found.describe()))
	}
	switch d.verb {
	case addPerson: // its id is unknown: it is the person with the new name
		for id, p := range found.persons {
			if p.name == d.token {
				w.apply(*d, id)
			}
		}
	case addFace:
		if p := found.persons[d.person]; p != nil {
			for id, userData := range p.faces {
				if userData == d.token {
					w.apply(*d, id)
				}
			}
		}
	default:
		w.apply(*d, "")
	}
	if after := w.describe(); found.describe() != after {
		return fmt.Errorf("group %s is neither as before nor as after %q:\n%s", w.group, d.what,
			difference(after, found.describe()))
	}
	return nil
}

// read returns the state of the group in the service.
func (w *ackedState) read(ctx context.Context, api *client) (*ackedState, error) {
	found := &ackedState{group: w.group}
	base := "/largepersongroups/" + w.group
	var group struct{ Name, UserData string }
	status, ok := api.call(ctx, "GET", base, nil, &group)
	switch {
	case !ok:
		return nil, fmt.Errorf("read group %s: no answer", w.group)
	case status == 404:
		return found, nil
	case status != 200:
		return nil, fmt.Errorf("read group %s: status %d", w.group, status)
	case group.Name != group.UserData:
		return nil, fmt.Errorf("group %s has the name %q and the userData %q: half a change", w.group, group.Name,
			group.UserData)
	}
	found.made, found.name, found.persons = true, group.Name, make(map[string]*person)
	for start := ""; ; {
		var page []struct {
			PersonID, Name, UserData string
			PersistedFaceIDs         []string
		}
		path := base + "/persons?top=100"
		if start != "" {
			path += "&start=" + start
		}
		if status, ok := api.call(ctx, "GET", path, nil, &page); !ok || status != 200 {
			return nil, fmt.Errorf("read persons of %s: status %d", w.group, status)
		}
		if len(page) == 0 {
			return found, nil
		}
		for _, q := range page {
			if q.Name != q.UserData {
				return nil, fmt.Errorf("a person has the name %q and the userData %q: half a change", q.Name,
					q.UserData)
			}
			p := &person{name: q.Name, faces: make(map[string]string)}
			for _, id := range q.PersistedFaceIDs {
				var face struct{ UserData string }
				if status, ok := api.call(ctx, "GET", base+"/persons/"+q.PersonID+"/persistedfaces/"+id, nil,
					&face); !ok || status != 200 {
					return nil, fmt.Errorf("face %s of person %s is listed but cannot be read: status %d", id,
						q.PersonID, status)
				}
				p.faces[id] = face.UserData
			}
			found.persons[q.PersonID] = p
			start = q.PersonID
		}
	}
}

// describe writes the ackedState as sorted lines, one a fact.
func (w *ackedState) describe() string {
	if !w.made {
		return "no group\n"
	}
	lines := []string{"group " + w.name}
	for id, p := range w.persons {
		lines = append(lines, fmt.Sprintf("person %s %s", id, p.name))
		for face, userData := range p.faces {
			lines = append(lines, fmt.Sprintf("person %s face %s %s", id, face, userData))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// difference lists the lines that are on one side only.
func difference(want, got string) string {
	var b strings.Builder
	wanted, have := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range wanted {
		if !slices.Contains(have, line) {
			fmt.Fprintln(&b, "  missing:", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(wanted, line) {
			fmt.Fprintln(&b, "  unexpected:", line)
		}
	}
	return b.String()
}

// canaries are all texts that the ackedState has ever sent, which must not be readable on disk.
func (w *ackedState) canaries() []string {
	return []string{w.group + "-canary-"}
}
