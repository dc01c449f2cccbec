package face

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// Pretend sets counts of a resource that no test could reach by creating: all collections of a kind, all persons of a
// kind of group, and persons and faces of one collection. Negative numbers leave a count as it is.
func (s *Service) Pretend(
	ctx context.Context, res visage.Resource, ref Ref, collections, all, persons, faces int,
) error {
	return s.update(ctx, res, func(tx sealed.Tx) error {
		set := func(n *int, to int) {
			if to >= 0 {
				*n = to
			}
		}
		t, err := getTotals(tx)
		if err != nil {
			return err
		}
		set(&t.Collections[ref.Kind], collections)
		set(&t.Persons[ref.Kind], all)
		if err := totals.In().Put(tx, totalsID, t); err != nil || persons < 0 && faces < 0 {
			return err
		}
		c, st, err := findState(tx, ref)
		if err != nil {
			return err
		}
		set(&st.Persons, persons)
		set(&st.Faces, faces)
		return putState(tx, ref.Kind, c, &st)
	})
}

// Records counts the records in a resource's space: detected faces, persons and faces of present or deleted
// collections, given their incarnations, and containers that wait to be dropped.
func (s *Service) Records(
	ctx context.Context, res visage.Resource, incarnations []string,
) (detected, stored, waiting int, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) error {
		detected, stored, waiting = 0, 0, 0
		for h, err := range hours.In().All(r) {
			if err != nil {
				return err
			}
			for _, err := range detections.In(hourName(h.Hour)).All(r) {
				if err != nil {
					return err
				}
				detected++
			}
		}
		for _, of := range incarnations {
			for _, err := range persons.In(of).All(r) {
				if err != nil {
					return err
				}
				stored++
			}
			for _, err := range faces.In(of).All(r) {
				if err != nil {
					return err
				}
				stored++
			}
			for _, err := range userData.In(of).All(r) {
				if err != nil {
					return err
				}
				stored++
			}
		}
		for _, err := range trash.In().All(r) {
			if err != nil {
				return err
			}
			waiting++
		}
		return nil
	})
	return detected, stored, waiting, err
}

// Incarnation returns the name of the containers of a collection.
func (s *Service) Incarnation(ctx context.Context, res visage.Resource, ref Ref) (of string, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, ref)
		of = c.Incarnation.String()
		return err
	})
	return of, err
}

// HoldPerson makes every change of a person wait until release is called.
func (s *Service) HoldPerson(ctx context.Context, res visage.Resource, ref PersonRef) (release func(), err error) {
	return s.locks.acquire(ctx, personLock(res, ref))
}

// KeepOrders limits the number of ids that are kept sorted.
func (s *Service) KeepOrders(most int) { s.orders = newOrders(most) }

// DuringSearch searches a trained group, and calls before between reading the group and asking for its gallery, and
// during while the gallery is in use.
func (s *Service) DuringSearch(
	ctx context.Context, res visage.Resource, ref Ref, probe gallery.Code, before, during func(),
) error {
	var c collectionRecord
	var st stateRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, st, err = findState(r, ref)
		return err
	})
	if err != nil {
		return err
	}
	before()
	return s.withGallery(ctx, res, ref, c, st, st.Trained, func(g *gallery.Gallery) error {
		during()
		_, err := g.Search(ctx, gallery.Query{Probes: []gallery.Code{probe}, K: 1})
		return err
	})
}

// SearchIn makes the service search collections in parts.
func (s *Service) SearchIn(p Partitions) { s.partitions = p }

// DuringTraining calls during while the gallery of a training that was asked for is loaded, and expects some faces.
func (s *Service) DuringTraining(
	ctx context.Context, res visage.Resource, ref Ref, expected int, during func(),
) error {
	var c collectionRecord
	var st stateRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, st, err = findState(r, ref)
		return err
	})
	if err != nil {
		return err
	}
	src := gallery.Source{Lease: ctx, Dim: 1, Load: func(_ context.Context, g *gallery.Gallery) (uint64, error) {
		g.Expect(expected)
		during()
		return 0, nil
	}}
	key := gallery.Key{Scope: scope(res, c), Version: st.Training.UpTo}
	return s.galleries.Use(ctx, key, src, func(*gallery.Gallery) error { return nil })
}

