//go:build linux

package replicas_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// replicaEnv makes the test binary a replica that recognises made-up people, so that many people cost little.
const replicaEnv = "VISAGE_TEST_REPLICA"

// scratch is a directory for the program; it is removed after the tests.
var scratch string

func TestMain(m *testing.M) {
	if text := os.Getenv(replicaEnv); text != "" {
		if err := serveMadeUp(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(clockEnv) != "" {
		sayClocks()
		return
	}
	if err := isolateMounts(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "visage-replicas-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch) // what is left of a temporary directory harms nobody
		return m.Run()
	}())
}

// buildProgram builds the program once for all tests of this run and returns its path.
var buildProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "visage")
	out, err := exec.Command("go", "build", "-o", path, "github.com/visage-face/visage/cmd/visage").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// options are what a replica of this test is started with.
type options struct {
	Dir, Listen, Store, RootKey, PublicURL string
	PeerListen                             string // empty: each replica searches alone
	PartitionKiB                           int64
}

// arguments are the options as those of the program.
func (o options) arguments() []string {
	all := []string{"serve", "--shared", "--auto-approve", "--dir", o.Dir, "--listen", o.Listen, "--store", o.Store,
		"--root-key", o.RootKey, "--public-url", o.PublicURL, "--log-format", "json", "--rate", fmt.Sprint(rate)}
	if o.PeerListen != "" {
		all = append(all, "--peer-listen", o.PeerListen, "--partition-memory", fmt.Sprintf("%dKiB", o.PartitionKiB))
	}
	return all
}

// rate is more than a test reaches.
const rate = 100_000

// serveMadeUp serves as the program does, with the same settings, except for the recogniser.
func serveMadeUp(text string) error {
	var o options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	srv, err := server.New(server.Config{
		Dir: o.Dir, Listen: o.Listen, Engine: o.Store, Shared: true, RootKeys: []string{o.RootKey},
		PublicURL: o.PublicURL, AutoApprove: true, Logger: log, Recogniser: servertest.Faces{},
		Rate: rate, VaultRate: rate, ManagementRate: rate, TokenRate: rate,
		PeerListen: o.PeerListen, PartitionBytes: o.PartitionKiB << 10,
	})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(context.Background()) }()
	select {
	case err := <-stopped:
		return errors.Join(err, errors.New("it stopped before it served"))
	case <-srv.Ready():
	}
	log.Info("serving", "endpoint", srv.Endpoint())
	return <-stopped
}
