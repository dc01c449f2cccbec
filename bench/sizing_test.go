package bench_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/cluster/sizing"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/remote/overhead"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/timing"
)

var (
	sizingFile    = flag.String("sizing", "", "write the figures of the sizing model to this file of the repository")
	sizingPersons = flag.Int("persons", 100_000, "enrol so many persons for the figures of the sizing model")
)

// sizingDim is the length of the templates of new stores.
const sizingDim = 192

// BenchmarkSizing measures what the model of package sizing multiplies: memory and processor time of galleries with
// 10,000 to 10,000,000 faces, the processor time of an identification over HTTPS, the disk space of persons who were
// enrolled through the service, of both engines, what a partition on another replica costs, and the processor time of a
// photo. Processor times, not elapsed times, so that other work on the machine matters less.
func BenchmarkSizing(b *testing.B) {
	for done := false; b.Loop(); done = true {
		if done {
			continue // one run is enough
		}
		f := sizing.Figures{
			Date: time.Now().Format(time.DateOnly), Dim: sizingDim,
			Machine: fmt.Sprintf("%d processors (%s)", runtime.NumCPU(), runtime.GOARCH),
		}
		for _, faces := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
			p := galleryPoint(b, faces)
			f.Points = append(f.Points, p)
			told(b, fmt.Sprintf("sizing: a search of %d, processor", faces), float64(p.Search)/1e6, "ms",
				fmt.Sprintf("%.3f ms as one of 64; %d B a face", float64(p.Together)/1e6, p.GalleryBytes/p.Faces))
		}
		for _, persons := range []int{10_000, *sizingPersons} {
			disk, request := enrolledPoint(b, persons)
			i := slices.IndexFunc(f.Points, func(p sizing.Point) bool { return p.Faces == int64(persons) })
			if i < 0 {
				i = len(f.Points)
				f.Points = append(f.Points, sizing.Point{Faces: int64(persons)})
			}
			f.Points[i].Disk = disk
			f.Points[i].Database, f.Points[i].DatabaseRows = databasePoint(b, persons)
			if persons == 10_000 {
				f.Request = max(request-f.Points[i].Search*templateDim/sizingDim, 0)
				told(b, "sizing: an identification without its search, processor", float64(f.Request)/1e6, "ms",
					"over HTTPS")
			}
			told(b, fmt.Sprintf("sizing: %d persons on disk, a person", persons), float64(disk)/float64(persons), "B",
				"with a face of 192 numbers, as it is after enrolling")
			p := f.Points[i]
			told(b, fmt.Sprintf("sizing: %d persons in PostgreSQL, a person", persons),
				float64(p.Database)/float64(persons), "B",
				fmt.Sprintf("%.1f rows, with indexes and dead rows", float64(p.DatabaseRows)/float64(persons)))
		}
		f.Load = loadTime(b)
		told(b, "sizing: loading a face into a gallery, processor", float64(f.Load)/1e3, "µs", "from sealed rows")
		slices.SortFunc(f.Points, func(x, y sizing.Point) int { return cmp.Compare(x.Faces, y.Faces) })

		r, err := overhead.Run(b.Context(), overhead.Config{Faces: 40_000, Queries: 4000},
			func() time.Duration { return processorTime(b) })
		if err != nil {
			b.Fatal(err)
		}
		f.Above = int64(r.P50)
		f.Partition = max(int64(r.Processor)/4-f.Points[0].Search, 0) // four partitions of 10,000 faces
		told(b, "sizing: a partition on another replica, processor", float64(f.Partition)/1e6, "ms",
			fmt.Sprintf("above the slowest: p50 %.2f ms, p99 %.2f ms", milliseconds(r.P50), milliseconds(r.P99)))
		f.Photo = photoTime(b)
		told(b, "sizing: a photo of 640×480, processor", float64(f.Photo)/1e6, "ms", "one face, with its template")
		if *sizingFile == "" {
			continue
		}
		encoded, err := json.MarshalIndent(f, "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(root(b), *sizingFile), append(encoded, '\n'), 0o644)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// galleryPoint measures a gallery: its memory, and the processor time of searches for what is near.
func galleryPoint(b *testing.B, faces int) sizing.Point {
	b.Helper()
	g := fillGallery(b, sizingDim, faces)
	defer g.Close()
	made := newCodes(sizingDim)
	search := func(times, probes int) int64 {
		before := processorTime(b)
		for i := range times {
			q := gallery.Query{K: 10, Within: 0.45, ByOwner: true}
			for p := range probes {
				q.Probes = append(q.Probes, made.near(uint64((i*probes+p)*7919%faces)))
			}
			if _, err := g.Search(b.Context(), q); err != nil {
				b.Fatal(err)
			}
		}
		return int64(processorTime(b)-before) / int64(times*probes)
	}
	search(1, 1)
	once := max(20_000_000/faces, 50)
	return sizing.Point{
		Faces: int64(faces), GalleryBytes: g.Bytes(), Search: search(once, 1), Together: search(max(once/40, 5), 64),
	}
}

// enrolledPoint enrols persons with a face each through the service. It returns the bytes of the data directory, as
// with templates of sizingDim numbers, and the processor time of an identification over HTTPS.
func enrolledPoint(b *testing.B, persons int) (disk, request int64) {
	b.Helper()
	crowd := newCrowd(b, persons)
	if err := filepath.WalkDir(crowd.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			disk += info.Size()
		}
		return err
	}); err != nil {
		b.Fatal(err)
	}
	disk += int64(persons) * 2 * (sizingDim - templateDim) // sealed templates do not compress
	const queries = 500
	round := startClients(b, clientsOf(crowd.web, crowd, 2, queries))
	round() // connects
	before := processorTime(b)
	answered := len(round())
	return disk, int64(processorTime(b)-before) / int64(answered)
}

