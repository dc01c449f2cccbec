package models

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// tryPack runs the networks of a pack as a server does when it opens them. Without the library it only prints a note.
func tryPack(s command.Streams, library string, p *pack.Pack) error {
	library, err := server.FindLibrary(library)
	if err != nil {
		fmt.Fprintf(s.Err, "the networks were not tested; the server will test them when it opens the pack: %v\n", err)
		return nil
	}
	pipeline, err := vision.Open(vision.Config{Pack: p, Library: library, Parallel: 1})
	if err != nil {
		return err
	}
	return pipeline.Close()
}

// packUses asks the running server of a directory which packs it uses, and for what. It is nil if no server answers.
func packUses(ctx context.Context, dir string) map[string]string {
	c, err := operator.Dial(dir)
	if err != nil {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Operator.Endpoint+"/readyz", nil)
	if err != nil {
		return nil
	}
	_, page, err := c.Send(req)
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
