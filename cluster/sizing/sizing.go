// Package sizing answers how large a cluster must be: a model computes memory, processors and disks from figures that
// were measured (measured.json, written by "make sizing"), and a simulation shows how long searches take on many nodes
// and what a lost one does.
//
// Neither is a measurement of a cluster. The model multiplies what one machine with two processors took; the simulation
// plays requests against queues whose service times are these. Both name their assumptions.
package sizing

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/visage-face/visage/cluster/placement"
)

//go:embed measured.json
var measured []byte

// Point is what was measured with a number of faces. Zero: not measured.
type Point struct {
	Faces        int64 `json:"faces"`
	GalleryBytes int64 `json:"galleryBytes"`        // of a gallery with templates of Figures.Dim numbers
	Search       int64 `json:"searchNanoseconds"`   // processor time of a search with one probe
	Together     int64 `json:"togetherNanoseconds"` // of one probe among 64 in one search
	Disk         int64 `json:"diskBytes"`           // of the data directory: a person and a face each, embedded engine
	Database     int64 `json:"databaseBytes"`       // of PostgreSQL's tables and indexes, for the same
	DatabaseRows int64 `json:"databaseRows"`        // in them
}

// Figures are what was measured, on one machine on one day.
type Figures struct {
	Date      string  `json:"date"`
	Machine   string  `json:"machine"`
	Dim       int     `json:"numbersPerFace"`
	Points    []Point `json:"points"`               // by faces, at least two
	Request   int64   `json:"requestNanoseconds"`   // processor time of an identification but for its search
	Partition int64   `json:"partitionNanoseconds"` // of asking one partition on another replica, both sides
	Above     int64   `json:"aboveNanoseconds"`     // elapsed: from the slowest partition to the whole answer
	Load      int64   `json:"loadNanoseconds"`      // processor time of loading one face into a gallery
	Photo     int64   `json:"photoNanoseconds"`     // of finding and describing the face on a photo
}

// Measured returns the figures of this version.
func Measured() (Figures, error) {
	var f Figures
	if err := json.Unmarshal(measured, &f); err != nil {
		return Figures{}, fmt.Errorf("read the measured figures: %w", err)
	}
	if len(f.Points) < 2 {
		return Figures{}, fmt.Errorf("the measured figures have %d points; a model needs two", len(f.Points))
	}
	return f, nil
}

// line is a fixed part and one by face, through the first and the last point.
func (f Figures) line(of func(Point) int64) (fixed, each float64) {
	var known []Point
	for _, p := range f.Points {
		if of(p) > 0 {
			known = append(known, p)
		}
	}
	first, last := known[0], known[len(known)-1]
	if first.Faces == last.Faces {
		return 0, float64(of(first)) / float64(first.Faces)
	}
	each = float64(of(last)-of(first)) / float64(last.Faces-first.Faces)
	return max(float64(of(first))-each*float64(first.Faces), 0), each
}

// Search returns the processor time of a search with one probe.
func (f Figures) Search(faces int64, dim int) time.Duration {
	fixed, each := f.line(func(p Point) int64 { return p.Search })
	return time.Duration(fixed + each*float64(faces)*f.scale(dim))
}

// Together returns the processor time of one probe of those that share a search.
func (f Figures) Together(faces int64, dim int) time.Duration {
	fixed, each := f.line(func(p Point) int64 { return p.Together })
	return time.Duration(fixed + each*float64(faces)*f.scale(dim))
}

// scale is how much more templates of dim numbers cost than those that were measured.
func (f Figures) scale(dim int) float64 { return float64(dim) / float64(f.Dim) }

// Gallery returns the memory of a gallery: two bytes a number, and what is the same for all templates.
func (f Figures) Gallery(faces int64, dim int) int64 {
	_, each := f.line(func(p Point) int64 { return p.GalleryBytes })
	return int64(float64(faces) * (each + float64(2*(dim-f.Dim))))
}

// Disk returns the size of the data directory with as many persons with a face each.
func (f Figures) Disk(faces int64, dim int) int64 {
	return int64(float64(faces) * (f.perFace(func(p Point) int64 { return p.Disk }) + float64(2*(dim-f.Dim))))
}

