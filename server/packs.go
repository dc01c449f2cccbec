package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// The names of model packs that setup makes.
const (
	newStorePack = "mobileface" // serves every recognition model of a new store
	formerPack   = "default"    // made the templates of all stores from before packs were recorded
)

// RecognitionModels returns the names of the contract's recognition models, oldest first. Clients may request any of
// them, so each is mapped to a pack.
func RecognitionModels() []string {
	return []string{"recognition_01", "recognition_02", "recognition_03", "recognition_04"}
}

// packChoice is the sealed record of the store's model packs, so that neither a new default nor a missing setting
// changes the packs that make its templates.
type packChoice struct {
	// Models are the names of the packs that make new templates, by recognition model.
	Models map[string]string
	// Used holds every pack that a model was ever mapped to, by name: its templates may be stored.
	Used map[string]usedPack
}

// usedPack is the record of a pack that may have made templates.
type usedPack struct {
	Folder string // its last folder
	// Fingerprint is vision.Pipeline.Fingerprint. Empty: unknown, in a store from before packs were recorded.
	Fingerprint []float32
}

var packChoices = sealed.NewTable[packChoice]("server/packs", 1)

const packChoiceID = "choice"

// allOf maps every recognition model to one pack, which is not used yet.
func allOf(name string) packChoice {
	c := packChoice{Models: map[string]string{}, Used: map[string]usedPack{}}
	for _, model := range RecognitionModels() {
		c.Models[model] = name
	}
	return c
}

// readPackChoice returns the store's record, and whether there was one. A store without it is either new, if the
// instance's record is missing too, or from before packs were recorded.
func readPackChoice(ctx context.Context, store *sealed.Store) (choice packChoice, remembered bool, err error) {
	err = store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		var err error
		choice, err = packChoices.In().Get(r, packChoiceID)
		remembered = err == nil
		if !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
		choice = allOf(formerPack)
		choice.Used[formerPack] = usedPack{}
		if _, err = instances.In().Get(r, instanceID); errors.Is(err, sealed.ErrNotFound) {
			choice, err = allOf(newStorePack), nil // the first start ended early
		}
		return err
	})
	if err != nil {
		return packChoice{}, false, fmt.Errorf("read the record of model packs: %w", err)
	}
	return choice, remembered, nil
}

// packs are the model packs of a running server.
type packs struct {
	choice  packChoice                 // the present one
	open    map[string]face.Recogniser // by name
	missing map[string]error           // by name: packs of choice.Used that serve no model and cannot be opened
	limit   *vision.Limit              // of the photos at work in all of them
}

// models returns the recognisers of new templates, by recognition model.
func (p *packs) models() map[string]face.Recogniser {
	models := map[string]face.Recogniser{}
	for model, name := range p.choice.Models {
		models[model] = p.open[name]
	}
	return models
}

// serves returns the recognition models that are mapped to a pack.
func (c packChoice) serves(name string) []string {
	var models []string
	for _, model := range RecognitionModels() {
		if c.Models[model] == name {
			models = append(models, model)
		}
	}
	return models
}

// String lists the mapping.
func (c packChoice) String() string {
	var all []string
	for _, model := range RecognitionModels() {
		all = append(all, model+"="+c.Models[model])
	}
	return strings.Join(all, " ")
}

// openPacks opens the configured model packs, or else the recorded ones, and those that may have made stored templates.
// If a pack of the last kind cannot be opened, the server starts all the same: use of its templates is refused until
// the pack is back, and everything else is served.
func (s *Server) openPacks(known packChoice, opened *closers) (*packs, error) {
	p := &packs{
		choice: packChoice{Models: map[string]string{}, Used: map[string]usedPack{}},
		open:   map[string]face.Recogniser{}, missing: map[string]error{},
	}
	if r := s.cfg.Recogniser; r != nil {
		p.choice = allOf(r.Name())
		p.choice.Used[r.Name()] = usedPack{}
		p.open[r.Name()] = r
		return p, nil
	}
	p.limit = vision.NewLimit(s.cfg.Parallel)
	for _, model := range RecognitionModels() {
		name, err := s.openFor(model, known, p, opened)
		if err != nil {
			return nil, err
		}
		p.choice.Models[model] = name
	}
	for _, name := range slices.Sorted(maps.Keys(known.Used)) {
		if p.open[name] != nil {
			continue
		}
		p.choice.Used[name] = known.Used[name]
		if slices.Contains(s.cfg.ClosedPacks, name) {
			s.log.Info("model pack left closed; use of its templates is refused", "pack", name)
			continue
		}
		if err := s.openFormer(name, known, p, opened); err != nil {
			p.missing[name] = err
			s.log.Warn("a model pack that this store has used cannot be opened: "+
				"use of its lists, groups and faces is refused until it is back", "pack", name, "err", err)
		}
	}
	for _, name := range s.cfg.ClosedPacks {
		if _, used := p.choice.Used[name]; !used {
			s.log.Warn("closed-pack names a model pack that this store has never used", "pack", name)
		}
		if models := p.choice.serves(name); len(models) > 0 {
			return nil, fmt.Errorf("closed-pack: the model pack %s serves %s: "+
				"map them to another pack first, with --model or --pack", name, strings.Join(models, ", "))
		}
	}
	return p, nil
}

