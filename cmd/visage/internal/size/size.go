// Package size implements "visage size", which computes how large a cluster must be. No server is needed.
package size

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cluster/sizing"
	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// Command is "visage size".
func Command() *cobra.Command {
	var s sizing.Simulation
	var memory int64
	c := command.New("size", "Compute how many nodes, processors, memory and disks a number of faces needs. "+
		"It multiplies measured figures; with --simulate, it plays requests against queues instead",
		"visage size --faces 1000000 --rate 50\nvisage size --faces 1000000000 --rate 20 --simulate 16 --lose")
	f := c.Flags()
	f.Int64Var(&s.Faces, "faces", 0, "`NUMBER` of faces in the collection that is searched")
	f.Float64Var(&s.Rate, "rate", 1, "`NUMBER` of identifications a second")
	f.Float64Var(&s.Photos, "photos", 0, "`NUMBER` of photos a second that are analysed (default: the rate)")
	f.IntVar(&s.Replicas, "replicas", 2, "`NUMBER` of nodes that have each face in memory")
	f.IntVar(&s.Dim, "dim", 192, "`NUMBER` of values in a template")
	f.Int64Var(&memory, "node-memory", 64, "memory of a node, `GIB`")
	f.IntVar(&s.NodeCores, "node-cores", 16, "`NUMBER` of processors of a node")
	f.IntVar(&s.Nodes, "simulate", 0, "simulate that `NUMBER` of nodes rather than compute how many are needed")
	f.BoolVar(&s.Lose, "lose", false, "let a simulated node stop when half of the queries have been asked")
	f.Uint64Var(&s.Seed, "seed", 1, "`NUMBER` that the simulated requests follow from")
	output := command.DefineOutput(c)
	return command.Run(c, func(_ context.Context, streams command.Streams, _ []string) error {
		form, err := output.Form()
		if err != nil {
			return err
		}
		if memory < 1 || memory > 1<<20 {
			return command.Misuse("--node-memory must be 1 to 1048576; got %d", memory)
		}
		s.NodeMemory = memory << 30
		if !f.Changed("photos") {
			s.Photos = s.Rate
		}
		figures, err := sizing.Measured()
		if err != nil {
			return err
		}
		if s.Nodes != 0 {
			r, err := figures.Simulate(s)
			if err != nil {
				return command.Misuse("%w", err)
			}
			return writeSimulated(streams, s, r, form)
		}
		p, err := figures.Plan(s.Need)
		if err != nil {
			return command.Misuse("%w", err)
		}
		return writePlan(streams, p, form)
	})
}

func writePlan(s command.Streams, p sizing.Plan, form string) error {
	if form == "json" {
		return command.WriteJSON(s.Out, p)
	}
	var t command.Table
	t.Row("nodes", fmt.Sprintf("%d (limited by %s)", p.Nodes, p.Bound))
	t.Row("each node", fmt.Sprintf("%d processors, %s of memory, up to %s of it for galleries", p.NodeCores,
		bytes(p.NodeMemory), bytes(p.NodeGallery)))
	if p.Partitions > 1 {
		t.Row("partitions", fmt.Sprintf("%d, on %d nodes each", p.Partitions, p.Replicas))
	} else {
		t.Row("partitions", "1: every node holds the whole collection")
	}
	t.Row("galleries", bytes(p.Galleries)+" on all nodes together")
	t.Row("processors", fmt.Sprintf("%.1f busy on average, on all nodes together", p.Cores))
	t.Row("one search", fmt.Sprintf("%s of processor time; answered in %s when nothing else runs", short(p.Identify),
		short(p.Alone)))
	t.Row("start", fmt.Sprintf("%s until a node has loaded its galleries, for which it reads %s faces",
		short(p.LoadTime), count(p.LoadRows)))
	t.Row("training", fmt.Sprintf("%s; all nodes together read %s faces", short(p.TrainTime),
		count(p.TrainRows)))
	t.Row("disk", bytes(p.Disk)+" with the embedded engine, on one node")
	t.Row("PostgreSQL", fmt.Sprintf("%s, %d rows", bytes(p.Database), p.DatabaseRows))
	t.Line("")
	t.Line("settings of each node, without which the plan does not hold:")
	t.Line("  %s", strings.Join(flags(p), " "))
	t.Line("")
	t.Line("assumptions:")
	for _, a := range p.Assumptions {
		t.Line("- %s", a)
	}
	return t.Write(s.Out)
}

// flags returns the settings with which servers do as planned.
func flags(p sizing.Plan) []string {
	return []string{
		fmt.Sprintf("--gallery-memory %dMiB", p.GalleryMemory>>20),
		fmt.Sprintf("--partition-memory %dMiB", p.PartitionMemory>>20),
		fmt.Sprintf("--partition-copies %d", p.Replicas),
	}
}

// count writes a number with three digits at most.
func count(n int64) string {
	size, unit := float64(n), ""
	for _, larger := range []string{" thousand", " million", " billion", " trillion"} {
		if size < 1000 {
			break
		}
		size, unit = size/1000, larger
	}
	return fmt.Sprintf("%.3g%s", size, unit)
}

func writeSimulated(s command.Streams, of sizing.Simulation, r sizing.Simulated, form string) error {
	if form == "json" {
		return command.WriteJSON(s.Out, struct {
			Simulation bool `json:"simulation"`
			sizing.Simulated
		}{true, r})
	}
	fmt.Fprintf(s.Out, "This is a simulation: queues with measured service times, not a cluster.\n\n"+
		"%d faces in %d partitions, each on %d of %d nodes; %g identifications a second; nodes busy for %.0f %%\n\n",
		of.Faces, r.Partitions, r.Replicas, r.Nodes, of.Rate, 100*r.Busy)
	t := command.Table{Gap: 3}
	t.Row("QUERIES", "COUNT", "P50", "P95", "P99", "MAX")
	for _, line := range []struct {
		what string
		sizing.Times
	}{{"all", r.Before}, {"within 1 s of the loss", r.During}, {"later", r.After}} {
		if line.Queries == 0 {
			continue
		}
		if of.Lose && line.what == "all" {
			line.what = "before the loss"
		}
		t.Row(line.what, line.Queries, short(line.P50), short(line.P95), short(line.P99), short(line.Most))
	}
	t.Line("")
	t.Line("unanswered %d; second requests to another replica %.1f %%", r.Unanswered, 100*r.Hedges)
	return t.Write(s.Out)
}

// short writes a time with three digits.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Hour, time.Minute, time.Second, time.Millisecond, time.Microsecond} {
		if d >= 100*unit {
			return d.Round(unit).String()
		}
		if d >= unit {
			return d.Round(unit / 100).String()
		}
	}
	return d.String()
}

// bytes writes a size in decimal units.
func bytes(n int64) string {
	size, unit := float64(n), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if size < 1000 {
			break
		}
		size, unit = size/1000, larger
	}
	return fmt.Sprintf("%.3g %s", size, unit)
}