// databasePoint enrols persons with a face each through the service over PostgreSQL. It returns the bytes of its tables
// and indexes, as with templates of sizingDim numbers, and the rows in them.
func databasePoint(b *testing.B, persons int) (size, rows int64) {
	b.Helper()
	server, cfg := replicated(b)
	store, end := startStore(b, cfg)
	makeSpace(b, store, account.ID)
	ctx, cancel := context.WithCancel(b.Context())
	service, ended := startService(ctx, b, store)
	enrol(b, service, account, persons, persons)
	cancel()
	ended()
	end()
	at, err := url.Parse(cfg.Engine)
	if err != nil {
		b.Fatal(err)
	}
	found := server.Exec(b, strings.TrimPrefix(at.Path, "/"),
		"SELECT pg_total_relation_size('visage.rows') || ' ' || count(*) FROM visage.rows")
	if _, err := fmt.Sscan(found, &size, &rows); err != nil {
		b.Fatalf("%q: %v", found, err)
	}
	return size + int64(persons)*2*(sizingDim-templateDim), rows
}

// loadTime measures the processor time of reading a sealed face, opening it and adding it to a gallery.
func loadTime(b *testing.B) int64 {
	b.Helper()
	const faces, batch = 200_000, 4_000
	store := openStore(b, b.TempDir())
	space := makeSpace(b, store, [16]byte{1})
	made := newCodes(sizingDim)
	for from := 0; from < faces; from += batch {
		err := space.Update(b.Context(), func(tx sealed.Tx) error {
			for i := from; i < from+batch; i++ {
				face := blob{sealedFace(i, made.code(uint64(i)))}
				if err := blobs.In("faces").Add(tx, strconv.Itoa(i), face); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatalf("fill the container: %v", err)
		}
	}
	if err := space.Fold(b.Context()); err != nil { // the state of a container without recent writes
		b.Fatalf("fold: %v", err)
	}
	g, err := gallery.New(sizingDim)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	g.Expect(faces)
	before := processorTime(b)
	err = space.View(b.Context(), func(r sealed.Reader) error {
		return blobs.In("faces").Each(b.Context(), r, func(face []byte) error {
			return g.Add(gallery.Entry{
				ID: gallery.ID(face[:16]), Owner: gallery.ID(face[16:32]), Order: binary.LittleEndian.Uint64(face[32:]),
				Code: face[40:],
			})
		})
	})
	if err != nil || g.Len() != faces {
		b.Fatalf("%d faces were loaded, %v", g.Len(), err)
	}
	return int64(processorTime(b)-before) / faces
}

// photoTime measures the processor time of a photo with one face. The photo is the one of "visage bench vision".
func photoTime(b *testing.B) int64 {
	b.Helper()
	const what = "sizing"
	file, err := os.ReadFile(filepath.Join(root(b), "models", "node_modules", "@vladmandic", "face-api", "demo",
		"sample1.jpg"))
	if err != nil {
		skipped(b, what, "no photo: run make setup")
	}
	pictures, err := timing.NewPictures(file, image.Rect(1100, 40, 1900, 640))
	if err != nil {
		b.Fatal(err)
	}
	pipeline, err := openPipeline(root(b), nil)
	if err != nil {
		skipped(b, what, err.Error())
	}
	defer pipeline.Close()
	detect := func(times int) int64 {
		before := processorTime(b)
		for range times {
			found, err := pipeline.Detect(b.Context(), pictures.Small, vision.Want{Templates: true})
			if err != nil || len(found.Faces) != 1 {
				b.Fatalf("detect: %v", err)
			}
		}
		return int64(processorTime(b)-before) / int64(times)
	}
	detect(2)
	return detect(30)
}
