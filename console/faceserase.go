package console

import (
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/face"
)

// eraseData is the page that asks before something is erased.
type eraseData struct {
	Heading      string
	Name         string // of the person, group or list; empty: a face has none
	Consequences []string
	Held         bool
	Keeping      string // the address of the page about holds; empty: the person may not see it
	Form         *form
}

// erasable is what a path names to be erased.
type erasable struct {
	what  string // "person", "face" or "collection"
	erase func(*visit, account.Account) (face.Erasure, error)
	back  string // the address of the page to show if it is not erased
	after string // and of the one above what is erased
	above []link
}

// toErase reads what a path names to be erased, and the page about it.
func (c *Console) toErase(v *visit, a account.Account) (erasable, *eraseData, error) {
	ref, k, err := v.refOf()
	if err != nil {
		return erasable{}, nil, err
	}
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	if err != nil {
		return erasable{}, nil, err
	}
	collection := collectionPath(a.Name, ref)
	above := []link{{v.text("faces.collection.title", k.one(v), isolated(shownName(sum.Name, ref.ID))), collection}}
	data := &eraseData{}
	held := face.Held{Ref: ref}
	var e erasable
	switch v.Route().Pattern {
	case oneCollection + "/erase":
		e = erasable{what: "collection", back: collection, after: facesPath(a.Name) + "?" + query("kind", k.name),
			above: above, erase: func(v *visit, a account.Account) (face.Erasure, error) {
				return c.cfg.Faces.Erase(v.Context(), a.Resource, ref)
			}}
		data.Heading, data.Name = v.text("faces.erase.collection", k.one(v)), shownName(sum.Name, ref.ID)
		if k.group {
			data.Consequences = append(data.Consequences, v.text("faces.erase.persons", sum.Persons))
		}
		data.Consequences = append(data.Consequences, v.text("faces.erase.faces", sum.Faces))
		if data.Held, err = c.holds(v, a, held); err != nil {
			return e, nil, err
		}
	case oneListed + "/erase":
		held.Item = v.Path("face")
		if _, err = c.cfg.Faces.GetFace(v.Context(), a.Resource, ref, held.Item); err != nil {
			return e, nil, err
		}
		e = erasable{what: "face", back: collection, after: collection, above: above,
			erase: func(v *visit, a account.Account) (face.Erasure, error) {
				return c.cfg.Faces.EraseFace(v.Context(), a.Resource, ref, held.Item)
			}}
		data.Heading = v.text("faces.erase.face")
		data.Consequences = append(data.Consequences, v.text("faces.erase.face.list"))
		if data.Held, err = c.holds(v, a, held); err != nil {
			return e, nil, err
		}
	default:
		if !k.group {
			return e, nil, refuseUnknownPage()
		}
		who := face.PersonRef{Group: ref, ID: v.Path("person")}
		held.Item = who.ID
		d, err := c.cfg.Faces.PersonDetails(v.Context(), a.Resource, who)
		if err != nil {
			return e, nil, err
		}
		data.Name, data.Held = shownName(d.Name, d.ID), d.Keep.Held
		path := collectionPath(a.Name, ref, "persons", d.ID)
		above = append(above, link{v.text("faces.person.title", isolated(data.Name)), path})
		if v.Route().Pattern == oneEnrolled+"/erase" {
			e = erasable{what: "person", back: path, after: collection, above: above,
				erase: func(v *visit, a account.Account) (face.Erasure, error) {
					return c.cfg.Faces.ErasePerson(v.Context(), a.Resource, who)
				}}
			data.Heading = v.text("faces.erase.person")
			data.Consequences = append(data.Consequences, v.text("faces.erase.faces", len(d.Faces)),
				v.text("faces.erase.record"))
			break
		}
		id := v.Path("face")
		if _, err := c.cfg.Faces.GetPersonFace(v.Context(), a.Resource, who, id); err != nil {
			return e, nil, err
		}
		e = erasable{what: "face", back: path, after: path, above: above,
			erase: func(v *visit, a account.Account) (face.Erasure, error) {
				return c.cfg.Faces.ErasePersonFace(v.Context(), a.Resource, who, id)
			}}
		data.Heading = v.text("faces.erase.face")
		data.Consequences = append(data.Consequences, v.text("faces.erase.face.person", len(d.Faces)-1))
	}
	data.Consequences = append(data.Consequences, v.text("faces.erase.search"), v.text("faces.erase.copies"),
		v.text("faces.erase.receipt"))
	if v.may("Microsoft.CognitiveServices/accounts/retention/read", c.cfg.AccountPath(a)) {
		data.Keeping = keepingPath(a.Name, held)
	}
	data.Form = v.form(v.Where(), data.Heading)
	data.Form.Style, data.Form.Icon, data.Form.Cancel = "danger", "erase", e.back
	return e, data, nil
}

