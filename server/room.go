package server

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/sealed"
)

// storage lists the full volumes and what is wrong with the place of the epoch keys, a line each. It names no paths,
// since the page is public.
func storage(store *sealed.Store) string {
	var b strings.Builder
	for _, v := range store.Maintenance().Volumes() {
		if !v.Full {
			continue
		}
		means := "new records are refused with 507; reading, deleting and keys go on"
		switch {
		case v.Holds == "anchors":
			means = "requests go on, and going back to older data is noticed less exactly"
		case v.Holds == "epoch keys":
			means = "new resources are refused with 507, and what is deleted is erased from older copies later"
		case v.Spent:
			means = "deleting is refused with 507 too, and soon whatever writes; reading goes on"
		}
		fmt.Fprintf(&b, "storage: full: the volume of the %s has %s free of %s, and %s are kept in reserve: %s\n",
			v.Holds, sealed.Bytes(v.Free),
			sealed.Bytes(v.Total), sealed.Bytes(v.Reserve), means)
	}
	keys := store.EpochKeys()
	switch {
	case keys.Refused != nil:
		b.WriteString("storage: epoch keys: their place is not this server's any more: nothing is erased, and keys " +
			"are not changed; reading and writing go on. What to do: docs/operations/epoch-keys.md\n")
	case keys.Unswept != nil:
		b.WriteString("storage: epoch keys: keys that a crash has left could not be destroyed yet; " +
			"it is tried again\n")
	}
	return b.String()
}

// volumes are the metrics of free space on the volumes.
type volumes struct{ store *sealed.Store }

var (
	diskFree = volumeMetric("visage_server_disk_free_bytes",
		"Free bytes of the volume, including the reserve.")
	diskTotal = volumeMetric("visage_server_disk_total_bytes", "The size of the volume.")
	diskKept  = volumeMetric("visage_server_disk_reserve_bytes",
		"Bytes reserved for deletions and keys: with less free, new data is refused.")
	diskFull = volumeMetric("visage_server_disk_full", "1 while new data is refused for lack of disk space, else 0.")
)

func volumeMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"holds"}, nil)
}

// Describe implements prometheus.Collector.
func (volumes) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{diskFree, diskTotal, diskKept, diskFull} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c volumes) Collect(ch chan<- prometheus.Metric) {
	for _, v := range c.store.Maintenance().Volumes() {
		full := 0.0
		if v.Full {
			full = 1
		}
		for desc, value := range map[*prometheus.Desc]float64{
			diskFree: float64(v.Free), diskTotal: float64(v.Total), diskKept: float64(v.Reserve), diskFull: full,
		} {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value,
				strings.ReplaceAll(v.Holds, " ", "_"))
		}
	}
}
