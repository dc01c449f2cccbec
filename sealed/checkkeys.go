package sealed

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/postgres"
)

// KeysCheck is what a place for epoch keys can do.
type KeysCheck struct {
	Place string // for people
	Grade Grade  // what an erasure would reach there
	Why   string // what keeps it from reaching more, if that can be changed; empty: nothing
	// Steps are what was tried, in order. After the first one that failed nothing more is tried.
	Steps []KeysStep
}

// KeysStep is one thing that a place for epoch keys has to be able to do.
type KeysStep struct {
	Name string // "data", "reach", "write", "write-once", "replace", "mark", "anchor", "destroy", "list"
	Err  error  // nil: it can
}

// CheckEpochKeys tries whether the place that cfg names can have epoch keys, with a key of an instance that does not
// exist, of which nothing stays. The keys that are there are not touched. If both the keys and the data lie in
// databases, the servers are compared. The error is that of the first step that failed.
func CheckEpochKeys(ctx context.Context, cfg Config) (check KeysCheck, err error) {
	try := func(name string, do func() error) {
		if err != nil {
			return
		}
		err = do()
		check.Steps = append(check.Steps, KeysStep{name, err})
	}
	instance, space := format.RandomID(), format.RandomID()
	var in keystore.Place
	var data engine.Engine
	if scheme, _, _ := strings.Cut(cfg.Engine, ":"); cfg.EpochKeys != "" && slices.Contains(postgres.Schemes, scheme) {
		try("data", func() error {
			e, err := postgres.Data(ctx, cfg.postgres())
			if err == nil {
				data = e
				err = e.Ping(ctx)
			}
			return err
		})
	}
	if data != nil {
		defer data.Close()
	}
	try("reach", func() error {
		if in, err = openEpochs(ctx, cfg, data, instance); err != nil {
			return err
		}
		_, err := in.Mark(ctx)
		return absent(err)
	})
	if in == nil {
		return check, err
	}
	defer in.Close()
	check.Place = in.Name()
	one, two, three := make([]byte, 64), make([]byte, 64), make([]byte, 64)
	for _, value := range [][]byte{one, two, three} {
		rand.Read(value) // never fails: the runtime ends the process instead
	}
	defer func() {
		err = errors.Join(err, forget(context.WithoutCancel(ctx), in, space))
	}()
	try("write", func() error {
		err := in.Put(ctx, space, 1, one)
		if err != nil {
			return err
		}
		return holds(ctx, in, space, one)
	})
	try("write-once", func() error { return refuses(in.Put(ctx, space, 1, two), keystore.ErrExists) })
	try("replace", func() error {
		if err := refuses(in.Replace(ctx, space, 1, two, three), keystore.ErrChanged); err != nil {
			return err
		}
		if err := in.Replace(ctx, space, 1, one, two); err != nil {
			return err
		}
		return holds(ctx, in, space, two)
	})
	try("mark", func() error {
		if err := in.SetMark(ctx, nil, one); err != nil {
			return err
		}
		return refuses(in.SetMark(ctx, two, three), keystore.ErrChanged)
	})
	if anchors, ok := in.(keystore.Anchors); ok && cfg.AnchorDir == "" {
		try("anchor", func() error {
			return errors.Join(anchors.SetAnchor(ctx, space, nil, one), anchors.SetAnchor(ctx, space, one, nil))
		})
	}
	try("list", func() error {
		if numbers, err := in.List(ctx, space); err != nil || len(numbers) != 1 {
			return errors.Join(err, fmt.Errorf("it lists %d keys where there is one", len(numbers)))
		}
		return nil
	})
	try("destroy", func() error {
		if err := in.DestroyEpoch(ctx, space, 1); err != nil {
			return err
		}
		_, err := in.Get(ctx, space, 1)
		return refuses(err, keystore.ErrNotFound)
	})
	check.Grade, check.Why = in.Grade()
	return check, err
}

func absent(err error) error {
	if errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	return err
}

// refuses makes sure that a place has refused something for a reason.
func refuses(err, want error) error {
	switch {
	case errors.Is(err, want):
		return nil
	case err == nil:
		return fmt.Errorf("it did not say that %w", want)
	}
	return err
}

func holds(ctx context.Context, in keystore.Place, space format.ID, want []byte) error {
	got, err := in.Get(ctx, space, 1)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("it does not return what was written")
	}
	return err
}

// forget removes what a check has left.
func forget(ctx context.Context, in keystore.Place, space format.ID) error {
	err := in.Destroy(ctx, space)
	if mark, markErr := in.Mark(ctx); markErr == nil {
		err = errors.Join(err, in.SetMark(ctx, mark, nil))
	}
	if folder, ok := in.(*keystore.Directory); ok {
		err = errors.Join(err, folder.Remove())
	}
	if err != nil {
		return fmt.Errorf("remove what the check has left in %s: %w", in.Name(), err)
	}
	return nil
}