// Database returns the size of PostgreSQL's tables and indexes with as many persons with a face each, and the number of
// rows in them.
func (f Figures) Database(faces int64, dim int) (size, rows int64) {
	each := f.perFace(func(p Point) int64 { return p.Database }) + float64(2*(dim-f.Dim))
	rows = int64(float64(faces) * f.perFace(func(p Point) int64 { return p.DatabaseRows }))
	return int64(float64(faces) * each), rows
}

// perFace is in proportion to the largest number of faces that something was measured with: what is fixed is too small
// to be seen beside an engine's log.
func (f Figures) perFace(of func(Point) int64) float64 {
	each := 0.0
	for _, p := range f.Points {
		if of(p) > 0 {
			each = float64(of(p)) / float64(p.Faces)
		}
	}
	return each
}

// Need is what a cluster is for. Zero values mean the defaults, where there are any.
type Need struct {
	Faces      int64   // at least 1
	Rate       float64 // identifications a second
	Photos     float64 // photos a second that are analysed
	Replicas   int     // that have each partition in memory; default 2
	Dim        int     // numbers of a template; default 192, as of mobileface
	NodeMemory int64   // bytes; default 64 GiB
	NodeCores  int     // default 16
}

const (
	galleryShare = 0.75 // of a node's memory is for galleries
	filled       = 0.9  // of that is planned for, since gallery-memory is a bound that galleries must not reach
	busyShare    = 0.6  // of a node's processors is used, so that peaks do not queue
	perNode      = 8    // partitions that a node's memory holds, so that they spread
	freeDisk     = 2    // the embedded engine needs room to rewrite its files
	mostFaces    = 1e12
	mostNodes    = 1024 // that partitions are placed on
	readings     = 2    // of a collection, for parts that are loaded at once: see package face
	readRate     = 3e5  // faces a second from PostgreSQL: a million in 3.3 s, on 2 processors with the service's work
)

// Plan is a cluster.
type Plan struct {
	Nodes           int           `json:"nodes"`
	Bound           string        `json:"bound"` // what the number of nodes follows from: memory, processors, replicas
	Partitions      int           `json:"partitions"`
	Replicas        int           `json:"replicas"`
	NodeMemory      int64         `json:"memoryBytesPerNode"`
	GalleryMemory   int64         `json:"galleryMemory"`       // the setting of each node, whole MiB
	PartitionMemory int64         `json:"partitionMemory"`     // the setting of each node, whole MiB
	NodeGallery     int64         `json:"galleryBytesPerNode"` // at most
	NodeCores       int           `json:"coresPerNode"`
	Cores           float64       `json:"coresBusy"`                    // by all requests together
	Galleries       int64         `json:"galleryBytes"`                 // of all nodes together
	Identify        time.Duration `json:"identifyProcessorNanoseconds"` // of one identification
	Alone           time.Duration `json:"identifyAloneNanoseconds"`     // elapsed, of one alone
	LoadTime        time.Duration `json:"loadNanoseconds"`              // until a node that starts alone is loaded
	TrainTime       time.Duration `json:"trainNanoseconds"`             // of a training
	LoadRows        int64         `json:"loadRows"`                     // faces that a node reads, also in a training
	TrainRows       int64         `json:"trainRows"`                    // faces that all nodes read in a training
	Disk            int64         `json:"diskBytes"`                    // embedded engine, with room to rewrite
	Database        int64         `json:"databaseBytes"`                // PostgreSQL, after enrolling
	DatabaseRows    int64         `json:"databaseRows"`
	Assumptions     []string      `json:"assumptions"`
}