// holds reports whether a legal hold prevents that something is erased.
func (c *Console) holds(v *visit, a account.Account, on face.Held) (bool, error) {
	k, err := c.cfg.Faces.Keeping(v.Context(), a.Resource)
	if err != nil {
		return false, err
	}
	for _, h := range k.Holds {
		if h.On.Ref == (face.Ref{}) || h.On.Ref == on.Ref &&
			(on.Item == "" || h.On.Item == "" || h.On.Item == on.Item) {
			return true, nil
		}
	}
	return false, nil
}

// askToErase asks before something is erased.
func (c *Console) askToErase(v *visit, a account.Account) (*view, error) {
	e, data, err := c.toErase(v, a)
	if err != nil {
		return nil, err
	}
	return v.facesPage("faceserase", a, data, data.Heading, e.above...), nil
}

// erase erases a person, a face, or a group or list, and leads to the receipt.
func (c *Console) erase(v *visit, a account.Account) (*view, error) {
	e, data, err := c.toErase(v, a)
	if err != nil {
		return nil, err
	}
	done, err := e.erase(v, a)
	if err != nil {
		if closed(err) || !v.refused(data.Form, err, nil) {
			return nil, err
		}
		return v.again(v.facesPage("faceserase", a, data, data.Heading, e.above...), data.Form.Error), nil
	}
	to := receiptPath(a.Name, done.Entry)
	if done.Entry == 0 || !v.may("Microsoft.CognitiveServices/accounts/auditEvents/proof/read", c.cfg.AccountPath(a)) {
		to = e.after
	}
	said := v.text("faces.erased.face")
	if e.what != "face" {
		said = v.text("faces.erased."+e.what, done.Persons, done.Faces)
	}
	v.c.notices.add(v.session.ID, notice{"ok", said})
	if done.Entry == 0 {
		v.c.notices.add(v.session.ID, notice{"warn", v.text("faces.erased.unrecorded")})
	}
	return v.redirect(to), nil
}

func receiptPath(account string, entry uint64) string {
	return resourcePath(account, "receipts/"+strconv.FormatUint(entry, 10))
}

// receiptData is the page of a receipt.
type receiptData struct {
	What      string // was erased
	At        time.Time
	Facts     []fact
	Grade     string // what it means
	Destroyed bool   // the key is
	Copies    string // until when copies of the keyring open it
	Customer  bool   // the resource has a customer-managed key
	Proof     *audit.Proof
	File      string // the address of the file
	Check     string // the command that checks it
	Signed    bool
	Again     string
}

