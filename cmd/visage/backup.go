package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/server"
)

// backupCommandOf is a command about an archive: define adds flags and returns what runs it on the archive in its first argument.
func backupCommandOf(c command, nArgs int, define func(fs *flag.FlagSet) func(context.Context, streams, *archive.Archive, []string) error) command {
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		start := define(fs)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) < 1 || len(args) > nArgs {
				return usage(&c, "takes %s, and was given %d arguments", c.args, len(args))
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			a, err := archive.Open(dir)
			if errors.Is(err, archive.ErrNotArchive) {
				return hinted(err, "name a folder that is empty or not there, and it becomes an archive")
			}
			if err != nil {
				return err
			}
			err = start(ctx, s, a, args[1:])
			if errors.Is(err, archive.ErrBusy) {
				return hinted(err, "try again when the other command has ended")
			}
			if errors.Is(err, archive.ErrNoBackup) {
				return hinted(err, "\"visage backup list %s\" shows the backups there are", args[0])
			}
			return err
		}
	}
	return c
}

func backupCreateCommand() command {
	return backupCommandOf(command{
		name: "backup create", args: "ARCHIVE", summary: "Add a backup of the data to an archive, while the server runs or not. What is there already is not written again.",
		example: "visage backup create /mnt/backup/visage",
	}, 1, func(fs *flag.FlagSet) func(context.Context, streams, *archive.Archive, []string) error {
		source := defineSource(fs)
		return func(ctx context.Context, s streams, a *archive.Archive, _ []string) error {
			standBack()
			var added archive.Added
			err := source(ctx, "backup", (*sealed.Store).WriteBackup, func(r io.Reader) (err error) {
				added, err = a.Add(ctx, r)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s: %d rows, %d bytes; %d of %d chunks are new, %d bytes\n",
				added.Name, added.Rows, added.Bytes, added.NewChunks, len(added.Chunks), added.NewBytes)
			fmt.Fprintln(s.out, "it holds no key: \"visage keyring export\" writes the keys, which belong somewhere else")
			return nil
		}
	})
}

func backupListCommand() command {
	return backupCommandOf(command{
		name: "backup list", args: "ARCHIVE", summary: "List the backups in an archive, oldest first.", example: "visage backup list /mnt/backup/visage",
	}, 1, func(*flag.FlagSet) func(context.Context, streams, *archive.Archive, []string) error {
		return func(_ context.Context, s streams, a *archive.Archive, _ []string) error {
			all, err := a.List()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tTAKEN\tROWS\tBYTES\tINSTANCE")
			for _, b := range all {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", b.Name, b.Taken.Format("2006-01-02 15:04:05Z"), b.Rows, b.Bytes, b.Instance)
			}
			return w.Flush()
		}
	})
}

func backupVerifyCommand() command {
	return backupCommandOf(command{
		name: "backup verify", args: "ARCHIVE [NAME]", summary: "Read every byte of a backup, or of all, and hold it against what it must be. No key is needed.",
		example: "visage backup verify /mnt/backup/visage",
	}, 2, func(*flag.FlagSet) func(context.Context, streams, *archive.Archive, []string) error {
		return func(ctx context.Context, s streams, a *archive.Archive, args []string) error {
			all, err := a.List()
			if len(args) == 1 {
				var one archive.Backup
				one, err = a.Backup(args[0])
				all = []archive.Backup{one}
			}
			if err != nil {
				return err
			}
			for _, b := range all {
				err := a.Verify(ctx, b)
				if errors.Is(err, archive.ErrDamaged) {
					return &failure{err: err, code: exitDamaged, hint: "take a new backup: it writes again what is damaged"}
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(s.out, "%s: %d rows, as they were written\n", b.Name, b.Rows)
			}
			return nil
		}
	})
}

func backupPruneCommand() command {
	return backupCommandOf(command{
		name: "backup prune", args: "ARCHIVE", summary: "Remove all but the newest backups from an archive.", example: "visage backup prune /mnt/backup/visage --keep 7",
	}, 1, func(fs *flag.FlagSet) func(context.Context, streams, *archive.Archive, []string) error {
		keep := fs.Int("keep", 0, "how many backups to keep, at least 1 (required)")
		return func(_ context.Context, s streams, a *archive.Archive, _ []string) error {
			if *keep < 1 {
				return &failure{err: errors.New("--keep must say how many backups are kept, at least 1"), code: exitUsage, hint: "visage backup prune ARCHIVE --keep 7"}
			}
			backups, bytes, err := a.Prune(*keep)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "removed %d backups; %d bytes are free\n", backups, bytes)
			return nil
		}
	})
}

// writer writes a stream of a store.
type writer = func(*sealed.Store, context.Context, io.Writer) (sealed.Saved, error)

// defineSource adds the flags that say which server is meant, and returns what hands a stream to read: the running server's, or, when none runs, that of
// its data.
func defineSource(fs *flag.FlagSet) func(ctx context.Context, operation string, write writer, read func(io.Reader) error) error {
	given := defineSettings(fs, "dir", "root-key")
	return func(ctx context.Context, operation string, write writer, read func(io.Reader) error) error {
		set, err := given.load()
		if err != nil {
			return err
		}
		dir := set.server.Dir
		if dir == "" {
			if dir, err = server.DefaultDir(); err != nil {
				return err
			}
		}
		cl, err := dial(dir)
		if err == nil {
			if err = cl.stream(ctx, operation, read); !unreachable(err) {
				return err
			}
		}
		store, openErr := server.OpenStore(ctx, set.server)
		if openErr != nil {
			return errors.Join(err, openErr)
		}
		return errors.Join(piped(func(w io.Writer) error {
			_, err := write(store, ctx, w)
			return err
		}, read), store.Close())
	}
}

func unreachable(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.code == exitUnreachable
}

// piped has one side write what the other reads. The writer's error counts: the reader's then is only that the stream ended too early.
func piped(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		wrote <- err
	}()
	err := read(r)
	r.CloseWithError(err)
	if writeErr := <-wrote; writeErr != nil && !errors.Is(writeErr, err) {
		return writeErr
	}
	return err
}

