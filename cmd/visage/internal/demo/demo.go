// Package demo implements "visage demo": it uses the service on sample photos as a client does, and then searches
// everything that was stored for the names, texts and templates in use.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
)

// Config is the input of a demonstration.
type Config struct {
	Photos   string           // folder with sample*.jpg
	Out      string           // folder for the annotated pictures; made when it does not exist
	Pipeline *vision.Pipeline // the model pack; the caller closes it
	Crowd    int              // synthetic faces to enrol before the key is rotated again
	Progress io.Writer        // gets a line for each step
	Client   func(server.Operator) (*http.Client, error)
	// Console starts the service once more at the end, on what the demonstration has stored, and prints the address of
	// its console; Run returns when its context ends.
	Console bool
}

// people are the names given to the people on the samples. Names and texts about them are invented, and long enough to
// be searched for.
var people = []string{
	"Adeline Thornquist", "Beatrix Calloway", "Cordelia Ashdown", "Delphine Marchetti", "Evangeline Rooke",
	"Florentine Abara", "Guinevere Sato",
	"Henrietta Lindqvist", "Isadora Penhaligon", "Josephine Wexcombe", "Katarzyna Oduya", "Leopoldine Ferrand",
	"Marguerite Holloway",
	"Nathalia Brightwell", "Ottoline Vasquez", "Persephone Aldridge", "Quintessa Moreau", "Rosalind Tremaine",
	"Seraphina Okonkwo",
	"Theodosia Winslow", "Ursulina Castellan", "Valentina Drummond", "Wilhelmina Farrow", "Xanthippe Delacroix",
	"Yevgenia Stormont",
}

const groupID = "demo-guests"

// person is a person on the samples.
type person struct {
	name, userData string
	id             string // in the service; empty when not enrolled
	seen           []*sighting
}

// sighting is one face on one sample.
type sighting struct {
	photo  int
	face   detected
	person *person
}

// demonstration is one run.
type demonstration struct {
	Config
	client   *client
	recorder *recorder
	photos   []photo
	people   []*person
	sighted  []*sighting
	steps    []step
	summary  [][2]string
	failures []string

	officer *officer
	vip     *client  // requests to the resource under the customer's key
	vips    []string // the people on it, by id
	keyID   string   // of the customer's key, with its first version
	onFirst int      // faces on the first photo
}

type step struct {
	name string
	took time.Duration
}

