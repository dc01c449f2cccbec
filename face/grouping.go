package face

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// Grouping is the answer of Group. Every face id of the query is in it exactly once. Neither field is nil.
type Grouping struct {
	Groups [][]string // largest first, each of two or more similar faces
	Messy  []string   // faces that resemble no other
}

const (
	leastGrouped = 2
	mostGrouped  = 1_000
)

// Group sorts 2 to 1,000 detected faces into groups that look like one person each (contract §5.4). The same faces in
// the same order give the same groups.
//
// Every face begins as a cluster of its own. The two most similar clusters are joined, again and again, until the mean
// distance between the faces of any two gives a confidence below 0.5. With the mean, one face between two persons does
// not join them, as it would if the nearest pair decided, and one bad photo does not split a person, as it would if the
// farthest pair did.
//
// Refusals of kind Invalid: BadArgument, FaceNotFound.
func (s *Service) Group(ctx context.Context, res visage.Resource, faceIDs []string) (Grouping, error) {
	if err := between("The number of faceIds", len(faceIDs), leastGrouped, mostGrouped); err != nil {
		return Grouping{}, err
	}
	if err := checkIDs("face", faceIDs...); err != nil {
		return Grouping{}, err
	}
	ids := distinct(faceIDs)
	var probes []detectionRecord
	defer forget(&probes)
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		probes, err = s.probes(r, visage.Invalid, ids...)
		return err
	})
	if err != nil {
		return Grouping{}, fmt.Errorf("group: %w", err)
	}
	if err := sameModel(probes[0].Model, probes[0].Networks, probes[1:]...); err != nil {
		return Grouping{}, err
	}
	m := s.packs[probes[0].Networks]
	clusters, err := cluster(ctx, probes, func(distance float64) bool { return m.Confidence(distance) >= samePerson })
	if err != nil {
		return Grouping{}, fmt.Errorf("group: %w", err)
	}
	g := Grouping{Groups: [][]string{}, Messy: []string{}}
	for _, members := range clusters {
		if len(members) == 1 {
			g.Messy = append(g.Messy, ids[members[0]])
			continue
		}
		group := make([]string, len(members))
		for i, member := range members {
			group[i] = ids[member]
		}
		g.Groups = append(g.Groups, group)
	}
	slices.SortStableFunc(g.Groups, func(a, b []string) int { return cmp.Compare(len(b), len(a)) })
	return g, nil
}

// cluster joins faces by mean distance while alike reports true. Clusters are in the order of their first member, and
// members in the order of the faces. Of equally near pairs the first is joined.
func cluster(ctx context.Context, probes []detectionRecord, alike func(distance float64) bool) ([][]int, error) {
	n := len(probes)
	members := make([][]int, n) // by the first member; nil after joining an earlier cluster
	between := make([][]float64, n)
	nearest := make([]int, n) // the nearest later cluster; -1 for none
	for i := range n {
		members[i] = []int{i}
		between[i] = make([]float64, n)
		for j := range i {
			d, err := gallery.Distance(probes[i].code(), probes[j].code())
			if err != nil {
				return nil, fmt.Errorf("compare: %w", err)
			}
			between[i][j], between[j][i] = float64(d), float64(d)
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
	seek := func(i int) {
		nearest[i] = -1
		for j := i + 1; j < n; j++ {
			if members[j] != nil && (nearest[i] < 0 || between[i][j] < between[i][nearest[i]]) {
				nearest[i] = j
			}
		}
	}
	for i := range n {
		seek(i)
	}
	for {
		a := -1
		for i := range n {
			if members[i] != nil && nearest[i] >= 0 && (a < 0 || between[i][nearest[i]] < between[a][nearest[a]]) {
				a = i
			}
		}
		if a < 0 || !alike(between[a][nearest[a]]) {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		b := nearest[a]
		sizeA, sizeB := float64(len(members[a])), float64(len(members[b]))
		for i := range n {
			// The mean over the pairs of a joined cluster, from the means over those of its parts.
			d := (sizeA*between[a][i] + sizeB*between[b][i]) / (sizeA + sizeB)
			between[a][i], between[i][a] = d, d
		}
		members[a] = append(members[a], members[b]...)
		members[b] = nil
		seek(a)
		for i := range b {
			if members[i] == nil || i == a {
				continue
			}
			if nearest[i] == a || nearest[i] == b {
				seek(i)
			} else if i < a && between[i][a] < between[i][nearest[i]] {
				nearest[i] = a
			}
		}
	}
	clusters := make([][]int, 0, n)
	for _, m := range members {
		if m != nil {
			slices.Sort(m)
			clusters = append(clusters, m)
		}
	}
	return clusters, nil
}
