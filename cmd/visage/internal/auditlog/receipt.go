package auditlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/internal/durable"
)

// ReceiptCommand is "visage erase-proof".
func ReceiptCommand() *cobra.Command {
	var person, face, group, out string
	c := command.New("erase-proof RESOURCE",
		"Write a signed receipt of an erasure, which can be checked without the server",
		"visage erase-proof shop --person 25985303-c537-4467-b41d-bdb45cd95ca1 --out receipt.json")
	c.Long = "Write a signed receipt of an erasure: what was erased, when, which key was destroyed with it, and the " +
		"place in the audit log. \"visage erase-proof check\" checks it without the server."
	f := c.Flags()
	f.StringVar(&person, "person", "", "`ID` of a person that was deleted")
	f.StringVar(&face, "face", "", "persisted `ID` of a face that was deleted")
	f.StringVar(&group, "group", "", "`GROUP` or list that was deleted, by kind and id, such as persongroup/guests")
	f.StringVar(&out, "out", "", "`FILE` to write the receipt to (default: standard output)")
	operator.Complete(c, operator.Resources)
	operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		detail, kind, want := audit.DetailPerson, audit.PersonDelete, person
		switch {
		case person != "" && face == "" && group == "":
		case face != "" && person == "" && group == "":
			detail, kind, want = audit.DetailFace, audit.FaceDelete, face
		case group != "" && person == "" && face == "":
			detail, kind, want = audit.DetailGroup, audit.GroupDelete, group
		default:
			return command.Misuse("give one of --person, --face and --group: what was erased")
		}
		sequence, err := erasure(ctx, o, args[0], kind, detail, want)
		if err != nil {
			return err
		}
		p, err := proof(ctx, o, args[0], sequence)
		if err != nil {
			return err
		}
		if out == "" {
			return command.WriteJSON(command.StreamsOf(c).Out, p) // a receipt has one form
		}
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		return durable.WriteFile(out, append(b, '\n'))
	})
	c.AddCommand(checkReceipt())
	return c
}

// erasure finds the entry of an erasure among the newest thousand of its kind.
func erasure(
	ctx context.Context, o *operator.Client, resource string, kind audit.Kind, detail audit.Detail, want string,
) (uint64, error) {
	all, err := events(ctx, o, resource, "?top=1000&kind="+url.QueryEscape(string(kind)))
	if err != nil {
		return 0, err
	}
	for _, e := range all {
		if strings.EqualFold(e.Details[detail], want) {
			return e.Sequence, nil
		}
	}
	return 0, command.Hinted(fmt.Errorf("the audit log has no erasure of %s %s", detail, want),
		"\"visage audit resource %s\" lists what happened to the resource", resource)
}

// proof gets the proof of an entry. It can take a second, until a checkpoint covers the entry.
func proof(
	ctx context.Context, o *operator.Client, resource string, sequence uint64,
) (p audit.Proof, err error) {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(10 * time.Second); ; {
		var raw json.RawMessage
		err = o.Manage(ctx, http.MethodGet,
			fmt.Sprintf("%s/auditEvents/%d/proof", operator.Path(resource), sequence), nil, &raw)
		if r, ok := errors.AsType[*operator.Refused](err); !ok || r.Status != http.StatusServiceUnavailable ||
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

// erasures are the kinds of entries whose proof is a receipt of an erasure.
var erasures = []audit.Kind{audit.PersonDelete, audit.FaceDelete, audit.GroupDelete}

func checkReceipt() *cobra.Command {
	c := command.New("check FILE",
		"Check a receipt without the server: its signature, and that its entry is in the signed log",
		"visage erase-proof check receipt.json --verifier visage/audit/…")
	verifier := c.Flags().String("verifier", "",
		"public `KEY` of the instance, which \"visage audit verify\" shows (default: the key in the receipt)")
	return command.Run(c, func(_ context.Context, s command.Streams, args []string) error {
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
			return &command.Failure{Err: fmt.Errorf("the receipt is not valid: %w", err), Code: command.ExitDamaged,
				Hint: "request another one with \"visage erase-proof\""}
		}
		d := p.Entry.Details
		fmt.Fprintf(s.Out, "%s at %s: entry %d of the log, signed by %s\n", p.Entry.Kind,
			p.Entry.Time.UTC().Format(time.RFC3339), p.Entry.Sequence, p.Verifier)
		switch {
		case !slices.Contains(erasures, p.Entry.Kind): // the console proves other entries too
			return nil
		case d[audit.DetailEpoch] == "":
			fmt.Fprintln(s.Out, "deleted; this entry does not say that a key was destroyed")
			return nil
		}
		fmt.Fprintf(s.Out, "the key of generation %s, epoch %s was destroyed: grade %s\n",
			d[audit.DetailGeneration], d[audit.DetailEpoch], d[audit.DetailGrade])
		return nil
	})
}
