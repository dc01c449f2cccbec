// Package cluster implements "visage cluster": the replicas that serve an instance.
package cluster

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage cluster".
func Command() *cobra.Command {
	c := command.New("cluster", "List the replicas that serve the instance", "visage cluster")
	c.Long = "List the replicas that serve the instance: where they listen, their versions and model packs, and the " +
		"work that each has claimed. The first one answers. One that ended without stopping is listed for a minute."
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (all armwire.ReplicaList,
		err error) {
		err = o.ARM(ctx, http.MethodGet, "/providers/Visage.Operations/replicas", nil, &all)
		return all, err
	}, table)
}

func table(t *command.Table, all armwire.ReplicaList) {
	versions := map[string]bool{}
	t.Row("HOST", "LISTEN", "STATE", "VERSION", "STARTED", "LAST SEEN", "CLAIMS")
	for _, r := range all.Value {
		t.Row(command.Dash(r.Host), command.Dash(r.Listen), r.State, command.Dash(r.Version), when(r.Started),
			when(r.Seen), command.Dash(strings.Join(r.Claims, " ")))
		if r.Version != "" && r.State != "ended" {
			versions[r.Version] = true
		}
	}
	for _, r := range all.Value {
		if r.Answers && r.Packs != "" {
			t.Line("model packs: %s", r.Packs)
		}
	}
	if len(versions) > 1 {
		t.Line("the replicas have different versions: bring all to the newest one")
	}
}

func when(t time.Time) string {
	if t.IsZero() {
		return command.Dash("")
	}
	return command.Clock(t.Format(time.RFC3339))
}
