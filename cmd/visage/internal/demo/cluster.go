package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/server"
)

// The demonstration with two replicas: processes of this program over one database, which share the folder of keys.

// address is that of both replicas. Nobody resolves it: requests go to the listener of the replica that is meant.
const address = "https://visage.example"

// replica is one of the two.
type replica struct {
	name, dir string
	process   *exec.Cmd
	ended     chan struct{}
	client    *client
	officer   *officer
}

// RunCluster performs the demonstration with two replicas over an empty PostgreSQL database. It fails if any check
// does.
func RunCluster(ctx context.Context, cfg Config, database string) (err error) {
	dir, err := os.MkdirTemp("", "visage-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() {
		if removeErr := os.RemoveAll(dir); err == nil && removeErr != nil {
			err = fmt.Errorf("remove the temporary directory: %w", removeErr)
		}
	}()
	d := &demonstration{Config: cfg}
	a, b := &replica{name: "A", dir: filepath.Join(dir, "A")}, &replica{name: "B", dir: filepath.Join(dir, "B")}
	defer func() {
		for _, r := range []*replica{a, b} {
			if stopErr := r.stop(); err == nil {
				err = stopErr
			}
		}
	}()
	// at has the requests of the next step go to a replica: those of applications, and those of the security officer.
	at := func(r *replica) {
		if d.vip != nil {
			d.vip = &client{base: r.client.base, key: d.vip.key, http: r.client.http}
		}
		d.client, d.officer = r.client, r.officer
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"start two replicas over one PostgreSQL, with one folder of keys", func() error {
			if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
				return err
			}
			for _, r := range []*replica{a, b} {
				if err := d.startReplica(ctx, r, database); err != nil {
					return err
				}
			}
			at(a)
			return nil
		}},
		{"enrol the people on the sample photos at replica A", func() error {
			for _, do := range []func(context.Context) error{d.read, d.detect, d.meet, d.enrol, d.train} {
				if err := do(ctx); err != nil {
					return err
				}
			}
			return nil
		}},
		{"identify them at replica B, on photos that it has not seen", func() error { at(b); return d.identify(ctx) }},
		{"delete one person at A, and look at B", func() error { return d.forgetAt(ctx, a, b) }},
		{"request a customer-managed key at A, and create a vault with a key", func() error {
			at(a)
			return errors.Join(d.askForKeys(ctx), d.makeKey(ctx))
		}},
		{"encrypt a resource with that key at A, and identify at B", func() error {
			if err := d.enable(ctx); err != nil {
				return err
			}
			at(b)
			return d.recognised(ctx, "at replica B")
		}},
		{"disable the key at A: B refuses", func() error { d.officer = a.officer; return d.revoke(ctx) }},
		{"enable the key at A: B serves again", func() error { return d.giveBack(ctx) }},
		{"kill replica A, and go on at B", func() error {
			if err := a.kill(); err != nil {
				return err
			}
			at(b)
			return d.recognised(ctx, "without replica A")
		}},
		{"start replica A again", func() error {
			if err := d.startReplica(ctx, a, database); err != nil {
				return err
			}
			at(a)
			return d.recognised(ctx, "at replica A")
		}},
		{"list the replicas: visage cluster", func() error { return d.listReplicas(ctx, a, b) }},
	} {
		if err := d.step(s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if len(d.failures) > 0 {
		return fmt.Errorf("%d checks failed: %q", len(d.failures), d.failures)
	}
	return nil
}

// startReplica starts a process and waits until it serves.
func (d *demonstration) startReplica(ctx context.Context, r *replica, database string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	both := filepath.Dir(r.dir)
	r.process, r.ended = exec.CommandContext(ctx, self, "serve", "--shared", "--dir", r.dir, "--listen", "127.0.0.1:0",
		"--store", database, "--epoch-keys", "file://"+filepath.Join(both, "keys"), "--public-url", address,
		"--root-key", "file:"+filepath.Join(both, "root.key"), "--log-format", "json"), make(chan struct{})
	log, err := r.process.StderrPipe()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := r.process.Start(); err != nil {
		r.process = nil
		return fmt.Errorf("start replica %s: %w", r.name, err)
	}
	serving := make(chan struct{})
	var said strings.Builder // until it serves
	go func() {              // ends with the process, whose end closes the pipe
		defer close(r.ended)
		found := false
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var entry struct{ Msg string }
			if !found {
				said.WriteString(lines.Text() + "\n")
			}
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" && !found {
				found = true
				close(serving)
			}
		}
		_ = r.process.Wait() // its log had the reason
	}()
	select {
	case <-serving:
	case <-r.ended:
		return fmt.Errorf("replica %s ended before it served:\n%s", r.name, said.String())
	}
	operator, err := server.ReadOperator(filepath.Join(r.dir, server.OperatorFile))
	if err != nil {
		return err
	}
	h, err := d.Client(operator)
	if err != nil {
		return err
	}
	r.officer = &officer{operator: operator, http: h, tokens: map[string]string{}}
	var keys armwire.AccountKeys
	if err := r.officer.arm(ctx, http.MethodPost, "/resourceGroups/"+operator.ResourceGroup+
		"/providers/Microsoft.CognitiveServices/accounts/default/listKeys", nil, &keys); err != nil {
		return err
	}
	r.client = &client{base: operator.Endpoint, key: keys.Key1, http: h}
	d.say("   replica %s serves %s at %s after %s", r.name, address, operator.Listen, brief(time.Since(begin)))
	return nil
}

