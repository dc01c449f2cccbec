package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/backup"
	"github.com/visage-face/visage/server"
)

// Writer writes a stream of a store.
type Writer = func(*backup.Backup, context.Context, io.Writer) (backup.Saved, error)

// Source passes a stream to read: that of an operation of the running server, or the one that write writes.
type Source = func(ctx context.Context, operation string, write Writer, read func(io.Reader) error) error

// fromServer is the source of the server that the flags of c name: the running server or, when it is stopped, its data.
func fromServer(c *cobra.Command) Source {
	return func(ctx context.Context, operation string, write Writer, read func(io.Reader) error) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		dir, err := set.Dir()
		if err != nil {
			return err
		}
		o, err := operator.Dial(dir)
		if err == nil {
			if err = o.Stream(ctx, operation, read); !operator.Unreachable(err) {
				return err
			}
		}
		store, openErr := server.OpenStore(ctx, set.Server)
		switch {
		case openErr == nil:
		case errors.As(openErr, new(*sealed.CorruptError)): // first: a file of the engine may be missing
			return &command.Failure{
				Err: openErr, Code: command.ExitDamaged, Hint: "\"visage verify\" lists what is damaged",
			}
		case errors.Is(openErr, fs.ErrNotExist), errors.Is(openErr, sealed.ErrInUse):
			return errors.Join(err, openErr) // either can be the reason why both ways failed
		default:
			return openErr
		}
		return errors.Join(piped(func(w io.Writer) error {
			_, err := write(store.Backup(), ctx, w)
			return err
		}, read), store.Close())
	}
}

// piped connects a writer to a reader. The writer's error takes precedence: the reader then only reports that the
// stream ended early.
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
