package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
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
	Name    string // of the human, where several act as one principal
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

	session identity.Session // that it was started in, or that replaced that one; guarded by the lock of jobs
	cancel  context.CancelCauseFunc
	right   right
}

// right reports whether a principal may do what a job does, as long as it does it.
type right func(visage.Principal) bool

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
	jobWatch    = time.Second // how often a job's session and right are looked at
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
// person cancels it, when the session is ended before its time or the person signs out everywhere or has no longer the
// right, and when the server stops; it carries the caller, for the audit log.
func (v *visit) start(
	title string, back link, may right, work func(context.Context, progress) error,
) (*view, error) {
	begun := &job{
		By: v.Principal.ObjectID, Name: v.session.Name, Title: title, Back: back, right: may, session: v.session,
	}
	j, err := v.c.jobs.start(begun, v.Caller(), v.lang, v.stays(begun), work)
	if err != nil {
		return nil, err
	}
	return v.redirect(prefix + "/jobs/" + j.ID), nil
}

// stays returns what reports whether a job of the visitor may go on: the person has the right to it, and the session
// was not ended before its time. That it ends because nobody uses it ends no job.
func (v *visit) stays(of *job) func() bool {
	who, d, j := v.Principal, v.c.cfg.Directory, v.c.jobs
	over := false
	return func() bool {
		j.mu.Lock()
		defer j.mu.Unlock() // so that a session is not replaced between the two
		open := d.Sessions(who.ObjectID)
		i := slices.IndexFunc(open, func(s identity.Session) bool { return s.ID == of.session.ID })
		if i >= 0 {
			of.session = open[i]
		}
		over = over || i < 0 && !time.Now().Before(of.session.Expires)
		return of.right(who) && (i >= 0 || over)
	}
}

// handOver lets the jobs of a session go on in the one of the same person that replaces it.
func (j *jobs) handOver(old, replacing identity.Session) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.session.ID == old.ID {
			one.session = replacing
		}
	}
}

// signedOut ends the jobs of a person who is signed out everywhere, also those whose session has ended because nobody
// used it; an empty name stands for all who act as the principal.
func (j *jobs) signedOut(principal, name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.By == principal && (name == "" || one.Name == name) && one.Ended.IsZero() {
			one.cancel(refuseEnded())
		}
	}
}

func (j *jobs) start(
	started *job, by visage.Caller, lang *language, stays func() bool, work func(context.Context, progress) error,
) (*job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx == nil || j.ctx.Err() != nil {
		return nil, visage.Refuse(visage.Unavailable, "ServiceStopping",
			"The service is starting or stopping: try again.")
	}
	mine := 0
	for _, other := range j.all {
		if other.By == started.By && other.Ended.IsZero() {
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
	limited, end := context.WithTimeout(visage.WithCaller(j.ctx, by), jobTime)
	ctx, cancel := context.WithCancelCause(limited)
	started.ID, started.Started, started.cancel = visage.NewUUID().String(), time.Now(), cancel
	j.all = append(j.all, started)
	j.running.Go(func() { watchJob(ctx, cancel, stays) })
	j.running.Go(func() {
		defer end()
		defer cancel(nil)
		err := j.work(ctx, started, work)
		if refusal, taken := errors.AsType[*visage.Refusal](context.Cause(ctx)); taken && err != nil {
			err = refusal
		}
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

// watchJob ends a job when it may not go on.
func watchJob(ctx context.Context, cancel context.CancelCauseFunc, stays func() bool) {
	look := time.NewTicker(jobWatch)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if !stays() {
			cancel(refuseEnded())
			return
		}
	}
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

// find returns a copy of a job of the visitor, if they still have the right to it.
func (v *visit) find(id string) (job, bool) {
	j := v.c.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.ID == id && one.By == v.Principal.ObjectID && one.Name == v.session.Name && one.right(v.Principal) {
			copied := *one
			copied.Lines, copied.Files = slices.Clone(one.Lines), slices.Clone(one.Files)
			return copied, true
		}
	}
	return job{}, false
}

// job shows a job.
func (c *Console) job(v *visit) (*view, error) {
	j, found := v.find(v.Path("job"))
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
	j, _ := v.find(v.Path("job"))
	for _, f := range j.Files {
		if f.Name == v.Path("file") {
			return &view{download: &download{name: f.Name, contentType: "application/octet-stream", data: f.data}}, nil
		}
	}
	return nil, refuseUnknownPage()
}

// cancelJob ends a job.
func (c *Console) cancelJob(v *visit) (*view, error) {
	j, found := v.find(v.Path("job"))
	if !found {
		return nil, refuseUnknownPage()
	}
	j.cancel(nil)
	return v.redirect(prefix + "/jobs/" + j.ID), nil
}

func refuseEnded() error {
	return visage.Refuse(visage.Denied, "TaskEnded", "This task was ended with its session, or with the "+
		"right to it, and what it had done by then stays: sign in, and start it again.")
}

func refuseTooManyJobs() error {
	return visage.Refuse(visage.TooMany, "TooManyJobs",
		"You have started as many tasks as can run at once: wait until one has ended.")
}

func refuseUnknownPage() error {
	return visage.Refuse(visage.NotFound, "PageNotFound", "There is no such page.")
}
