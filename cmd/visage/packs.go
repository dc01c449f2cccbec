package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// packsFolder is where packs are installed for a server's directory.
func packsFolder(cfg server.Config) (string, error) {
	if cfg.Dir == "" {
		dir, err := server.DefaultDir()
		if err != nil {
			return "", err
		}
		cfg.Dir = dir
	}
	return filepath.Join(cfg.Dir, "packs"), nil
}

// tryPack runs the networks of a pack as a server does when it opens them. Without the library that runs them it says
// so: the server will try.
func tryPack(s streams, library string, p *pack.Pack) error {
	library, err := server.FindLibrary(library)
	if err != nil {
		fmt.Fprintf(s.err, "the networks are not tried before a server opens them: %v\n", err)
		return nil
	}
	pipeline, err := vision.Open(vision.Config{Pack: p, Library: library, Parallel: 1})
	if err != nil {
		return err
	}
	return pipeline.Close()
}

// packUses asks the running server of a directory what it uses packs for, by name. Nil: no server answers.
func packUses(ctx context.Context, dir string) map[string]string {
	c, err := dial(dir)
	if err != nil {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.operator.Endpoint+"/readyz", nil)
	if err != nil {
		return nil
	}
	_, page, err := c.do(req)
	if err != nil {
		return nil
	}
	uses := map[string]string{}
	for line := range strings.Lines(string(page)) {
		rest, ours := strings.CutPrefix(line, server.PackLine)
		if name, use, found := strings.Cut(rest, ": "); ours && found {
			uses[name] = strings.TrimSpace(use)
		}
	}
	return uses
}