// receipt shows the receipt of an erasure: its entry of the audit log, and the proof of its place there.
func (c *Console) receipt(v *visit) (*view, error) {
	a, p, err := c.proofOf(v)
	waiting := errors.Is(err, audit.ErrUnsigned) || errors.Is(err, audit.ErrCatchingUp)
	if err != nil && !waiting {
		return nil, err
	}
	data := &receiptData{Again: v.URL()}
	title := v.text("faces.receipt.title")
	show := func() *view {
		w := v.resourcePage("facesreceipt", "people", a, data)
		w.title = title
		return w
	}
	if waiting {
		w := show()
		w.refresh = time.Second
		return w, nil
	}
	entry := p.Entry
	data.Signed, data.Proof, data.At = true, &p, entry.Time
	data.What = v.text("faces.receipt.what." + string(entry.Kind))
	data.File = receiptPath(a.Name, entry.Sequence) + "/file"
	data.Check = "visage erase-proof check " + proofName("receipt", entry.Sequence) + " --verifier " + p.Verifier
	data.Facts = []fact{{v.text("faces.receipt.resource"), a.Name, false}}
	for _, d := range []struct {
		detail audit.Detail
		key    string
	}{
		{audit.DetailGroup, "faces.receipt.group"}, {audit.DetailPerson, "faces.receipt.person"},
		{audit.DetailFace, "faces.receipt.face"},
	} {
		if value := entry.Details[d.detail]; value != "" {
			data.Facts = append(data.Facts, fact{v.text(d.key), value, true})
		}
	}
	data.Facts = append(data.Facts, fact{v.text("faces.receipt.by"), v.actorName(entry.Actor), false})
	if records := entry.Details[audit.DetailCount]; records != "" {
		data.Destroyed = true
		data.Facts = append(data.Facts,
			fact{v.text("faces.receipt.records"), records, false},
			fact{v.text("faces.receipt.digest"), entry.Details[audit.DetailErased], true},
			fact{v.text("faces.receipt.key"), v.text("faces.receipt.key.value",
				entry.Details[audit.DetailGeneration], entry.Details[audit.DetailEpoch]), false},
			fact{v.text("faces.receipt.grade"), entry.Details[audit.DetailGrade], false})
		data.Grade = v.text("faces.receipt.grade." + entry.Details[audit.DetailGrade])
	}
	data.Facts = append(data.Facts,
		fact{v.text("faces.receipt.entry"), v.lang.number(int(entry.Sequence)), false},
		fact{v.text("faces.receipt.hash"), hex.EncodeToString(entry.Hash[:]), true},
		fact{v.text("faces.receipt.verifier"), p.Verifier, true})
	if data.Copies, err = c.copiesBefore(v, entry.Time); err != nil {
		return nil, err
	}
	if e, err := c.cfg.Accounts.Encryption(v.Context(), a); err == nil {
		data.Customer = e.Status.Key != (visage.KeyRef{})
	}
	return show(), nil
}

// copiesBefore says what the audit log knows of the copies of the keyring from before an erasure, which open a backup
// from before it. Nobody tells the service when they are destroyed.
func (c *Console) copiesBefore(v *visit, erased time.Time) (string, error) {
	entries, more, err := c.cfg.History.Page(v.Context(), audit.Query{
		Kinds: []audit.Kind{audit.OperatorAction}, Outcome: audit.Done, To: erased, Limit: mostActions,
	})
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Details[audit.DetailOperation] == keyringExport {
			return v.text("faces.receipt.copies.last", v.lang.when(e.Time)), nil
		}
	}
	if more != 0 {
		return v.text("faces.receipt.copies.unknown"), nil
	}
	return v.text("faces.receipt.copies.none"), nil
}

// receiptFile gives the receipt as a file, which "visage erase-proof check" checks without the server.
func (c *Console) receiptFile(v *visit) (*view, error) {
	_, p, err := c.proofOf(v)
	return proofFile("receipt", p, err)
}

// proofOf proves the entry of an erasure that the path names. Other entries of the log are not found here.
func (c *Console) proofOf(v *visit) (account.Account, audit.Proof, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return a, audit.Proof{}, err
	}
	missing := visage.Refuse(visage.NotFound, "AuditEventNotFound", "The audit log has no such erasure of this "+
		"resource.")
	sequence, err := strconv.ParseUint(v.Path("entry"), 10, 64)
	if err != nil || sequence == 0 {
		return a, audit.Proof{}, missing
	}
	p, err := c.cfg.History.Prove(v.Context(), sequence)
	if broken, ok := errors.AsType[*audit.BrokenError](err); ok && broken.Sequence == sequence {
		return a, p, missing
	}
	if err != nil {
		return a, p, err
	}
	switch p.Entry.Kind {
	case audit.PersonDelete, audit.FaceDelete, audit.GroupDelete:
		if p.Entry.Resource == a.ID {
			return a, p, nil
		}
	}
	return a, audit.Proof{}, missing
}
