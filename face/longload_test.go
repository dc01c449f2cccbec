package face_test

import (
	"sync"
	"testing"

	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestLargeLoadsWaitForEachOther has a collection of many faces loaded while other readings that last have the two
// places for such: the load waits, and everything that is short goes on.
func TestLargeLoadsWaitForEachOther(t *testing.T) {
	store := openStore(t, sealed.Config{
		Engine: pgtest.Shared(t).Database(t) + "&pool_max_conns=12", KeyDir: t.TempDir(), Shared: true,
		Protectors: protectors(sourcetest.NewFake("root")),
	}, true)
	a := newServiceOn(t, store, 0)
	list := a.create(t, face.FaceList, "l")
	a.addListed(t, list, "ann")
	other := a.create(t, face.FaceList, "other")
	mustDo(t, a.Pretend(t.Context(), a.res, list, -1, -1, -1, 30_000))
	probe := a.detect(t, "ann")[0]

	begun, release := make(chan struct{}), make(chan struct{})
	var both sync.WaitGroup
	defer both.Wait()
	defer close(release)
	for range 2 {
		both.Go(func() {
			err := store.Space(sealed.SpaceID(a.res.ID)).LongView(t.Context(), func(sealed.Reader) error {
				begun <- struct{}{}
				<-release
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-begun
	}
	loaded := make(chan struct{})
	both.Go(func() {
		defer close(loaded)
		q := face.SimilarQuery{FaceID: probe, FaceListID: list.ID}
		if found, err := a.FindSimilar(t.Context(), a.res, q); err != nil || len(found) != 1 {
			t.Errorf("found %v, %v", found, err)
		}
	})
	for a.GalleryUse().Loading == 0 {
		select {
		case <-loaded:
			t.Fatal("the load did not wait")
		default:
		}
	}
	for range 50 {
		if got, err := a.Get(t.Context(), a.res, other); err != nil || got.ID != other.ID {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	select {
	case <-loaded:
		t.Error("the load did not wait")
	default:
	}
}