// openFor opens the pack for new templates of a model, unless it is open, and returns its name.
func (s *Server) openFor(model string, known packChoice, p *packs, opened *closers) (string, error) {
	asked := newStorePack // for a model that is newer than the record
	for _, named := range []string{s.cfg.Models[model], s.cfg.Pack, known.Models[model]} {
		if named != "" {
			asked = named
			break
		}
	}
	found, err := s.findPack(asked, known)
	if err != nil {
		return "", fmt.Errorf("%s: %w", model, err)
	}
	used, open := p.choice.Used[found.name]
	if !open {
		err = s.openPack(found, known, p, opened)
	} else if used.Folder != found.folder {
		err = fmt.Errorf("the model packs in %s and %s have the same name, %s: "+
			"rename one of them", used.Folder, found.folder, found.name)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", model, err)
	}
	return found.name, nil
}

// openFormer opens a pack for its stored templates.
func (s *Server) openFormer(name string, known packChoice, p *packs, opened *closers) error {
	found, err := s.findPack(name, known)
	if err != nil {
		return err
	}
	return s.openPack(found, known, p, opened)
}

// foundPack is a complete model pack.
type foundPack struct {
	name, folder string
	pack         *pack.Pack
	made         face.Recogniser // instead of pack, in tests
}

// findPack finds a pack by its folder or name; by name also in its recorded folder.
func (s *Server) findPack(asked string, known packChoice) (foundPack, error) {
	if r := s.cfg.Recognisers[asked]; r != nil {
		return foundPack{name: asked, made: r}, nil
	}
	folder, err := FindPack(asked, s.cfg.Dir)
	if last := known.Used[asked].Folder; err != nil && last != "" && isPack(last) {
		folder, err = last, nil
	}
	if err != nil {
		return foundPack{}, err
	}
	byName := folder != asked
	if folder, err = filepath.Abs(folder); err != nil {
		return foundPack{}, err
	}
	opened, err := pack.Open(folder)
	if err != nil {
		return foundPack{}, err
	}
	if byName && opened.Name() != asked {
		return foundPack{}, fmt.Errorf(
			"the model pack in %s has the name %s, not %s: rename its folder",
			folder, opened.Name(), asked)
	}
	return foundPack{name: opened.Name(), folder: folder, pack: opened}, nil
}

// openPack loads the networks of a pack, checks that they are those of the stored templates, and adds the pack to p.
func (s *Server) openPack(found foundPack, known packChoice, p *packs, opened *closers) (err error) {
	recogniser, fingerprint := found.made, []float32(nil)
	if found.pack != nil {
		library, err := FindLibrary(s.cfg.Library)
		if err != nil {
			return err
		}
		pipeline, err := vision.Open(vision.Config{
			Pack: found.pack, Library: library, Parallel: s.cfg.Parallel, Limit: p.limit,
			Warn: func(text string) { s.log.Warn("image with faults accepted", "fault", text) },
		})
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, pipeline.Close())
				return
			}
			opened.add("model pack "+found.name, pipeline.Close)
		}()
		recogniser, fingerprint = pipeline, pipeline.Fingerprint()
	}
	if before := known.Used[found.name].Fingerprint; len(before) > 0 && !alike(before, fingerprint) {
		return fmt.Errorf("the model pack %s in %s differs from the %s that this store has used: "+
			"their templates of the same picture differ; restore the former, or change the name in its %s",
			found.name, found.folder, found.name, pack.ManifestName)
	}
	p.open[found.name] = recogniser
	p.choice.Used[found.name] = usedPack{Folder: found.folder, Fingerprint: fingerprint}
	return nil
}

