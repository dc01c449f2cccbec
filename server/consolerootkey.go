package server

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// consoleRootKey implements console.RootKeys.
type consoleRootKey struct{ rootKeys }

// Add implements console.RootKeys. A browser cannot leave a copy of its request in the data directory, so that the
// secret of the protector must not be one that the person may know.
func (c consoleRootKey) Add(ctx context.Context, by visage.Caller, entry string) error {
	_, err := c.AddProtector(ctx, by, armwire.RootProtectorRequest{Entry: entry})
	return err
}

// Remove implements console.RootKeys.
func (c consoleRootKey) Remove(ctx context.Context, by visage.Caller, name string) error {
	return c.RemoveProtector(ctx, by, name)
}

// Test implements console.RootKeys.
func (c consoleRootKey) Test(ctx context.Context, by visage.Caller) (map[string]string, error) {
	root, err := c.TestProtectors(ctx, by)
	if err != nil {
		return nil, err
	}
	said := map[string]string{}
	for _, p := range root.Protectors {
		switch p.Answer {
		case "": // it was added since
		case protectorOpens:
			said[p.Name] = ""
		default:
			said[p.Name] = p.Answer
		}
	}
	return said, nil
}

// Rotate implements console.RootKeys.
func (c consoleRootKey) Rotate(ctx context.Context, by visage.Caller) error {
	_, err := c.RotateRootKey(ctx, by)
	return err
}
