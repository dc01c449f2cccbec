package bench_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/visage-face/visage/sealed/archive"
)

// backupVariable makes the test binary take backups, as `visage backup create` does in its own process. Its value is a
// backupOrder.
const backupVariable = "VISAGE_BENCH_BACKUP"

// backupOrder says what to back up, where to and how often, in JSON.
type backupOrder struct {
	Address, CA, Dir string
	Times            int
	Data             string // the files to copy plainly before each backup; empty: none
}

// backupTaken is the report on one backup.
type backupTaken struct {
	Bytes   int64
	Seconds float64
	Copying float64 // bytes a second of the plain copy before it
	Error   string
}

// takeBackups is the main function of the process that takes backups.
func takeBackups(raw string) {
	var order backupOrder
	err := json.Unmarshal([]byte(raw), &order)
	out := json.NewEncoder(os.Stdout)
	if threads, err := os.ReadDir("/proc/self/task"); err == nil { // as cmd/visage does
		for _, t := range threads {
			if id, err := strconv.Atoi(t.Name()); err == nil {
				_ = unix.Setpriority(unix.PRIO_PROCESS, id, 19)
			}
		}
	}
	for n := 0; err == nil && n < order.Times; n++ {
		var copying float64
		if order.Data != "" {
			if copying, err = plainCopy(order.Data, filepath.Join(order.Dir, fmt.Sprint("copy", n))); err != nil {
				break
			}
		}
		var took backupTaken
		if took, err = takeBackup(order, filepath.Join(order.Dir, fmt.Sprint(n))); err == nil {
			took.Copying = copying
			err = out.Encode(took)
		}
	}
	if err != nil {
		_ = out.Encode(backupTaken{Error: err.Error()}) // a reader that has gone sees the end of the stream
	}
}

// aheadConn is a connection with a goroutine that reads ahead.
type aheadConn struct {
	net.Conn
	read *bufio.Reader
}

func (a *aheadConn) Read(b []byte) (int, error) { return a.read.Read(b) }

func takeBackup(order backupOrder, dir string) (backupTaken, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(order.CA)) {
		return backupTaken{}, fmt.Errorf("no certificate")
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) { // as cmd/visage does
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &aheadConn{c, bufio.NewReaderSize(c, 256<<10)}, nil
		},
	}}
	start := time.Now()
	to, err := archive.Open(dir)
	if err != nil {
		return backupTaken{}, err
	}
	res, err := client.Get(order.Address)
	if err != nil {
		return backupTaken{}, err
	}
	defer res.Body.Close()
	added, err := to.Add(context.Background(), res.Body)
	return backupTaken{Bytes: added.Bytes, Seconds: time.Since(start).Seconds()}, err
}

// BenchmarkBackup takes backups of a running service with 100,000 persons, over TLS into an archive of another process.
// Backups alternate with plain copies of the data directory in the same process, so that both yield to the rest of the
// machine alike. Meanwhile detected faces are identified.
func BenchmarkBackup(b *testing.B) {
	const rounds = 5
	crowd := newCrowd(b, 100_000)
	crowd.ask(b, crowd.probes[0]) // loads the gallery
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := crowd.store.Backup().WriteData(r.Context(), w); err != nil {
			b.Errorf("write a backup: %v", err)
		}
	}))
	b.Cleanup(web.Close)
	order := backupOrder{
		Address: web.URL, CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})),
		Times: 3,
	}
	var quiet, disturbed []time.Duration
	var copying, saving, beside, against []float64 // bytes a second; against is the ratio of the first two
	for range rounds {
		order.Dir, order.Data = b.TempDir(), crowd.dir
		taking, speed := startBackups(b, order)
		<-taking.Done()
		both := <-speed
		saving, copying, against = append(saving, both.saving), append(copying, both.copying),
			append(against, both.saving/both.copying)
		second, cancel := context.WithTimeout(b.Context(), time.Second)
		quiet = append(quiet, crowd.meanwhile(b, second)...)
		cancel()
		order.Dir, order.Data = b.TempDir(), ""
		taking, speed = startBackups(b, order)
		disturbed = append(disturbed, crowd.meanwhile(b, taking)...)
		beside = append(beside, (<-speed).saving)
	}
	mid := func(all []float64) float64 { slices.Sort(all); return all[len(all)/2] }
	atMost(b, "backup: identify while one is taken, p50", milliseconds(median(disturbed))/milliseconds(median(quiet)),
		1.1, "times", fmt.Sprintf(
			"over HTTPS among 100,000, one client; %.3f ms against %.3f ms, p95 %.3f against %.3f",
			milliseconds(median(disturbed)), milliseconds(median(quiet)),
			milliseconds(quantile(disturbed, 0.95)), milliseconds(quantile(quiet, 0.95))))
	atLeast(b, "backup: speed against a plain copy", mid(against), 0.5, "times", fmt.Sprintf(
		"%.0f MB/s with every chunk read back (%.0f MB/s while faces are identified), against %.0f MB/s for the "+
			"files of the data directory, synced", mid(saving)/1e6,
		mid(beside)/1e6, mid(copying)/1e6))
	for b.Loop() { // the loop above has measured, in turns
	}
}

// meanwhile identifies faces until the context ends, and returns how long each answer took.
func (c *crowd) meanwhile(b *testing.B, until context.Context) (times []time.Duration) {
	b.Helper()
	for n := 0; until.Err() == nil; n++ {
		start := time.Now()
		i := n % len(c.probes)
		if person := c.ask(b, c.probes[i]); person != c.persons[i] {
			b.Fatalf("identify: %s, want person %s", person, c.persons[i])
		}
		times = append(times, time.Since(start))
	}
	return times
}

// speeds are bytes a second.
type speeds struct{ saving, copying float64 }

// startBackups starts another process that takes backups. The context ends with it.
func startBackups(b *testing.B, order backupOrder) (taking context.Context, speed <-chan speeds) {
	b.Helper()
	raw, err := json.Marshal(order)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), backupVariable+"="+string(raw))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("start taking backups: %v", err)
	}
	taking, end := context.WithCancel(b.Context())
	rate := make(chan speeds, 1)
	go func() {
		defer end()
		var sum backupTaken
		var copying []float64
		for in := json.NewDecoder(out); ; {
			var took backupTaken
			if err := in.Decode(&took); err != nil {
				break
			}
			sum = backupTaken{Bytes: sum.Bytes + took.Bytes, Seconds: sum.Seconds + took.Seconds, Error: took.Error}
			copying = append(copying, took.Copying)
		}
		if err := cmd.Wait(); err != nil || sum.Error != "" || sum.Bytes == 0 {
			b.Errorf("take a backup: %v %s", err, sum.Error)
		}
		slices.Sort(copying)
		var mid float64
		if len(copying) > 0 {
			mid = copying[len(copying)/2]
		}
		rate <- speeds{float64(sum.Bytes) / sum.Seconds, mid}
	}()
	return taking, rate
}

// plainCopy copies and syncs the files of a directory, and returns the bytes a second.
func plainCopy(dir, to string) (float64, error) {
	if err := os.Mkdir(to, 0o700); err != nil {
		return 0, err
	}
	var bytes int64
	start := time.Now()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.Type().IsRegular() {
			return nil
		}
		var in *os.File
		if err == nil {
			in, err = os.Open(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the engine has compacted it into other files meanwhile
		}
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, d.Name()))
		if err != nil {
			return err
		}
		defer out.Close()
		n, err := io.Copy(out, in)
		bytes += n
		if err == nil {
			err = out.Sync()
		}
		return err
	})
	return float64(bytes) / time.Since(start).Seconds(), err
}
