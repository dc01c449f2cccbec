// Package recovery implements "visage recovery": recovery kits of the root key.
package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/keysource/recovery"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

const rootKey = "/providers/Visage.Operations/rootKey"

// Command is "visage recovery".
func Command() *cobra.Command {
	return command.Noun("recovery", "Make and prove kits that open the data when all protectors are lost",
		create(), share(), verify(), restore())
}

func create() *cobra.Command {
	var want armwire.RecoveryRequest
	c := command.New("create KIT", "Make a recovery kit of the root key for people who keep RSA keys offline. "+
		"It cannot open resources under customer-managed keys.",
		"visage recovery create kit.json --recipient ann.pem --recipient ben.pem --threshold 2")
	recipients := c.Flags().StringArray("recipient", nil, "`FILE` with an RSA-4096 public key in PEM; repeat it")
	c.Flags().IntVar(&want.Threshold, "threshold", 1, "`NUMBER` of recipients that are needed to open it")
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		if len(*recipients) == 0 {
			return command.Misuse("--recipient is required")
		}
		if err := isNew(args[0]); err != nil {
			return err
		}
		for _, file := range *recipients {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			want.Recipients = append(want.Recipients, string(text))
		}
		defer o.Local(want, &want.Local)()
		var kit recovery.Kit
		if err := o.ARM(ctx, http.MethodPost, rootKey+"/recovery", want, &kit); err != nil {
			return err
		}
		if err := write(args[0], kit); err != nil {
			return err
		}
		o.Note("%s: %s; %d of %d recipients open it. Prove it now: \"visage recovery verify %s\"", args[0],
			kit.Notice, kit.Threshold, len(kit.Shares), args[0])
		return nil
	})
}

// isNew refuses a file that exists, such as a private key that was named by mistake.
func isNew(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return command.Hinted(fmt.Errorf("%s exists", file), "name a new file")
	}
	return nil
}

func write(file string, what any) error {
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(text, '\n'))
}

// Opening are the flags of commands that open a kit.
type Opening struct{ keys, shares *[]string }

// DefineOpening adds the flags to a command.
func DefineOpening(c *cobra.Command) Opening {
	return Opening{
		c.Flags().StringArray("key", nil, "`FILE` with the private key of a recipient in PEM; repeat it"),
		c.Flags().StringArray("share", nil,
			"`FILE` with an opened share, as \"visage recovery share\" writes; repeat it"),
	}
}

// Open reads a kit and opens its shares.
func (o Opening) Open(file string) (kit recovery.Kit, shares []recovery.Share, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return kit, nil, err
	}
	if kit, err = recovery.Parse(text); err != nil {
		return kit, nil, err
	}
	for _, name := range *o.keys {
		s, err := openShare(kit, name)
		if err != nil {
			return kit, nil, err
		}
		shares = append(shares, s)
	}
	for _, name := range *o.shares {
		text, err := os.ReadFile(name)
		if err != nil {
			return kit, nil, err
		}
		var s recovery.Share
		if err := json.Unmarshal(text, &s); err != nil {
			return kit, nil, fmt.Errorf("%s is no share", name)
		}
		shares = append(shares, s)
	}
	if len(shares) == 0 {
		return kit, nil, command.Misuse("name the keys of recipients with --key, or their shares with --share")
	}
	return kit, shares, nil
}

func openShare(kit recovery.Kit, file string) (recovery.Share, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return recovery.Share{}, err
	}
	defer clear(text)
	key, err := recovery.ParsePrivate(text)
	if err != nil {
		return recovery.Share{}, fmt.Errorf("%s: %w", file, err)
	}
	return kit.OpenShare(key)
}

func share() *cobra.Command {
	c := command.New("share KIT FILE", "Open the share of one recipient, on a machine of theirs, and write it to "+
		"a new file. It is secret: enough of them open the kit.",
		"visage recovery share kit.json ann.share --key ann.key")
	key := c.Flags().String("key", "", "`FILE` with the recipient's private key in PEM (required)")
	return command.Run(c, func(_ context.Context, _ command.Streams, args []string) error {
		if *key == "" {
			return command.Misuse("--key is required")
		}
		if err := isNew(args[1]); err != nil {
			return err
		}
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		kit, err := recovery.Parse(text)
		if err != nil {
			return err
		}
		s, err := openShare(kit, *key)
		if err != nil {
			return err
		}
		return write(args[1], s)
	})
}

func verify() *cobra.Command {
	c := command.New("verify KIT", "Prove that a recovery kit opens the present root key of the running server. "+
		"Nothing changes but the time of the last proof.", "visage recovery verify kit.json --key ann.key")
	from := DefineOpening(c)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		kit, shares, err := from.Open(args[0])
		if err != nil {
			return err
		}
		var now armwire.RootKey
		if err := o.ARM(ctx, http.MethodGet, rootKey, nil, &now); err != nil {
			return err
		}
		if kit.Instance == now.Instance && kit.Version != now.Version {
			return command.Hinted(fmt.Errorf("the kit is of version %d of the root key, which has version %d now",
				kit.Version, now.Version), "\"visage recovery create\" makes a kit of the present version")
		}
		instance, err := visage.ParseUUID(kit.Instance)
		if err != nil || kit.Instance != now.Instance {
			return fmt.Errorf("the kit is of the instance %s, and the server is the instance %s", kit.Instance,
				now.Instance)
		}
		root, err := kit.Open(shares)
		if err != nil {
			return err
		}
		defer clear(root)
		at := time.Now().UTC().Truncate(time.Second)
		err = o.ARM(ctx, http.MethodPost, rootKey+"/recovery/prove", armwire.RecoveryProof{
			Kit: kit.ID, Time: at, Proof: sealed.RecoveryProof(root, instance, kit.ID, at),
		}, nil)
		if err == nil {
			o.Note("the kit opens the root key, version %d", kit.Version)
		}
		return err
	})
}

func restore() *cobra.Command {
	c := command.New("restore KIT", "Open the data of a stopped server with a kit, and protect the root key anew. "+
		"It is wrapped with the protectors that --root-key names.",
		"visage recovery restore kit.json --key ann.key --root-key tpm:/dev/tpmrm0")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key", "key-stores")
	from := DefineOpening(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, args []string) error {
		kit, shares, err := from.Open(args[0])
		if err != nil {
			return err
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if set.Server.Dir, err = set.Dir(); err != nil {
			return err
		}
		if err := server.Recover(ctx, set.Server, kit, shares); err != nil {
			return err
		}
		fmt.Fprintln(s.Out,
			"the root key is wrapped anew; \"visage root list\" on the running server lists its protectors")
		return nil
	})
}