// fill sets the defaults and checks a need.
func (n *Need) fill() error {
	if n.Replicas == 0 {
		n.Replicas = 2
	}
	if n.Dim == 0 {
		n.Dim = 192
	}
	if n.NodeMemory == 0 {
		n.NodeMemory = 64 << 30
	}
	if n.NodeCores == 0 {
		n.NodeCores = 16
	}
	switch {
	case n.Faces < 1 || n.Faces > mostFaces:
		return fmt.Errorf("the number of faces must be 1 to %.0f; got %d", mostFaces, n.Faces)
	case !(n.Rate >= 0 && n.Rate <= 1e6) || !(n.Photos >= 0 && n.Photos <= 1e6):
		return fmt.Errorf("rates must be 0 to 1,000,000 a second; got %g and %g", n.Rate, n.Photos)
	case n.Replicas < 1 || n.Replicas > 16:
		return fmt.Errorf("each partition can have 1 to 16 replicas; got %d", n.Replicas)
	case n.Dim < 1 || n.Dim > 2048:
		return fmt.Errorf("templates have 1 to 2,048 numbers; got %d", n.Dim)
	case n.NodeMemory < 1<<30 || n.NodeMemory > 1<<50:
		return fmt.Errorf("a node has at least 1 GiB of memory; got %d bytes", n.NodeMemory)
	case n.NodeCores < 1 || n.NodeCores > 4096:
		return fmt.Errorf("a node has 1 to 4,096 processors; got %d", n.NodeCores)
	}
	return nil
}

// Plan computes the cluster that a need asks for, with the settings by which servers then do as planned.
func (f Figures) Plan(n Need) (Plan, error) {
	if err := n.fill(); err != nil {
		return Plan{}, err
	}
	whole := f.Gallery(n.Faces, n.Dim)
	p := Plan{Replicas: n.Replicas, NodeMemory: n.NodeMemory, NodeCores: n.NodeCores, Partitions: 1}
	p.GalleryMemory = wholeMiB(float64(n.NodeMemory) * galleryShare)
	p.PartitionMemory = p.GalleryMemory
	room := int64(float64(p.GalleryMemory) * filled)
	if whole > room {
		p.PartitionMemory = wholeMiB(float64(p.GalleryMemory) / perNode)
		p.Partitions = placement.Partitions(whole, p.PartitionMemory, 0)
	}
	part := n.Faces / int64(p.Partitions)
	each := f.Search(part, n.Dim)
	p.Identify = time.Duration(f.Request) + time.Duration(p.Partitions)*each
	if p.Partitions > 1 {
		p.Identify += time.Duration(p.Partitions) * time.Duration(f.Partition)
	}
	p.Cores = n.Rate*p.Identify.Seconds() + n.Photos*time.Duration(f.Photo).Seconds()
	if err := p.chooseNodes(whole, room); err != nil {
		return Plan{}, err
	}
	f.load(&p, n.Faces)
	// Of one search, a node answers its share of the partitions one after another, each on all of its processors.
	turns := int(math.Ceil(float64(p.Partitions) / float64(p.Nodes)))
	p.Alone = time.Duration(f.Request) + time.Duration(turns)*each/time.Duration(n.NodeCores)
	if p.Partitions > 1 {
		p.Alone += time.Duration(f.Above)
	}
	p.Disk = freeDisk * f.Disk(n.Faces, n.Dim)
	p.Database, p.DatabaseRows = f.Database(n.Faces, n.Dim)
	p.Assumptions = []string{
		fmt.Sprintf("measured on %s on a machine with %s; other processors differ", f.Date, f.Machine),
		fmt.Sprintf("one face a person, templates of %d numbers, one collection that is searched as a whole", n.Dim),
		fmt.Sprintf("%.0f %% of a node's memory is for galleries, %.0f %% of that is used; %.0f %% of its processors "+
			"are busy", 100*galleryShare, 100*filled, 100*busyShare),
		"every identification reads the gallery alone: searches that share a reading need less",
		fmt.Sprintf("%g photos a second are analysed, for %.1f ms of processor time each", n.Photos,
			time.Duration(f.Photo).Seconds()*1000),
		fmt.Sprintf("PostgreSQL gives %d faces a second to all nodes together, as one with 2 processors did; "+
			"a node opens %.0f a second", int(readRate), float64(p.NodeCores)*1e9/float64(f.Load)),
		"during a training, the former version of the collection leaves memory where both do not fit; searches of " +
			"what has left are refused with 503",
		"above the largest measured number of faces everything grows in proportion",
		"PostgreSQL as it is after enrolling, with its indexes and dead rows, without its log and archives",
		fmt.Sprintf("the embedded engine needs %d times the size of its files, as it rewrites them", freeDisk),
	}
	return p, nil
}