// DuringScan lists some ids whose scan calls during after it has read them.
func (s *Service) DuringScan(
	ctx context.Context, ids []string, during func(change func(id string, added bool)),
) ([]string, error) {
	return s.orders.after(ctx, listing{
		lease: ctx, name: "test", text: func(id string) string { return id },
		scan: func(add func(string)) (uint64, error) {
			for _, id := range ids {
				add(id)
			}
			var after uint64
			during(func(id string, added bool) {
				what := itemGone
				if added {
					what = itemAdded
				}
				s.orders.change("test", stored{after: after, list: []change{{what, id}}})
				after++
			})
			return 0, nil
		},
	}, "", mostTop)
}

// GalleryBytes returns the memory of all galleries.
func (s *Service) GalleryBytes() int64 { return s.galleries.Stats().Bytes }

// TrainNow performs the pending trainings of a resource, as Run does.
func (s *Service) TrainNow(ctx context.Context, res visage.Resource) { s.train(ctx, res.ID) }

// SweepNow sweeps a resource's space, as Run does.
func (s *Service) SweepNow(ctx context.Context, res visage.Resource) { s.sweep(ctx, res.ID) }

// EncodeFace encodes the record of a face.
func EncodeFace(id, person [16]byte, sequence uint64, code gallery.Code) ([]byte, error) {
	return faceRecord{ID: id, Person: person, Sequence: sequence, Code: code}.MarshalBinary()
}

// DecodeFace decodes the record of a face.
func DecodeFace(b []byte) (id, person [16]byte, sequence uint64, code gallery.Code, err error) {
	var f faceRecord
	err = f.UnmarshalBinary(b)
	return f.ID, f.Person, f.Sequence, f.Code, err
}

// EarlierFace makes the record of a face in encoding 1.
func EarlierFace(b []byte) ([]byte, error) { return earlierFace(b) }

// earlierFaceRecord is a face in encoding 1 of its table, with a template.
type earlierFaceRecord struct {
	faceRecord
	template []float32
}

func (f earlierFaceRecord) MarshalBinary() ([]byte, error) {
	f.Code = floats(f.template)
	return f.faceRecord.MarshalBinary()
}

func (f *earlierFaceRecord) UnmarshalBinary(b []byte) (err error) {
	f.faceRecord, err = parseFace(b)
	return err
}

