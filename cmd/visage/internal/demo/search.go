package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/visage-face/visage/cmd/visage/internal/leak"
)

// search looks for all names, texts and templates in every file that the service wrote, including its logs. To prove
// that the search works, all of them are first planted beside the data, and must be found.
func (d *demonstration) search(dir, logs string) error {
	var secrets []leak.Secret
	texts := map[string]string{
		"another group's name":  "The inner circle of the Thornquist evening",
		"the group's name":      "Guests of the Thornquist evening",
		"the group's user data": "confidential guest list, do not pass on",
		"a face's user data":    faceData,
	}
	for _, p := range d.people {
		texts["the name "+p.name] = p.name
		texts["user data of "+p.name] = p.userData
	}
	for what, text := range texts {
		s, err := leak.Text(what, text)
		if err != nil {
			return err
		}
		secrets = append(secrets, s)
	}
	for i, t := range d.recorder.templates {
		s, err := leak.Template(fmt.Sprintf("template %d", i+1), t)
		if err != nil {
			return err
		}
		secrets = append(secrets, s)
	}
	data := filepath.Join(dir, "visage")
	planted := filepath.Join(data, "data", "planted")
	n, err := leak.Plant(planted, secrets)
	if err != nil {
		return err
	}
	proof, err := leak.Search(secrets, data, logs)
	if err != nil {
		return err
	}
	if err := os.Remove(planted); err != nil {
		return fmt.Errorf("remove the planted file: %w", err)
	}
	met := map[string]bool{}
	for _, f := range proof.Finds {
		if f.File == planted {
			met[f.What] = true
		}
	}
	d.say("   planted %d forms of %d secrets in the data directory: %d secrets found", n, len(secrets), len(met))
	d.must(len(met) == len(secrets), "the search finds %d of %d planted secrets", len(met), len(secrets))
	r, err := leak.Search(secrets, data, logs)
	if err != nil {
		return err
	}
	d.say("   without the planted file: %d files, %d bytes searched, %d secrets found", r.Files, r.Bytes, len(r.Finds))
	for _, f := range r.Finds {
		d.must(false, "%s found in %s at byte %d as %s", f.What, f.File, f.Offset, f.Form)
	}
	d.must(r.Files > 3 && r.Bytes > 10_000, "only %d files were searched: the service stored nothing", r.Files)
	d.summary = append(d.summary, [2]string{"readable in storage or logs",
		fmt.Sprintf("%d of %d names, user data and templates, in %d files of %d bytes", len(r.Finds), len(secrets),
			r.Files, r.Bytes)})
	return nil
}

// report ends with a table of results and durations.
func (d *demonstration) report(total time.Duration) {
	d.say("")
	w := tabwriter.NewWriter(d.Progress, 0, 0, 2, ' ', 0)
	for _, row := range d.summary {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	fmt.Fprintf(w, "requests\t%d over HTTPS, of which %.1f s were spent waiting for the tier's rate\n",
		d.client.calls+d.vip.calls+d.officer.calls,
		(d.client.waited + d.vip.waited).Seconds())
	fmt.Fprintln(w)
	for _, s := range d.steps {
		fmt.Fprintf(w, "%s\t%.2f s\n", s.name, s.took.Seconds())
	}
	fmt.Fprintf(w, "total\t%.2f s\n", total.Seconds())
	w.Flush()
}