// wholeMiB rounds down, so that a setting can be written as a number of MiB.
func wholeMiB(bytes float64) int64 { return int64(bytes) >> 20 << 20 }

// chooseNodes finds the smallest number of nodes whose memory, of which galleries may take room bytes each, and
// processors are enough. Processors are in p.Cores.
func (p *Plan) chooseNodes(whole, room int64) error {
	part := (whole + int64(p.Partitions) - 1) / int64(p.Partitions)
	if part > room {
		return fmt.Errorf("a collection has at most %d partitions, of %d bytes each here, and galleries may "+
			"take %d bytes of a node; nodes with more memory are needed", p.Partitions, part, room)
	}
	p.Nodes, p.Bound = p.Replicas, "replicas"
	if n := int(math.Ceil(p.Cores / busyShare / float64(p.NodeCores))); n > p.Nodes {
		p.Nodes, p.Bound = n, "processors"
	}
	for {
		if p.Nodes > mostNodes {
			return fmt.Errorf("more than %d nodes would be needed, which is the most that there can be; nodes with "+
				"more memory and processors are needed", mostNodes)
		}
		most, err := p.fullest(int(room / part))
		if err != nil {
			return err
		}
		if p.NodeGallery = int64(most) * part; p.NodeGallery <= room {
			break
		}
		p.Nodes, p.Bound = p.Nodes+1, "memory"
	}
	p.Galleries = whole * int64(p.Replicas)
	if p.Partitions == 1 {
		p.Galleries = whole * int64(p.Nodes) // the node that is asked searches it, whichever that is
	}
	return nil
}

// fullest returns how many partitions the fullest node serves, by package placement, as servers do. Their names, which
// are random, decide which one that is and how full: the bound of placement holds for nearly all names, and some are
// tried where the bound is below most.
func (p *Plan) fullest(most int) (int, error) {
	if p.Partitions == 1 {
		return 1, nil
	}
	share := 1.25 * float64(p.Partitions*p.Replicas) / float64(p.Nodes)
	bound := min(int(math.Ceil(share)), p.Partitions)
	if bound > most {
		return bound, nil
	}
	// As many as take a moment; with very many partitions and nodes, none.
	for try := range min((1<<16)/(p.Partitions*p.Nodes), 8) {
		var nodes []placement.Node
		for i := range p.Nodes {
			nodes = append(nodes, placement.Node{Name: fmt.Sprintf("%d/%d", try, i), Budget: p.GalleryMemory})
		}
		m, err := placement.New(nodes)
		if err != nil {
			return 0, err
		}
		serves := make(map[string]int)
		for _, place := range m.Place("planned", p.Partitions, p.Replicas) {
			for _, n := range place {
				serves[n.Name]++
				bound = max(bound, serves[n.Name])
			}
		}
	}
	return bound, nil
}

// load computes how long loading takes: a node reads and opens all faces of the collection in each reading, of which
// it keeps those in its partitions.
func (f Figures) load(p *Plan, faces int64) {
	times := int64(1)
	if p.Partitions > 1 {
		times = readings
	}
	p.LoadRows = times * faces
	p.TrainRows = p.LoadRows * int64(p.Nodes)
	opened := float64(p.LoadRows) * float64(f.Load) / 1e9 / float64(p.NodeCores)
	p.LoadTime = seconds(max(opened, float64(p.LoadRows)/readRate))
	p.TrainTime = p.LoadTime
	if p.Partitions > 1 { // it waits for all nodes, which read at the same time; else for one node
		p.TrainTime = seconds(max(opened, float64(p.TrainRows)/readRate))
	}
}

// seconds avoids an overflow.
func seconds(s float64) time.Duration { return time.Duration(min(s*1e9, math.MaxInt64/2)) }