// Run performs the demonstration. It fails if any check does.
func Run(ctx context.Context, cfg Config) (err error) {
	dir, err := os.MkdirTemp("", "visage-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() {
		if removeErr := os.RemoveAll(dir); err == nil && removeErr != nil {
			err = fmt.Errorf("remove the temporary directory: %w", removeErr)
		}
	}()
	d := &demonstration{Config: cfg, recorder: &recorder{Pipeline: cfg.Pipeline}}
	begin := time.Now()
	logs := filepath.Join(dir, "visage.log")
	err = d.served(ctx, filepath.Join(dir, "visage"), logs, func() error {
		for _, s := range []struct {
			name string
			do   func(context.Context) error
		}{
			{"read the sample photos", d.read},
			{"detect the faces on them", d.detect},
			{"group them: find people on more than one photo", d.meet},
			{"enrol the people", d.enrol},
			{"train the group", d.train},
			{"identify people on photos the service has not seen", d.identify},
			{"verify and find similar", d.compare},
			{"delete one person", d.forget},
			{"request a customer-managed key", d.askForKeys},
			{"create a vault, and an RSA key in it", d.makeKey},
			{"encrypt a resource with that key, and identify", d.enable},
			{"rotate the key", d.rotate},
			{"disable the key", d.revoke},
			{"enable the key again", d.giveBack},
			{"switch back to the service's key, and delete the customer's", d.goBack},
		} {
			if err := d.step(s.name, func() error { return s.do(ctx) }); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = d.step("read the audit log", func() error { return d.told(ctx, filepath.Join(dir, "visage")) })
	if err != nil {
		return err
	}
	err = d.step("search every stored byte for names, texts and templates", func() error { return d.search(dir, logs) })
	if err != nil {
		return err
	}
	d.report(time.Since(begin))
	if len(d.failures) > 0 {
		return fmt.Errorf("%d checks failed: %q", len(d.failures), d.failures)
	}
	if d.Console {
		return d.show(ctx, filepath.Join(dir, "visage"))
	}
	return nil
}

// show serves dir, and prints the address of the console, until ctx ends.
func (d *demonstration) show(ctx context.Context, dir string) error {
	srv, err := server.New(server.Config{
		Dir: dir, Listen: "127.0.0.1:0", Recogniser: d.recorder, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(running) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("start the service: %w", err)
	case <-srv.Ready():
	}
	address, err := srv.SignInAddress(ctx, "")
	if err == nil {
		d.say("\nthe console of this service, once and within two minutes:\n   %s", address)
		d.say("another address: bin/visage console --dir %s", dir)
		d.say("browsers warn of the certificate, unless they trust %s", filepath.Join(dir, "ca.pem"))
		d.say("stop with Ctrl-C; then everything is removed")
	} else {
		stop()
	}
	return errors.Join(err, <-stopped)
}

// served runs do while a server runs on dir, and then stops the server.
func (d *demonstration) served(ctx context.Context, dir, logs string, do func() error) (err error) {
	log, err := os.Create(logs)
	if err != nil {
		return fmt.Errorf("make the log file: %w", err)
	}
	defer func() {
		if closeErr := log.Close(); err == nil {
			err = closeErr
		}
	}()
	d.say("start the service: TLS on a free port, an empty data directory, new keys")
	srv, err := server.New(server.Config{
		Dir: dir, Listen: "127.0.0.1:0", Recogniser: d.recorder, Rate: 100_000, // for the crowd
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return err
	}
	begin := time.Now()
	running, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(running) }()
	select {
	case err := <-stopped:
		stop()
		return fmt.Errorf("start the service: %w", err)
	case <-srv.Ready():
	}
	d.steps = append(d.steps, step{"start the service", time.Since(begin)})
	defer func() {
		stop()
		if stopErr := <-stopped; err == nil && stopErr != nil {
			err = fmt.Errorf("stop the service: %w", stopErr)
		}
	}()
	keys, err := srv.Keys(ctx, "default")
	if err != nil {
		return err
	}
	h, err := d.Client(srv.Operator())
	if err != nil {
		return err
	}
	d.client = &client{base: srv.Endpoint(), key: keys.Key1, http: h}
	d.officer = &officer{operator: srv.Operator(), http: h, tokens: map[string]string{}}
	d.say("   serving at %s", srv.Endpoint())
	return do()
}

// say writes a line of progress.
func (d *demonstration) say(format string, args ...any) {
	fmt.Fprintf(d.Progress, format+"\n", args...)
}

// must records a failed check; the demonstration continues, so that the output is complete.
func (d *demonstration) must(holds bool, format string, args ...any) {
	if !holds {
		what := fmt.Sprintf(format, args...)
		d.say("   FAILED: %s", what)
		d.failures = append(d.failures, what)
	}
}

func (d *demonstration) step(name string, do func() error) error {
	d.say("%s", name)
	begin := time.Now()
	err := do()
	d.steps = append(d.steps, step{name, time.Since(begin)})
	return err
}

func (d *demonstration) read(context.Context) error {
	names, err := filepath.Glob(filepath.Join(d.Photos, "sample*.jpg"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	if len(names) < 2 {
		return fmt.Errorf("%s has no sample photos", d.Photos)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		p, err := decodePhoto(filepath.Base(name), b)
		if err != nil {
			return err
		}
		d.photos = append(d.photos, p)
	}
	d.say("   %d photos", len(d.photos))
	return nil
}

func (d *demonstration) detect(ctx context.Context) error {
	for i, p := range d.photos {
		faces, err := d.client.detect(ctx, p.bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		d.say("   %s: %d faces", p.name, len(faces))
		for _, f := range faces {
			d.sighted = append(d.sighted, &sighting{photo: i, face: f})
		}
	}
	if len(d.sighted) == 0 {
		return errors.New("no face was found on the samples")
	}
	d.summary = append(d.summary, [2]string{"faces detected", fmt.Sprintf("%d on %d photos", len(d.sighted),
		len(d.photos))})
	return nil
}

// meet assigns faces to people: the service groups faces by similarity, so that a person on two photos is counted once.
func (d *demonstration) meet(ctx context.Context) error {
	byID := map[string]*sighting{}
	var ids []string
	for _, s := range d.sighted {
		byID[s.face.FaceID] = s
		ids = append(ids, s.face.FaceID)
	}
	groups, alone, err := d.client.group(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range alone {
		groups = append(groups, []string{id})
	}
	repeated := 0
	for _, g := range groups {
		if len(d.people) == len(people) {
			break // more people than names: the others stay strangers
		}
		name := people[len(d.people)]
		p := &person{name: name, userData: fmt.Sprintf("guest number %d of the evening, likes %s", 4700+len(d.people),
			drinks[len(d.people)%len(drinks)])}
		photos := map[int]bool{}
		for _, id := range g {
			s := byID[id]
			if s == nil || photos[s.photo] {
				continue // a person appears once on a photo: the second face is of someone who looks alike
			}
			photos[s.photo] = true
			s.person, p.seen = p, append(p.seen, s)
		}
		if len(p.seen) == 0 {
			continue
		}
		if len(p.seen) > 1 {
			repeated++
		}
		d.people = append(d.people, p)
	}
	d.say("   %d people; on more than one sample photo, by measured distance: %d", len(d.people), repeated)
	d.summary = append(d.summary, [2]string{"people", fmt.Sprintf("%d, of whom %d are on more than one sample",
		len(d.people), repeated)})
	return nil
}

var drinks = []string{"elderflower cordial", "smoked lapsang souchong", "blood orange soda", "salted liquorice tea"}

// enrol enrols each person with the face of the first photo that shows them. The last person stays a stranger.
func (d *demonstration) enrol(ctx context.Context) error {
	if err := d.client.createGroup(ctx, groupID, "Guests of the Thornquist evening",
		"confidential guest list, do not pass on"); err != nil {
		return err
	}
	for _, p := range d.people[:len(d.people)-1] {
		s := p.seen[0]
		id, err := d.client.createPerson(ctx, groupID, p.name, p.userData)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		err = d.client.addFace(ctx, groupID, id, s.face.FaceRectangle, faceData+p.name, d.photos[s.photo].bytes)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", p.name, d.photos[s.photo].name, err)
		}
		p.id = id
		d.say("   %s, from %s", p.name, d.photos[s.photo].name)
	}
	stranger := d.people[len(d.people)-1]
	d.say("   the last person, on %s, is not enrolled and must stay a stranger", d.photos[stranger.seen[0].photo].name)
	d.summary = append(d.summary, [2]string{"people enrolled", fmt.Sprintf("%d, one face each", len(d.people)-1)})
	return nil
}

const faceData = "portrait kept for "

func (d *demonstration) train(ctx context.Context) error { return d.client.train(ctx, groupID) }
