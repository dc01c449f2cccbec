package placement_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/visage-face/visage/cluster/placement"
)

func members(t testing.TB, nodes ...placement.Node) placement.Members {
	t.Helper()
	m, err := placement.New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// nodes makes n nodes with those budgets in turn, in GiB.
func nodes(n int, budgets ...int64) []placement.Node {
	all := make([]placement.Node, n)
	for i := range all {
		all[i] = placement.Node{Name: fmt.Sprintf("node-%d", i), Budget: budgets[i%len(budgets)] << 30}
	}
	return all
}

func collection(i int) string { return fmt.Sprintf("resource/%d", i) }

// TestAgreement: members that learn of one another in any order place alike.
func TestAgreement(t *testing.T) {
	all := nodes(20, 1, 2, 8)
	want := members(t, all...)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got := members(t, all...)
		for i := range 20 {
			for _, partitions := range []int{1, 16} {
				a, b := want.Place(collection(i), partitions, 2), got.Place(collection(i), partitions, 2)
				if !slices.EqualFunc(a, b, slices.Equal) {
					t.Fatalf("%s in %d partitions is placed at %v and at %v", collection(i), partitions, a, b)
				}
			}
		}
	}
}

// TestPlacesAreFixed holds where some collections are: replicas of two versions of the program must agree while one
// replaces the other, so these may never change.
func TestPlacesAreFixed(t *testing.T) {
	m := members(t, nodes(5, 4, 16)...)
	for _, c := range []struct {
		collection string
		partitions int
		want       string
	}{
		{"resource/1", 1, "[[node-3 node-2]]"},
		{"resource/2", 1, "[[node-1 node-2]]"},
		{"resource/3", 4, "[[node-0 node-4] [node-2 node-1] [node-1 node-3] [node-1 node-3]]"},
	} {
		var names [][]string
		for _, place := range m.Place(c.collection, c.partitions, 2) {
			var at []string
			for _, n := range place {
				at = append(at, n.Name)
			}
			names = append(names, at)
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%s in %d partitions is at %s, want %s", c.collection, c.partitions, got, c.want)
		}
	}
	if got := placement.Partition([16]byte{1, 2, 3}, 1024); got != 38 {
		t.Errorf("a face is in partition %d, want 38", got)
	}
}

// TestBalance: many collections are spread by the budgets. With n collections, the share of a node varies by the
// standard deviation of a binomial distribution; five of them are seen once in millions.
func TestBalance(t *testing.T) {
	const collections, copies = 20_000, 1
	all := nodes(12, 1, 2, 4, 16)
	m := members(t, all...)
	var total int64
	served := map[string]int{}
	for _, n := range all {
		total += n.Budget
	}
	for i := range collections {
		served[m.Place(collection(i), 1, copies)[0][0].Name]++
	}
	for _, n := range all {
		share := float64(n.Budget) / float64(total)
		want, off := share*collections, math.Sqrt(collections*share*(1-share))
		if got := float64(served[n.Name]); math.Abs(got-want) > 5*off {
			t.Errorf("%s with a share of %.3f serves %.0f of %d collections, want %.0f ± %.0f", n.Name, share, got,
				collections, want, 5*off)
		}
	}
}

// TestCopiesAreDifferentNodes, and all of them where there are too few.
func TestCopiesAreDifferentNodes(t *testing.T) {
	for n := range 6 {
		m := members(t, nodes(n, 1, 100)...)
		for copies := 1; copies <= 4; copies++ {
			for _, partitions := range []int{1, 8} {
				for p, place := range m.Place("c", partitions, copies) {
					seen := map[string]bool{}
					for _, node := range place {
						seen[node.Name] = true
					}
					if want := min(n, copies); len(seen) != want || len(place) != want {
						t.Errorf("%d copies of partition %d are at %v of %d nodes", copies, p, place, n)
					}
				}
			}
		}
	}
}

// TestOnlyWhatMustMoves: when a node joins, collections move to it and nowhere else; when one leaves, only its own.
func TestOnlyWhatMustMoves(t *testing.T) {
	const collections, copies = 2_000, 2
	all := nodes(9, 4, 8)
	before, after := members(t, all[:8]...), members(t, all...)
	moved := 0
	for i := range collections {
		had, has := names(before.Place(collection(i), 1, copies)[0]), names(after.Place(collection(i), 1, copies)[0])
		for name := range has {
			if !had[name] {
				moved++
				if name != all[8].Name {
					t.Fatalf("%s moved to %s when %s joined", collection(i), name, all[8].Name)
				}
			}
		}
		if !has[all[8].Name] && !maps.Equal(had, has) {
			t.Fatalf("%s moved from %v to %v", collection(i), had, has)
		}
	}
	// With two copies a node serves about twice its share, 4 of 52.
	if share := float64(moved) / collections; share < 0.12 || share > 0.18 {
		t.Errorf("%d of %d collections have a copy at the new node", moved, collections)
	}
}

func names(nodes []placement.Node) map[string]bool {
	set := map[string]bool{}
	for _, n := range nodes {
		set[n.Name] = true
	}
	return set
}

