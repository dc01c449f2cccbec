package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	identities "github.com/visage-face/visage/identity"
)

// publication is what "visage identity publish" shows.
type publication struct {
	Issuer  string   `json:"issuer"`
	Keys    []string `json:"keys"` // ids: those in use, and the next one if it is made
	Files   []string `json:"files"`
	Missing []string `json:"missing"` // with --check: ids of the keys that are not published
}

func publish() *cobra.Command {
	issuer, check, authorities := "", "", ""
	c := command.New("publish [DIR]",
		"Write the documents by which key stores verify the tokens of resources. Publish the files in DIR below the "+
			"address of the issuer, for key stores that do not reach this server. With --check, fetch what is "+
			"published instead, and fail if a key is missing.",
		"visage identity publish /srv/issuer --issuer https://issuer.example.org/visage")
	c.Flags().StringVar(&issuer, "issuer", "", "`URL` below which the files are published, as --federation-issuer of "+
		"the server has it (default: that of the running server)")
	c.Flags().StringVar(&check, "check", "", "compare the documents of the issuer at this `URL` with the running "+
		"server's keys")
	c.Flags().StringVar(&authorities, "ca-file", "", "with --check: PEM `FILE` of certificate authorities to trust "+
		"beside the system's")
	return operator.Judge(c, func(ctx context.Context, o *operator.Client, args []string) (publication, error) {
		switch {
		case (len(args) == 1) == (check != ""):
			return publication{}, command.Misuse("give either a folder to write to or --check")
		case check != "" && issuer != "":
			return publication{}, command.Misuse("--issuer does not go with --check, which names the issuer")
		case check == "" && authorities != "":
			return publication{}, command.Misuse("--ca-file goes with --check only")
		}
		p := publication{Issuer: cmp.Or(check, issuer, o.Operator.FederationIssuer), Files: []string{}}
		if p.Issuer == "" {
			return p, command.Misuse("the server has no setting federation-issuer: name the issuer with --issuer")
		}
		if err := identities.CheckPublicIssuer(p.Issuer); err != nil {
			return p, command.Misuse("%v", err)
		}
		if p.Issuer != o.Operator.FederationIssuer {
			o.Note("the tokens of the running server do not state this issuer yet: start it with --federation-issuer "+
				"%s when the documents are published", p.Issuer)
		}
		keys, err := signingKeys(ctx, o)
		if err != nil {
			return p, err
		}
		for _, k := range keys {
			p.Keys = append(p.Keys, k.ID)
		}
		if check == "" {
			p.Files, err = write(args[0], p.Issuer, keys)
			return p, err
		}
		set, err := fetchKeys(ctx, check, authorities)
		if err != nil {
			return p, err
		}
		p.Missing, err = identities.Unpublished(set, keys)
		return p, err
	}, publicationTable, func(p publication) error {
		if len(p.Missing) == 0 {
			return nil
		}
		return command.Hinted(
			fmt.Errorf("keys of this server are not published at %s: %s", p.Issuer, strings.Join(p.Missing, ", ")),
			"write the files with \"visage identity publish DIR\" and publish them before the next key signs")
	})
}

func publicationTable(t *command.Table, p publication) {
	t.Row("KEY", "PUBLISHED")
	missing := map[string]bool{}
	for _, id := range p.Missing {
		missing[id] = true
	}
	for _, id := range p.Keys {
		switch {
		case len(p.Files) > 0:
			t.Row(id, "-")
		case missing[id]:
			t.Row(id, "no")
		default:
			t.Row(id, "yes")
		}
	}
	for _, file := range p.Files {
		t.Line("written: %s", file)
	}
}

// signingKeys returns the keys that the running server publishes.
func signingKeys(ctx context.Context, o *operator.Client) ([]identities.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		o.Operator.Endpoint+"/"+o.Operator.TenantID+"/discovery/v2.0/keys", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	res, b, err := o.Send(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, operator.Problem(res, b)
	}
	var set struct {
		Keys []identities.PublicKey `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("read the server's keys: %w", err)
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("the server publishes no keys")
	}
	return set.Keys, nil
}

// write writes the documents of an issuer and returns their paths. A web server reads them as another user: they hold
// nothing secret, and everyone may read them. The keys are written first, as the description names them, and each file
// takes its place at once, so that nobody fetches half of one.
func write(dir, issuer string, keys []identities.PublicKey) ([]string, error) {
	documents, err := identities.Publication(issuer, keys)
	if err != nil {
		return nil, err
	}
	files := []string{}
	for _, d := range documents {
		path := filepath.Join(dir, filepath.FromSlash(d.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of %s: %w", d.Path, err)
		}
		if err := replace(path, d.Content); err != nil {
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
		files = append(files, path)
	}
	return files, nil
}

// replace writes a file that everyone may read, by renaming.
func replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".publish-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
