package console

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// jobs is the long work that people start on pages: it goes on when the page is closed, and the page of the job shows
// how far it is. Jobs live in memory: a restart ends them, and what they have done until then stays.
type jobs struct {
	log *slog.Logger

	mu      sync.Mutex
	ctx     context.Context // ends when the console stops; nil before Run
	running sync.WaitGroup
	all     []*job // the latest last
}

// job is one piece of long work. Its exported fields are for templates, on a copy.
type job struct {
	ID      string
	By      string // the object id of the person who started it
	Title   string // in the language of that person
	Back    link   // the page that it was started on
	Started time.Time
	Ended   time.Time // zero: it goes on
	Step    string    // what it does now
	Done    int64     // how much is done, in units of its own
	Total   int64     // of how much; 0: unknown
	Lines   []jobLine // what is finished, the latest last
	Failed  *explanation
	Result  *link // a page with the result
	Files   []jobFile

	cancel context.CancelFunc
}

// jobLine is the result of one part of a job.
type jobLine struct {
	Good bool
	Text string
}

// jobFile is a file that a job has made, kept as long as the job is remembered.
type jobFile struct {
	Name string // plain ASCII
	data []byte
}

// Limits of jobs.
const (
	maxJobs     = 200 // remembered; the oldest that has ended is forgotten first
	maxRunning  = 4   // of one person
	maxJobLines = 500
	jobTime     = time.Hour
)

func newJobs(log *slog.Logger) *jobs { return &jobs{log: log} }

func (j *jobs) run(ctx context.Context) error {
	j.mu.Lock()
	j.ctx = ctx
	j.mu.Unlock()
	<-ctx.Done()
	j.running.Wait()
	return nil
}

// progress is what the work of a job tells about itself.
type progress struct {
	jobs *jobs
	job  *job
}

func (p progress) change(fn func(*job)) {
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	fn(p.job)
}

// step names what the job does now.
func (p progress) step(text string) { p.change(func(j *job) { j.Step = text }) }

// count says how much is done, and of how much.
func (p progress) count(done, total int64) { p.change(func(j *job) { j.Done, j.Total = done, total }) }

// line adds the result of one part.
func (p progress) line(good bool, text string) {
	p.change(func(j *job) {
		if len(j.Lines) < maxJobLines {
			j.Lines = append(j.Lines, jobLine{good, text})
		}
	})
}

// result says where the result is.
func (p progress) result(to link) { p.change(func(j *job) { j.Result = &to }) }

// attach adds a file to the result.
func (p progress) attach(name string, data []byte) {
	p.change(func(j *job) { j.Files = append(j.Files, jobFile{name, data}) })
}

// start runs work as a job of the visitor, and leads to its page. The context of work ends after an hour, when the
// person cancels it, and when the server stops; it carries the caller, for the audit log.
func (v *visit) start(title string, back link, work func(context.Context, progress) error) (*view, error) {
	j, err := v.c.jobs.start(v, title, back, work)
	if err != nil {
		return nil, err
	}
	return v.redirect(prefix + "/jobs/" + j.ID), nil
}

func (j *jobs) start(
	v *visit, title string, back link, work func(context.Context, progress) error,
) (*job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx == nil || j.ctx.Err() != nil {
		return nil, visage.Refuse(visage.Unavailable, "ServiceStopping",
			"The service is starting or stopping: try again.")
	}
	mine := 0
	for _, other := range j.all {
		if other.By == v.Principal.ObjectID && other.Ended.IsZero() {
			mine++
		}
	}
	if mine >= maxRunning {
		return nil, refuseTooManyJobs()
	}
	for len(j.all) >= maxJobs {
		i := slices.IndexFunc(j.all, func(other *job) bool { return !other.Ended.IsZero() })
		if i < 0 {
			return nil, visage.Refuse(visage.TooMany, "TooManyJobs", "Too many tasks are running: try again later.")
		}
		j.all = slices.Delete(j.all, i, i+1)
	}
	ctx, cancel := context.WithTimeout(visage.WithCaller(j.ctx, v.Caller()), jobTime)
	started := &job{ID: visage.NewUUID().String(), By: v.Principal.ObjectID, Title: title, Back: back,
		Started: time.Now(), cancel: cancel}
	j.all = append(j.all, started)
	lang := v.lang
	j.running.Go(func() {
		defer cancel()
		err := j.work(ctx, started, work)
		j.mu.Lock()
		defer j.mu.Unlock()
		started.Ended, started.Step = time.Now(), ""
		if err != nil {
			started.Failed = lang.failure(ctx, err)
			if started.Failed == nil {
				started.Failed = &explanation{Sentence: lang.text("job.broken", started.ID), Status: 500}
				j.log.Error("task of the console failed", "job", started.ID, "err", err)
			}
		}
	})
	return started, nil
}

// work runs the work of a job; a panic becomes an error.
func (j *jobs) work(ctx context.Context, of *job, work func(context.Context, progress) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return work(ctx, progress{j, of})
}

// find returns a copy of a person's job.
func (j *jobs) find(id, by string) (job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.ID == id && one.By == by {
			copied := *one
			copied.Lines, copied.Files = slices.Clone(one.Lines), slices.Clone(one.Files)
			return copied, true
		}
	}
	return job{}, false
}

// job shows a job.
func (c *Console) job(v *visit) (*view, error) {
	j, found := c.jobs.find(v.Path("job"), v.Principal.ObjectID)
	if !found {
		return nil, refuseUnknownPage()
	}
	data := struct {
		job
		Cancel *form
	}{job: j}
	w := v.page("job", j.Title, &data)
	w.crumbs = []link{j.Back}
	if j.Ended.IsZero() {
		data.Cancel = v.button(prefix+"/jobs/"+j.ID+"/cancel", v.text("job.cancel"), "plain")
		w.refresh = time.Second
	}
	return w, nil
}

// jobFile downloads a file of a job.
func (c *Console) jobFile(v *visit) (*view, error) {
	j, _ := c.jobs.find(v.Path("job"), v.Principal.ObjectID)
	for _, f := range j.Files {
		if f.Name == v.Path("file") {
			return &view{download: &download{name: f.Name, contentType: "application/octet-stream", data: f.data}}, nil
		}
	}
	return nil, refuseUnknownPage()
}

// cancelJob ends a job.
func (c *Console) cancelJob(v *visit) (*view, error) {
	j, found := c.jobs.find(v.Path("job"), v.Principal.ObjectID)
	if !found {
		return nil, refuseUnknownPage()
	}
	j.cancel()
	return v.redirect(prefix + "/jobs/" + j.ID), nil
}

func refuseTooManyJobs() error {
	return visage.Refuse(visage.TooMany, "TooManyJobs",
		"You have started as many tasks as can run at once: wait until one has ended.")
}

func refuseUnknownPage() error {
	return visage.Refuse(visage.NotFound, "PageNotFound", "There is no such page.")
}