// TestBoundedLoads: of one collection in partitions no node serves more than a quarter above its share, rounded up, and
// a node that joins or leaves moves less than twice what must move, over many collections.
func TestBoundedLoads(t *testing.T) {
	const partitions, copies = 256, 2
	all := nodes(17, 32, 64)
	before, after := members(t, all[:16]...), members(t, all...)
	var total int64
	for _, n := range all[:16] {
		total += n.Budget
	}
	moved, must := 0, 0
	for i := range 20 {
		had, has := before.Place(collection(i), partitions, copies), after.Place(collection(i), partitions, copies)
		loads := map[string]int{}
		for p := range had {
			was, is := names(had[p]), names(has[p])
			for name := range was {
				loads[name]++
			}
			for name := range is {
				if !was[name] {
					moved++
				}
				if name == all[16].Name {
					must++
				}
			}
		}
		for _, n := range all[:16] {
			share := partitions * copies * float64(n.Budget) / float64(total)
			if most := int(math.Ceil(1.25 * share)); loads[n.Name] > most {
				t.Errorf("%s serves %d partitions of %s, with a share of %.1f", n.Name, loads[n.Name], collection(i),
					share)
			}
		}
	}
	t.Logf("%d copies of partitions moved; %d had to", moved, must)
	if must == 0 || moved > 2*must {
		t.Errorf("%d copies of partitions moved, %d had to", moved, must)
	}
}

// TestSplit: when partitions double, a face of partition p is in 2p or 2p+1, and one of the two stays where it was.
func TestSplit(t *testing.T) {
	m := members(t, nodes(40, 8)...)
	for partitions := 1; partitions <= 1<<14; partitions *= 2 {
		counts := make([]int, 2)
		for i := range 1000 {
			var face [16]byte
			binary.BigEndian.PutUint64(face[:], uint64(i))
			p, child := placement.Partition(face, partitions), placement.Partition(face, min(2*partitions, 1<<14))
			if p < 0 || p >= partitions || 2*partitions <= 1<<14 && child/2 != p {
				t.Fatalf("face %d is in partition %d of %d, then in %d", i, p, partitions, child)
			}
			counts[child%2]++
		}
		if counts[0] < 400 || counts[1] < 400 {
			t.Errorf("of %d partitions, %d faces are in even ones and %d in odd ones", 2*partitions, counts[0],
				counts[1])
		}
	}
	same := 0
	const collections = 500
	for i := range collections {
		// The whole collection, and its first half: the same names, since no bound applies to the first of all.
		if m.Place(collection(i), 1, 1)[0][0] == m.Place(collection(i), 2, 1)[0][0] {
			same++
		}
	}
	if same != collections {
		t.Errorf("the first half of %d of %d collections moved when they were split", collections-same, collections)
	}
}

func TestPartitions(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		bytes, most int64
		now, want   int
	}{
		{0, gib, 0, 1},
		{gib, gib, 0, 1},
		{gib + 1, gib, 0, 2},
		{gib + 1, gib, 1, 2},
		{gib / 2, gib, 2, 1},
		{gib/2 + 1, gib, 2, 2},
		{5 * gib, gib, 0, 8},
		{5 * gib, gib, 16, 16},
		{4 * gib, gib, 16, 8},
		{gib, gib, 16, 2},
		{1 << 50, 1, 0, 1 << 14},
	} {
		if got := placement.Partitions(c.bytes, c.most, c.now); got != c.want {
			t.Errorf("%d bytes in partitions of %d, now %d: %d, want %d", c.bytes, c.most, c.now, got, c.want)
		}
	}
	// A size that varies by less than a half never makes the number go back and forth.
	rnd := rand.New(rand.NewPCG(3, 4))
	now, changes := placement.Partitions(8*gib, gib, 0), 0
	for range 1000 {
		next := placement.Partitions(7*gib+rnd.Int64N(2*gib), gib, now)
		if next != now {
			changes++
		}
		now = next
	}
	if changes > 1 {
		t.Errorf("the number of partitions changed %d times", changes)
	}
}

func TestMembersAreChecked(t *testing.T) {
	for name, nodes := range map[string][]placement.Node{
		"no name":       {{Budget: 1}},
		"no budget":     {{Name: "a"}},
		"large budget":  {{Name: "a", Budget: 1<<50 + 1}},
		"the same name": {{Name: "a", Budget: 1}, {Name: "b", Budget: 1}, {Name: "a", Budget: 2}},
		"too many":      nodes(1025, 1),
	} {
		if _, err := placement.New(nodes); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Replicas that know the same members agree where a collection is, and so does everybody who asks.
func ExampleMembers_Place() {
	m, err := placement.New([]placement.Node{
		{Name: "replica-a", Budget: 16 << 30}, {Name: "replica-b", Budget: 16 << 30},
		{Name: "replica-c", Budget: 64 << 30},
	})
	if err != nil {
		panic(err)
	}
	const faceBytes, faces = 440, 100_000_000
	partitions := placement.Partitions(faces*faceBytes, 16<<30, 0)
	for p, nodes := range m.Place("a resource/a group", partitions, 2) {
		fmt.Println(p, nodes[0].Name, nodes[1].Name)
	}
	// Output:
	// 0 replica-c replica-b
	// 1 replica-a replica-c
	// 2 replica-b replica-c
	// 3 replica-c replica-a
}