// kill ends a replica as a power cut does.
func (r *replica) kill() error {
	if err := r.process.Process.Kill(); err != nil {
		return fmt.Errorf("kill replica %s: %w", r.name, err)
	}
	<-r.ended
	r.process = nil
	return nil
}

// stop ends a replica that runs.
func (r *replica) stop() error {
	if r.process == nil {
		return nil
	}
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop replica %s: %w", r.name, err)
	}
	<-r.ended
	return nil
}

// forgetAt deletes a person at one replica, and looks for them at the other one.
func (d *demonstration) forgetAt(ctx context.Context, one, other *replica) error {
	gone := d.people[0]
	if err := one.client.deletePerson(ctx, groupID, gone.id); err != nil {
		return err
	}
	_, err := other.client.getPerson(ctx, groupID, gone.id)
	refused, ok := errors.AsType[*problem](err)
	d.must(ok && refused.status == http.StatusNotFound, "the deleted person still exists: %v", err)
	answers, err := other.client.identify(ctx, groupID, []string{gone.seen[0].face.FaceID})
	if err != nil {
		return err
	}
	found := len(answers[0].Candidates) > 0 && answers[0].Candidates[0].PersonID == gone.id
	d.must(!found, "the deleted person is still recognised")
	d.say("   %s is deleted at A. At B, at once: 404, and not recognised", gone.name)
	return nil
}

// listReplicas shows what "visage cluster" shows.
func (d *demonstration) listReplicas(ctx context.Context, a, b *replica) error {
	var all armwire.ReplicaList
	if err := d.officer.arm(ctx, http.MethodGet, "/providers/Visage.Operations/replicas", nil, &all); err != nil {
		return err
	}
	serving := map[string]bool{}
	for _, r := range all.Value {
		serving[r.Listen] = r.State == "serving"
		d.say("   %-26s %-9s since %s, last seen %s", r.Listen, r.State, r.Started.Local().Format(time.TimeOnly),
			r.Seen.Local().Format(time.TimeOnly))
	}
	for _, r := range []*replica{a, b} {
		d.must(serving[r.officer.operator.Listen], "replica %s is not among those that serve", r.name)
	}
	d.say("   one that was killed is listed for 15 seconds more")
	return nil
}
