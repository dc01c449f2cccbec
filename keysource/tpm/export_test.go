package tpm

import (
	"context"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// StorageKey is the template of the storage key.
func StorageKey() tpm2.TPMTPublic { return storageKey() }

// ParseObject reads the bytes of a sealed wrapping key.
func ParseObject(b []byte) error {
	_, err := parseObject(b)
	return err
}

// UnsealInTheClear opens a sealed wrapping key as one would without a session that encrypts.
func UnsealInTheClear(ctx context.Context, path string, params []byte) error {
	o, err := parseObject(params)
	if err != nil {
		return err
	}
	l, err := dial(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := begin(l, 0)
	if err != nil {
		return err
	}
	loaded, err := tpm2.Load{ParentHandle: c.parent, InPrivate: o.private, InPublic: o.public}.Execute(l)
	if err != nil {
		return err
	}
	_, err = tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)},
	}.Execute(l)
	return errors.Join(err, flush(l, loaded.ObjectHandle), c.end())
}
