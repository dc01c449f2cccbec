// Package cluster implements "visage cluster": the replicas that serve an instance.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"
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
	c.Long = "List the replicas that serve the instance: where they listen, their versions and model packs, the " +
		"gallery memory that each uses, and the work that each has claimed. The first one answers. One that " +
		"ended without stopping is listed for a minute. Then come the largest collections that the replicas " +
		"search together, as far as the one that answers has searched them within the last hour: how many of " +
		"their partitions each has."
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (all armwire.ReplicaList,
		err error) {
		err = o.ARM(ctx, http.MethodGet, "/providers/Visage.Operations/replicas", nil, &all)
		return all, err
	}, table)
}

func table(t *command.Table, all armwire.ReplicaList) {
	versions := map[string]bool{}
	t.Row("HOST", "LISTEN", "STATE", "VERSION", "STARTED", "LAST SEEN", "GALLERY MEMORY", "CLAIMS")
	for _, r := range all.Value {
		t.Row(command.Dash(r.Host), command.Dash(r.Listen), r.State, command.Dash(r.Version), when(r.Started),
			when(r.Seen), galleries(r.Galleries), command.Dash(strings.Join(r.Claims, " ")))
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
	if len(all.Collections) == 0 {
		return
	}
	t.Line("")
	t.Row("SEARCHED TOGETHER", "KIND", "MEMORY", "PARTITIONS", "OF THEM AT EACH REPLICA")
	for _, c := range all.Collections {
		t.Row(path.Base(c.ResourceID), c.Kind, memory(c.Bytes), len(c.Partitions), places(c, all.Value))
	}
}

// galleries says what a replica has in memory.
func galleries(g *armwire.Galleries) string {
	if g == nil {
		return command.Dash("")
	}
	text := fmt.Sprintf("%s of %s", memory(g.Bytes), memory(g.Budget))
	if g.Partitions > 0 {
		text += fmt.Sprintf(", %d partitions", g.Partitions)
	}
	if g.Loading > 0 {
		text += fmt.Sprintf(", %d loading (%d faces to read)", g.Loading, g.Awaited)
	}
	return text
}

// places says how many partitions of a collection each replica has.
func places(c armwire.PartitionedCollection, replicas []armwire.Replica) string {
	if len(c.Partitions) == 0 {
		return "none: their memory is too small"
	}
	count := map[string]int{}
	for _, ids := range c.Partitions {
		for _, id := range ids {
			count[id]++
		}
	}
	var all []string
	for _, r := range replicas {
		if n := count[r.ID]; n > 0 {
			all = append(all, fmt.Sprintf("%s: %d", cmp.Or(r.Listen, r.Host, r.ID), n))
		}
	}
	return strings.Join(all, ", ")
}

func memory(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

func when(t time.Time) string {
	if t.IsZero() {
		return command.Dash("")
	}
	return command.Clock(t.Format(time.RFC3339))
}
