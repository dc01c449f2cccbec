package face

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/gallery"
)

// metrics are the Prometheus metrics of the service.
type metrics struct {
	detected  prometheus.Counter
	enrolled  prometheus.Counter
	trainings *prometheus.CounterVec // by outcome
	swept     prometheus.Counter
	galleries []prometheus.Collector
	names     prometheus.Collector
}

func newMetrics(pool *gallery.Pool, nameBytes func() int64) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func(gallery.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(pool.Stats()) })
	}
	count := func(name, help string, value func(gallery.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(pool.Stats())) })
	}
	return metrics{
		detected: counter("visage_face_detected_total", "Faces found on photos."),
		enrolled: counter("visage_face_enrolled_total", "Faces added to lists and persons."),
		swept: counter("visage_face_swept_hours_total",
			"Hours of detected faces removed because their time was up."),
		names: prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{
				Name: "visage_face_name_bytes", Help: "Memory of the names that persons are found by.",
			},
			func() float64 { return float64(nameBytes()) }),
		trainings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visage_face_trainings_total", Help: "Trainings that ended, by outcome.",
		}, []string{"outcome"}),
		galleries: []prometheus.Collector{
			gauge("visage_face_galleries", "Galleries in memory.",
				func(s gallery.Stats) float64 { return float64(s.Galleries) }),
			gauge("visage_face_gallery_bytes", "Memory of galleries.",
				func(s gallery.Stats) float64 { return float64(s.Bytes) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "visage_face_gallery_parts",
				Help: "Parts of collections in memory, of which other processes have the rest.",
			}, func() float64 {
				n, _ := pool.Parts()
				return float64(n)
			}),
			prometheus.NewGaugeFunc(
				prometheus.GaugeOpts{Name: "visage_face_gallery_parts_bytes", Help: "Memory of parts of collections."},
				func() float64 {
					_, bytes := pool.Parts()
					return float64(bytes)
				}),
			prometheus.NewGaugeFunc(
				prometheus.GaugeOpts{Name: "visage_face_galleries_loading", Help: "Galleries being loaded."},
				func() float64 { return float64(len(pool.Loading())) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "visage_face_gallery_faces_awaited", Help: "Faces that loads under way have still to read.",
			}, func() float64 {
				awaited := 0
				for _, p := range pool.Loading() {
					awaited += max(p.Expected-p.Loaded, 0)
				}
				return float64(awaited)
			}),
			count("visage_face_gallery_hits_total", "Searches that found their gallery in memory.",
				func(s gallery.Stats) uint64 { return s.Hits }),
			count("visage_face_gallery_loads_total", "Galleries loaded.",
				func(s gallery.Stats) uint64 { return s.Loads }),
			count("visage_face_gallery_failed_loads_total", "Loads of galleries that did not succeed.",
				func(s gallery.Stats) uint64 { return s.FailedLoads }),
			count("visage_face_gallery_evictions_total", "Galleries dropped because another needed their memory.",
				func(s gallery.Stats) uint64 { return s.Evictions }),
		},
	}
}