// stream asks the running server for a stream, and hands it to read.
func (c *client) stream(ctx context.Context, operation string, read func(io.Reader) error) error {
	address := fmt.Sprintf("%s/subscriptions/%s/providers/Visage.Operations/%s?api-version=2025-09-01", c.operator.Endpoint, c.operator.SubscriptionID, operation)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	patient := http.Client{Transport: inOneStream(c.http.Transport)} // it takes as long as it takes
	res, err := patient.Do(req)
	if err != nil {
		return fmt.Errorf("reach the server: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		return errors.Join(problem(res, b), err)
	}
	return read(res.Body)
}

// inOneStream returns a transport like t that speaks HTTP/1.1: the frames and windows of HTTP/2 serve many small answers, and cost a large one a tenth of
// its time. It reads ahead, since TLS asks the system for one record of 16 KiB at a time.
func inOneStream(t http.RoundTripper) http.RoundTripper {
	alone := func(t *http.Transport) *http.Transport {
		t = t.Clone()
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &ahead{c, bufio.NewReaderSize(c, readAhead)}, nil
		}
		t.ForceAttemptHTTP2, t.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
		if t.TLSClientConfig != nil {
			t.TLSClientConfig.NextProtos = nil
		}
		return t
	}
	switch t := t.(type) {
	case *http.Transport:
		return alone(t)
	case plain:
		return plain{alone(t.Transport)}
	}
	return t
}

// readAhead is how much of a stream is taken from its connection at once.
const readAhead = 256 << 10

// ahead is a connection that is read ahead.
type ahead struct {
	net.Conn
	read *bufio.Reader
}

