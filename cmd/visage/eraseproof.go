package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/internal/durable"
)

func eraseProofCommand() command {
	var person, face, group, out string
	return resourceCommand(command{
		name: "erase-proof", args: "RESOURCE",
		summary: "Write a signed receipt of an erasure: what was erased, when, which key ended with it, and its " +
			"place in the audit log. It is checked without the server.",
		example: "visage erase-proof shop --person 25985303-c537-4467-b41d-bdb45cd95ca1 --out receipt.json",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&person, "person", "", "id of a person that was deleted")
		fs.StringVar(&face, "face", "", "persisted id of a face that was deleted")
		fs.StringVar(&group, "group", "", "group or list that was deleted: its kind and id, such as persongroup/guests")
		fs.StringVar(&out, "out", "", "file to write the receipt to (default: standard output)")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		detail, kind, want := audit.DetailPerson, audit.PersonDelete, person
		switch {
		case person != "" && face == "" && group == "":
		case face != "" && person == "" && group == "":
			detail, kind, want = audit.DetailFace, audit.FaceDelete, face
		case group != "" && person == "" && face == "":
			detail, kind, want = audit.DetailGroup, audit.GroupDelete, group
		default:
			return nil, &failure{err: errors.New("one of --person, --face and --group says what was erased"),
				code: exitUsage, hint: "\"visage help erase-proof\" shows how it is called"}
		}
		sequence, err := c.erasure(ctx, args[0], kind, detail, want)
		if err != nil {
			return nil, err
		}
		p, err := c.proof(ctx, args[0], sequence)
		if err != nil {
			return nil, err
		}
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil || out == "" {
			return p, err
		}
		return nil, durable.WriteFile(out, append(b, '\n'))
	}, func(w io.Writer, answer any) {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(answer) // a receipt has one form; an error is the terminal's
	})
}

// auditEntry is what these commands look at in an entry of the audit log.
type auditEntry struct {
	Sequence uint64                  `json:"sequence"`
	Time     string                  `json:"time"`
	Kind     audit.Kind              `json:"kind"`
	Outcome  audit.Outcome           `json:"outcome"`
	Actor    audit.Actor             `json:"actor"`
	KeyID    string                  `json:"keyId"`
	Details  map[audit.Detail]string `json:"details"`
}

func (c *client) auditEvents(ctx context.Context, resource, query string) ([]auditEntry, error) {
	var all struct {
		Value []auditEntry `json:"value"`
	}
	err := c.manage(ctx, http.MethodGet, pathTo(resource)+"/auditEvents"+query, nil, &all)
	return all.Value, err
}

// erasure finds the entry of an erasure. It looks at the newest thousand of its kind.
func (c *client) erasure(
	ctx context.Context, resource string, kind audit.Kind, detail audit.Detail, want string,
) (uint64, error) {
	all, err := c.auditEvents(ctx, resource, "?top=1000&kind="+url.QueryEscape(string(kind)))
	if err != nil {
		return 0, err
	}
	for _, e := range all {
		if strings.EqualFold(e.Details[detail], want) {
			return e.Sequence, nil
		}
	}
	return 0, hinted(fmt.Errorf("the audit log has no erasure of %s %s", detail, want),
		"\"visage audit resource %s\" lists what happened", resource)
}

// proof gets the proof of an entry, which can take a second: until a checkpoint covers it.
func (c *client) proof(ctx context.Context, resource string, sequence uint64) (p audit.Proof, err error) {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(10 * time.Second); ; {
		var raw json.RawMessage
		err = c.manage(ctx, http.MethodGet, fmt.Sprintf("%s/auditEvents/%d/proof", pathTo(resource), sequence), nil,
			&raw)
		if r, ok := errors.AsType[*refused](err); !ok || r.status != http.StatusServiceUnavailable ||
			time.Now().After(end) {
			if err != nil {
				return p, err
			}
			return p, json.Unmarshal(raw, &p)
		}
		select {
		case <-ctx.Done():
			return p, context.Cause(ctx)
		case <-again.C:
		}
	}
}

func eraseProofCheckCommand() command {
	c := command{
		name: "erase-proof check", args: "FILE",
		summary: "Check a receipt: the signature, and that the entry is in the log that was signed. No server is " +
			"needed.",
		example: "visage erase-proof check receipt.json --verifier visage/audit/…",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		verifier := fs.String("verifier", "",
			"public key of the right instance, as \"visage audit verify\" tells it (default: the one in the receipt)")
		return func(_ context.Context, s streams, args []string) error {
			if len(args) != 1 {
				return usage(&c, "takes the file of a receipt, and was given %d arguments", len(args))
			}
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var p audit.Proof
			err = json.Unmarshal(b, &p)
			if err == nil && *verifier != "" && *verifier != p.Verifier {
				err = errors.New("it is signed by another instance")
			}
			if err == nil {
				err = p.Check()
			}
			if err != nil {
				return &failure{err: fmt.Errorf("the receipt does not hold: %w", err), code: exitDamaged,
					hint: "ask for another with \"visage erase-proof\""}
			}
			d := p.Entry.Details
			fmt.Fprintf(s.out, "%s at %s: entry %d of the log, signed by %s\n", p.Entry.Kind,
				p.Entry.Time.UTC().Format(time.RFC3339), p.Entry.Sequence, p.Verifier)
			if d[audit.DetailEpoch] == "" {
				fmt.Fprintln(s.out, "deleted; that its key was destroyed is not in this entry")
				return nil
			}
			fmt.Fprintf(s.out, "the key of generation %s, epoch %s was destroyed: grade %s\n",
				d[audit.DetailGeneration], d[audit.DetailEpoch], d[audit.DetailGrade])
			return nil
		}
	}
	return c
}

func auditResourceCommand() command {
	kind, top := "", 0
	return resourceCommand(command{
		name: "audit resource", args: "NAME",
		summary: "List what happened to a resource of the running server, newest first, also while its key is revoked.",
		example: "visage audit resource vip",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&kind, "kind", "", "only entries of this kind")
		fs.IntVar(&top, "limit", 100, "at most so many, 1 to 1000 (default: 100)")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		return c.auditEvents(ctx, args[0], fmt.Sprintf("?top=%d&kind=%s", top, url.QueryEscape(kind)))
	}, func(w io.Writer, answer any) {
		fmt.Fprintln(w, "ENTRY\tTIME\tKIND\tOUTCOME\tACTOR\tKEY\tDETAILS")
		for _, e := range answer.([]auditEntry) {
			when, _, _ := strings.Cut(e.Time, ".")
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Sequence, when, e.Kind, e.Outcome,
				strings.TrimSuffix(string(e.Actor.Kind)+":"+e.Actor.ID, ":"), orDash(e.KeyID),
				orDash(detailText(audit.Entry{Event: audit.Event{Details: e.Details}})))
		}
	})
}