// floats encodes a template as it was stored: each number as a float32 (IEEE 754), little endian.
func floats(template []float32) (b []byte) {
	for _, x := range template {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// earlierDetectionRecord is a detected face of early versions, with a template.
type earlierDetectionRecord struct {
	ID       uuid   `cbor:"1,keyasint"`
	Expires  int64  `cbor:"2,keyasint"`
	Model    string `cbor:"3,keyasint"`
	Networks string `cbor:"4,keyasint"`
	Template []byte `cbor:"5,keyasint"`
}

var (
	earlierFaces      = sealed.NewTable[earlierFaceRecord]("face.face", 1, sealed.FixedSize())
	earlierDetections = sealed.NewTable[earlierDetectionRecord]("face.detection", 1)
)

// Age writes the faces of collections, and all detected faces, in the format of early versions. If broken is set, it
// changes each template before.
func (s *Service) Age(ctx context.Context, res visage.Resource, broken func([]float32), refs ...Ref) error {
	template := func(c gallery.Code) []float32 {
		v := c.Vector()
		if broken != nil {
			broken(v)
		}
		return v
	}
	return s.update(ctx, res, func(tx sealed.Tx) error {
		for _, ref := range refs {
			c, err := find(tx, ref)
			if err != nil {
				return err
			}
			var all []faceRecord
			for f, err := range c.faces().All(tx) {
				if err != nil {
					return err
				}
				all = append(all, f)
			}
			for _, f := range all {
				record := earlierFaceRecord{faceRecord: f, template: template(f.Code)}
				if err := earlierFaces.In(c.templates().String()).Put(tx, f.ID.String(), record); err != nil {
					return err
				}
			}
		}
		for h, err := range hours.In().All(tx) {
			if err != nil {
				return err
			}
			var all []detectionRecord
			for d, err := range detections.In(hourName(h.Hour)).All(tx) {
				if err != nil {
					return err
				}
				all = append(all, d)
			}
			for _, d := range all {
				record := earlierDetectionRecord{d.ID, d.Expires, d.Model, d.Networks, floats(template(d.code()))}
				if err := earlierDetections.In(hourName(h.Hour)).Put(tx, d.ID.String(), record); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Aged counts the faces of a collection in the format of early versions, and all faces.
func (s *Service) Aged(ctx context.Context, res visage.Resource, ref Ref) (aged, all int, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, ref)
		if err != nil {
			return err
		}
		for _, err := range c.faces().All(r) {
			if err != nil {
				return err
			}
			all++
		}
		for _, err := range earlierFaces.In(c.templates().String()).All(r) {
			if err == nil {
				aged++
			}
		}
		return nil
	})
	return aged, all, err
}

// Spoil replaces the code of every face of a collection by one that no template has.
func (s *Service) Spoil(ctx context.Context, res visage.Resource, ref Ref, code gallery.Code) error {
	return s.update(ctx, res, func(tx sealed.Tx) error {
		c, err := find(tx, ref)
		if err != nil {
			return err
		}
		var all []faceRecord
		for f, err := range c.faces().All(tx) {
			if err != nil {
				return err
			}
			all = append(all, f)
		}
		for _, f := range all {
			f.Code = code
			if err := c.faces().Put(tx, f.ID.String(), f); err != nil {
				return err
			}
		}
		return nil
	})
}

// ParseID parses an id and returns its text.
func ParseID(s string) (string, error) {
	u, err := visage.ParseUUID(s)
	return u.String(), err
}

// KeepNames limits the memory of names.
func (s *Service) KeepNames(bytes int64) { s.names = newNameIndexes(bytes) }

// NameBytes returns the memory of all names.
func (s *Service) NameBytes() int64 { return s.names.memory() }

// Index is the names of the persons of a group, for tests of their index alone.
type Index struct {
	all     *nameIndexes
	k       *nameIndex
	changes uint64
}

// NewIndex makes an index whose scan calls scan and waits until it is built. change records a change.
func NewIndex(
	lease context.Context, persons int,
	scan func(add func(id visage.UUID, name string), change func(id visage.UUID, name string, gone, added bool)) error,
) (*Index, error) {
	all := newNameIndexes(mostNameBytes)
	x := &Index{all: all}
	k, err := all.of(lease, "test", persons, func(_ context.Context, add func(uuid, string) error) (uint64, error) {
		return 0, scan(func(id uuid, name string) {
			if err := add(id, name); err != nil {
				panic(err)
			}
		}, x.Change)
	}, nil)
	if err != nil {
		return nil, err
	}
	x.k = k
	<-k.built
	return x, nil
}

// Change records that a person was added, renamed or removed.
func (x *Index) Change(id visage.UUID, name string, gone, added bool) {
	what := personRenamed
	if gone {
		what = personGone
	} else if added {
		what = personAdded
	}
	c := change{what, string(id[:])}
	x.all.change("test", stored{
		after: x.changes, list: []change{c}, names: map[string]string{c.id: fold(name)},
	})
	x.changes++
}

// Search returns the first n persons whose name begins with a text, and the others that have it.
func (x *Index) Search(text string, n int) (begin, within []visage.UUID) {
	for _, hit := range x.k.search(nameSearch{text: fold(text)}, n) {
		if hit.how == matchStart {
			begin = append(begin, hit.id)
		} else {
			within = append(within, hit.id)
		}
	}
	return begin, within
}

// Close ends the index.
func (x *Index) Close() { x.all.close() }

// RefreshNow brings what is kept in memory up to date, as Run does.
func (s *Service) RefreshNow(ctx context.Context) { s.refresh(ctx) }

// LogChanges writes some changes of a collection in one transaction and returns them as ids.
func (s *Service) LogChanges(ctx context.Context, res visage.Resource, ref Ref, n int) (ids []string, err error) {
	err = s.update(ctx, res, func(tx sealed.Tx) error {
		ids = nil
		c, st, err := findState(tx, ref)
		if err != nil {
			return err
		}
		for range n {
			id := visage.NewUUID()
			st.note(faceGone, id)
			ids = append(ids, id.String())
		}
		return putState(tx, ref.Kind, c, &st)
	})
	return ids, err
}

// ChangesSince returns the ids of the changes of a collection after a number.
func (s *Service) ChangesSince(
	ctx context.Context, res visage.Resource, ref Ref, after uint64,
) (ids []string, reaches bool, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) error {
		c, st, err := findState(r, ref)
		if err != nil {
			return err
		}
		var list []change
		list, reaches, err = st.changesSince(r, c, after)
		for _, change := range list {
			ids = append(ids, rawText(change.id))
		}
		return err
	})
	return ids, reaches, err
}

// ChangeRecords counts the records of the log of changes of a collection.
func (s *Service) ChangeRecords(ctx context.Context, res visage.Resource, ref Ref) (n int, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, ref)
		if err != nil {
			return err
		}
		for _, err := range changes.In(c.Incarnation.String()).All(r) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// LoggedItems counts the records of the log of the lists or groups of a kind, and the changes with an id in it.
func (s *Service) LoggedItems(ctx context.Context, res visage.Resource, kind Kind) (records, ids int, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) error {
		for block, err := range changes.In(kind.String()).All(r) {
			if err != nil {
				return err
			}
			records, ids = records+1, ids+len(block.List)
		}
		return nil
	})
	return records, ids, err
}