// Read implements net.Conn.
func (a *ahead) Read(b []byte) (int, error) { return a.read.Read(b) }

func keyringExportCommand() command {
	c := command{
		name: "keyring export", args: "FILE", summary: "Write a copy of the keyring, while the server runs or not. Keep it apart from backups of the data, and only the newest.",
		example: "visage keyring export /media/safe/visage.keyring",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		source := defineSource(fs)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 1 {
				return usage(&c, "takes the file to write, and was given %d arguments", len(args))
			}
			n, err := exportKeyring(ctx, args[0], source)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s: %d bytes\n", args[0], n)
			return nil
		}
	}
	return c
}

// exportKeyring writes to a file beside path first, so that an older copy is there until the new one is whole.
func exportKeyring(ctx context.Context, path string, source func(context.Context, string, writer, func(io.Reader) error) error) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyring-*") // mode 0600
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	err = source(ctx, "keyring", (*sealed.Store).WriteKeyring, func(r io.Reader) (err error) {
		n, err = io.Copy(f, r)
		return err
	})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = sealed.CheckWhole(ctx, f)
	}
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	return n, err
}

func keyringImportCommand() command {
	c := command{
		name: "keyring import", args: "FILE", summary: "Put epoch keys that are missing back, when the key directory was lost and the data was not. The server must not run.",
		example: "visage keyring import /media/safe/visage.keyring",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "root-key")
		return func(ctx context.Context, s streams, args []string) (err error) {
			if len(args) != 1 {
				return usage(&c, "takes the file of the keyring, and was given %d arguments", len(args))
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			store, err := server.OpenStore(ctx, set.server)
			if err != nil {
				return hinted(err, "keyring import needs the data for itself: is the server of this directory still running?")
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			n, err := store.MendKeyring(ctx, f)
			if err != nil {
				return streamHint(err)
			}
			fmt.Fprintf(s.out, "%d keys were missing, and are there again\n", n)
			return nil
		}
	}
	return c
}

func streamHint(err error) error {
	switch {
	case errors.Is(err, sealed.ErrForeign):
		return hinted(err, "the keyring, the backup and the root key must be of one instance")
	case errors.Is(err, sealed.ErrNotAuthentic), errors.Is(err, sealed.ErrMalformed), errors.Is(err, archive.ErrDamaged):
		return &failure{err: err, code: exitDamaged, hint: "take another copy"}
	case errors.Is(err, sealed.ErrNotEmpty):
		return hinted(err, "name a directory with --dir that has no data yet")
	}
	return err
}

func restoreCommand() command {
	c := command{
		name: "restore", args: "ARCHIVE [NAME]", summary: "Make the data of a server from a backup and the newest keyring, in a new directory. Who was erased since the backup stays erased.",
		example: "visage restore /mnt/backup/visage --keyring /media/safe/visage.keyring --dir /var/lib/visage",
	}
	var keyring string
	return backupCommandOf(c, 2, func(fs *flag.FlagSet) func(context.Context, streams, *archive.Archive, []string) error {
		given := defineSettings(fs, "dir", "root-key")
		fs.StringVar(&keyring, "keyring", "", "the newest copy of the keyring (required)")
		return func(ctx context.Context, s streams, a *archive.Archive, args []string) error {
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			name := "latest"
			if len(args) == 1 {
				name = args[0]
			}
			b, err := a.Backup(name)
			if err != nil {
				return err
			}
			keys, err := os.Open(keyring)
			if err != nil {
				return hinted(err, "say with --keyring which copy of the keyring to use; the newest is the right one")
			}
			defer keys.Close()
			if err := server.Restore(ctx, set.server, keys, a.Read(b)); err != nil {
				return streamHint(err)
			}
			fmt.Fprintf(s.out, "restored %s: %d rows\n", b.Name, b.Rows)
			fmt.Fprintln(s.out, "each resource is put in order when it is opened; \"visage verify\" opens those that need no customer's key now")
			return nil
		}
	})
}
