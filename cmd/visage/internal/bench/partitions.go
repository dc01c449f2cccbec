package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/gallery/remote/overhead"
)

func partitions() *cobra.Command {
	var cfg overhead.Config
	c := command.New("partitions", "Measure what it costs to search a collection in partitions on several replicas. "+
		"The replicas listen on this machine, and every answer is compared with that of one gallery",
		"visage bench partitions\nvisage bench partitions --faces 1000000 --nodes 8 --partitions 16")
	f := c.Flags()
	f.IntVar(&cfg.Faces, "faces", 100_000, "`NUMBER` of faces, each in one gallery and in one partition")
	f.IntVar(&cfg.Dim, "dim", 192, "`NUMBER` of values in a template")
	f.IntVar(&cfg.Nodes, "nodes", 4, "`NUMBER` of replicas")
	f.IntVar(&cfg.Partitions, "partitions", 4, "`NUMBER` of partitions, a power of two")
	f.IntVar(&cfg.Copies, "copies", 2, "`NUMBER` of replicas of each partition")
	f.IntVar(&cfg.Queries, "queries", 10_000, "`NUMBER` of searches, one at a time")
	output := command.DefineOutput(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		err := errors.Join(atLeastOne("faces", cfg.Faces), atLeastOne("dim", cfg.Dim), atLeastOne("nodes", cfg.Nodes),
			atLeastOne("partitions", cfg.Partitions), atLeastOne("copies", cfg.Copies),
			atLeastOne("queries", cfg.Queries))
		if err != nil {
			return err
		}
		if cfg.Partitions&(cfg.Partitions-1) != 0 {
			return command.Misuse("--partitions must be a power of two; got %d", cfg.Partitions)
		}
		form, err := output.Form()
		if err != nil {
			return err
		}
		cfg.Progress = func(what string) { fmt.Fprintf(s.Err, "%s ...\n", what) }
		r, err := overhead.Run(ctx, cfg, nil)
		if err != nil {
			return fmt.Errorf("measure partitions: %w", err)
		}
		return writePartitions(s, r, form)
	})
}

func writePartitions(s command.Streams, r overhead.Result, form string) error {
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	if form == "json" {
		return command.WriteJSON(s.Out, struct {
			Queries  int     `json:"queries"`
			Slowest  float64 `json:"slowestPartitionMedianMilliseconds"`
			P50      float64 `json:"aboveItMedianMilliseconds"`
			P99      float64 `json:"aboveItP99Milliseconds"`
			Hedges   uint64  `json:"hedges"`
			Failures uint64  `json:"failures"`
		}{r.Queries, milliseconds(r.Slowest), milliseconds(r.P50), milliseconds(r.P99), r.Stats.Hedges,
			r.Stats.Failures})
	}
	_, err := fmt.Fprintf(s.Out, "searches            %d, each answered as by one gallery\n"+
		"slowest partition   median %.3f ms\nabove it            median %.3f ms, p99 %.3f ms\n"+
		"requests            %d, %d of them hedges, %d failed\n",
		r.Queries, milliseconds(r.Slowest), milliseconds(r.P50), milliseconds(r.P99), r.Stats.Requests, r.Stats.Hedges,
		r.Stats.Failures)
	return err
}