// SetExpired records when a resource was expired last.
func (s *Service) SetExpired(ctx context.Context, res visage.Resource, at time.Time) error {
	return s.update(ctx, res, func(tx sealed.Tx) error {
		return expiryTimes.In().Put(tx, wholeResource, expiryRecord{At: at.Unix()})
	})
}

// LaterRuns asks for work on a resource some time later, again and again, and returns how often it was done.
func LaterRuns(ctx context.Context, times int, every, wait time.Duration) (runs int) {
	a := newAgenda()
	ctx, end := context.WithCancel(ctx)
	var worker sync.WaitGroup
	worker.Go(func() { a.work(ctx, func(context.Context, visage.ResourceID) { runs++ }) })
	for range times {
		a.addLater(visage.ResourceID{1}, wait)
		time.Sleep(every)
	}
	time.Sleep(wait)
	end()
	worker.Wait()
	return runs
}

// Job is a training.
type Job struct{ record jobRecord }

// BeginTraining takes the first step of the training of a collection.
func (s *Service) BeginTraining(
	ctx context.Context, res visage.Resource, ref Ref, claim *sealed.Claim,
) (*Job, error) {
	var c collectionRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, err = find(r, ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	job := jobRecord{Kind: ref.Kind, ID: ref.ID, Of: c.Incarnation}
	_, _, err = s.step(ctx, res, job, claim, func(st *stateRecord) { st.Training.Status = Running })
	return &Job{job}, err
}

// EndTraining takes its last step.
func (s *Service) EndTraining(ctx context.Context, res visage.Resource, job *Job, claim *sealed.Claim) error {
	_, _, err := s.step(ctx, res, job.record, claim, func(st *stateRecord) { st.Training.Status = Succeeded })
	return err
}

// Passes are readings for the parts of one collection.
type Passes struct {
	passes passes
	read   func(context.Context) error
}

// NewPasses makes readings that call read between the first row and the last.
func NewPasses(read func(context.Context) error) *Passes { return &Passes{read: read} }

// Load loads a part.
func (p *Passes) Load(ctx context.Context, index int) error {
	g, err := gallery.New(2)
	if err != nil {
		return err
	}
	defer g.Close()
	_, _, err = p.passes.load(ctx, passOf{}, index, g, func(ctx context.Context, begin func() []*partLoad) (
		at, trained uint64, err error,
	) {
		begin()
		return 0, 0, p.read(ctx)
	})
	return err
}
