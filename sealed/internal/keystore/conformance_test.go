package keystore_test

import (
	"testing"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/keystore/keystoretest"
)

func TestDirectoryConforms(t *testing.T) {
	dir := t.TempDir()
	keystoretest.Run(t, keystoretest.Provider{
		Open: func(t testing.TB, instance format.ID) keystore.Place {
			d, err := keystore.Open(dir, instance)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		Grade: keystore.GradeKeyStore, Loose: true,
	})
}

func TestMemoryConforms(t *testing.T) {
	places := map[format.ID]*keystore.Memory{}
	keystoretest.Run(t, keystoretest.Provider{
		Open: func(_ testing.TB, instance format.ID) keystore.Place {
			if places[instance] == nil {
				places[instance] = &keystore.Memory{}
			}
			return places[instance]
		},
		Grade: keystore.GradeStore,
	})
}