// alike reports whether two fingerprints are of the same recogniser. The same network gives the same numbers, apart
// from rounding on different processors; different networks give unrelated ones.
func alike(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	var product float64 // both have length 1
	for i := range a {
		product += float64(a[i]) * float64(b[i])
	}
	return product > 0.99
}

// tellPacks logs the models of each pack.
func (s *Server) tellPacks(p *packs) {
	for _, name := range slices.Sorted(maps.Keys(p.open)) {
		attrs := []any{"pack", name, "folder", p.choice.Used[name].Folder}
		if models := p.choice.serves(name); len(models) > 0 {
			s.log.Info("model pack opened", append(attrs, "models", strings.Join(models, " "))...)
			continue
		}
		s.log.Info(
			"model pack opened for stored templates; when none are left, close it with --closed-pack",
			attrs...)
	}
	if s.cfg.Pack == "" && len(s.cfg.Models) == 0 && len(p.choice.serves(formerPack)) > 0 {
		s.log.Info("this store uses the model pack of earlier versions, so that stored templates remain comparable; "+
			"docs/operations/packs.md describes the change to the better one",
			"pack", formerPack, "better", newStorePack)
	}
}

// rememberPacks records the choice for later starts. A change of a model's pack is audited first. No other replica is
// starting, but one may have recorded its choice since the packs were opened.
func (s *Server) rememberPacks(ctx context.Context, l *layers) error {
	if s.cfg.Recogniser != nil {
		return nil
	}
	first, err := isNewStore(ctx, l.store)
	if err != nil {
		return err
	}
	known, remembered, err := readPackChoice(ctx, l.store)
	if err != nil {
		return err
	}
	now := l.packs.choice
	if before := known.String(); !first && before != now.String() {
		if remembered && l.store.Replicas() > 1 {
			return fmt.Errorf("other replicas serve with the model packs %s, and this one is to serve with %s: "+
				"templates of different packs cannot be compared; give all replicas the same --model and --pack, or "+
				"stop them all to change packs", before, now.String())
		}
		if err := l.audit.Append(ctx, audit.Event{
			Kind: audit.OperatorAction, Outcome: audit.Done, Details: map[audit.Detail]string{
				audit.DetailOperation: "model-packs", audit.DetailBefore: before, audit.DetailAfter: now.String(),
			},
		}); err != nil {
			return fmt.Errorf("audit the change of model packs: %w", err)
		}
		s.log.Info("recognition models changed packs; templates of a former pack can be compared with each other only",
			"before", before, "after", now.String())
	}
	if remembered && reflect.DeepEqual(known, now) {
		return nil
	}
	err = l.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		return packChoices.In().Put(tx, packChoiceID, now)
	})
	if err != nil {
		return fmt.Errorf("write the record of model packs: %w", err)
	}
	return nil
}

// PackLine is the beginning of each line of /readyz about the use of a model pack. After it come the pack's name, a
// colon, a space and text.
const PackLine = "model pack "

// lines describes the use of each pack in a line, for people.
func (p *packs) lines() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.choice.Used)) {
		models := strings.Join(p.choice.serves(name), ", ")
		switch {
		case p.missing[name] != nil:
			models = "cannot be opened; what it made is refused"
		case p.open[name] == nil:
			models = "left closed; what it made is refused"
		case models == "":
			models = "what it made before"
		}
		fmt.Fprintf(&b, "%s%s: %s\n", PackLine, name, models)
	}
	return b.String()
}

var packInfo = prometheus.NewDesc("visage_model_pack_info",
	"Model packs of this instance, by the recognition model that each serves; model \"none\": stored templates only. "+
		"1: open; 0: closed, and use of its templates is refused.",
	[]string{"pack", "model"}, nil)

// Describe implements prometheus.Collector.
func (p *packs) Describe(to chan<- *prometheus.Desc) { to <- packInfo }

// Collect implements prometheus.Collector.
func (p *packs) Collect(to chan<- prometheus.Metric) {
	for name := range p.choice.Used {
		open := 0.0
		if p.open[name] != nil {
			open = 1
		}
		models := p.choice.serves(name)
		if len(models) == 0 {
			models = []string{"none"}
		}
		for _, model := range models {
			to <- prometheus.MustNewConstMetric(packInfo, prometheus.GaugeValue, open, name, model)
		}
	}
}
