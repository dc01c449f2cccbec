package photo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"slices"
)

// heif holds the metadata of the main picture of a HEIF file (ISO/IEC 23008-12), the format of HEIC and AVIF files.
type heif struct {
	width, height int // as stored, before turning
	codec         string
	turn          orientation
	turns         []box // the properties in the file that turn it
	grey          []box // the properties of its H.265 data without colours
	cropped       bool
	alike         *nclx // the meaning of colours; nil: not given
}

// nclx is the meaning of luma and colour differences, in the numbers of ITU-T H.273.
type nclx struct {
	matrix uint16
	full   bool
}

// box is one box of an ISO base media file.
type box struct {
	name string
	head []byte // length and name
	data []byte
}

// boxes splits data into its boxes, up to the first broken one or a limit. The last may reach beyond the data.
func boxes(data []byte) (all []box) {
	const most = 1000
	for len(data) >= 8 && len(all) < most {
		size, head := uint64(binary.BigEndian.Uint32(data)), uint64(8)
		switch {
		case size == 0: // to the end
			size = uint64(len(data))
		case size == 1 && len(data) >= 16:
			size, head = binary.BigEndian.Uint64(data[8:]), 16
		}
		if size < head {
			break
		}
		size = min(size, uint64(len(data)))
		all = append(all, box{string(data[4:8]), data[:head], data[head:size]})
		data = data[size:]
	}
	return all
}

// find returns the data of the first box with a name, or nil.
func find(all []box, name string) []byte {
	i := slices.IndexFunc(all, func(b box) bool { return b.name == name })
	if i < 0 {
		return nil
	}
	return all[i].data
}

// brandsOf returns the brands that a file lists, the main one first.
func brandsOf(file []byte) (brands []string) {
	const most = 64
	if len(file) < 16 || string(file[4:8]) != "ftyp" {
		return nil
	}
	list := file[8:min(int(max(binary.BigEndian.Uint32(file), 12)), len(file), 8+4*most)]
	for i := 0; i+4 <= len(list); i += 4 {
		if i != 4 { // the version
			brands = append(brands, string(list[i:i+4]))
		}
	}
	return brands
}

// isHEIF reports whether a file is of one of the formats that are read, or of another of their family.
func isHEIF(file []byte) bool {
	return slices.ContainsFunc(brandsOf(file), func(b string) bool {
		switch b {
		case "heic", "heix", "hevc", "hevx", "heim", "heis", "hevm", "hevs", "mif1", "mif2", "msf1", "miaf", "avif",
			"avis",
			"MA1A", "MA1B", "avci", "jpeg", "vvic", "j2ki":
			return true
		}
		return false
	})
}

// readHEIF reads the metadata of the main picture.
func readHEIF(file []byte) (h heif, err error) {
	meta := find(boxes(file), "meta")
	if len(meta) < 4 {
		if slices.Contains(brandsOf(file), "msf1") || slices.Contains(brandsOf(file), "avis") {
			return h,
				unsupported(
					"the image is a film without a still image (HEIF image sequence), which is not supported; " +
						"send one of its frames as a still image")
		}
		return h, errors.New("the HEIF file does not describe its pictures")
	}
	all := boxes(meta[4:])
	main, ok := mainItem(find(all, "pitm"))
	if !ok {
		return h, errors.New("the HEIF file has no main picture")
	}
	properties := boxes(find(all, "iprp"))
	set := boxes(find(properties, "ipco"))
	h.codec = itemType(find(all, "iinf"), main)
	turn := [4]int{1, 0, 0, 1} // the directions of a step to the right and of one down
	for _, p := range properties {
		if p.name != "ipma" {
			continue
		}
		for _, i := range associated(p.data, main) {
			if i < 1 || i > len(set) {
				continue
			}
			if name := set[i-1].name; name == "irot" || name == "imir" {
				h.turns = append(h.turns, set[i-1])
			}
			if isGrey(set[i-1]) {
				h.grey = append(h.grey, set[i-1])
			}
			switch d := set[i-1].data; set[i-1].name {
			case "ispe":
				if len(d) >= 12 {
					h.width, h.height = int(binary.BigEndian.Uint32(d[4:])), int(binary.BigEndian.Uint32(d[8:]))
				}
			case "irot": // anticlockwise
				for range int(at0(d) & 3) {
					turn = [4]int{turn[1], -turn[0], turn[3], -turn[2]}
				}
			case "imir":
				if at0(d)&1 == 0 { // top and bottom change places
					turn[1], turn[3] = -turn[1], -turn[3]
				} else {
					turn[0], turn[2] = -turn[0], -turn[2]
				}
			case "clap":
				h.cropped = true
			case "colr":
				if len(d) >= 11 && string(d[:4]) == "nclx" {
					h.alike = &nclx{binary.BigEndian.Uint16(d[8:]), d[10]&0x80 != 0}
				}
			}
		}
	}
	h.turn = turnOf(turn)
	if h.codec == "grid" || h.codec == "iovl" || h.codec == "iden" || h.codec == "tmap" { // made of others
		for _, p := range set {
			if codec := map[string]string{"hvcC": "hvc1", "av1C": "av01"}[p.name]; codec != "" {
				h.codec = codec
				if isGrey(p) {
					h.grey = append(h.grey, p)
				}
				break
			}
		}
	}
	if h.width < 1 || h.height < 1 || h.width > 1<<30 || h.height > 1<<30 {
		return h, fmt.Errorf("the picture of the HEIF file has %d × %d pixels", h.width, h.height)
	}
	return h, nil
}

// greyAt is the byte of an hvcC property whose lowest two bits name the sampling of colours, 0 for none.
const greyAt = 16

func isGrey(p box) bool { return p.name == "hvcC" && len(p.data) > greyAt && p.data[greyAt]&3 == 0 }

func at0(d []byte) byte {
	if len(d) == 0 {
		return 0
	}
	return d[0]
}

// turnOf returns the turn that gives a step to the right (x, y) and one down (x, y) these directions.
func turnOf(t [4]int) orientation {
	for o, m := range [...][4]int{
		1: {1, 0, 0, 1}, {-1, 0, 0, 1}, {-1, 0, 0, -1}, {1, 0, 0, -1}, {0, 1, 1, 0}, {0, 1, -1, 0}, {0, -1, -1, 0},
		{0, -1, 1, 0},
	} {
		if m == t {
			return orientation(o)
		}
	}
	return upright
}

// mainItem reads the number of the main picture.
func mainItem(pitm []byte) (id uint32, ok bool) {
	switch {
	case len(pitm) >= 8 && pitm[0] > 0:
		return binary.BigEndian.Uint32(pitm[4:]), true
	case len(pitm) >= 6:
		return uint32(binary.BigEndian.Uint16(pitm[4:])), true
	}
	return 0, false
}

// associated returns the places, from 1, of an item's properties in the set of all.
func associated(ipma []byte, id uint32) (places []int) {
	if len(ipma) < 8 {
		return nil
	}
	wideID, widePlace := ipma[0] > 0, ipma[3]&1 != 0
	d := ipma[8:]
	for len(d) > 0 {
		size := 2
		if wideID {
			size = 4
		}
		if len(d) < size+1 {
			return places
		}
		item := uint32(binary.BigEndian.Uint16(d))
		if wideID {
			item = binary.BigEndian.Uint32(d)
		}
		n := int(d[size])
		d = d[size+1:]
		for ; n > 0; n-- {
			var place int
			switch {
			case widePlace && len(d) >= 2:
				place, d = int(binary.BigEndian.Uint16(d)&0x7fff), d[2:]
			case !widePlace && len(d) >= 1:
				place, d = int(d[0]&0x7f), d[1:]
			default:
				return places
			}
			if item == id {
				places = append(places, place)
			}
		}
	}
	return places
}

// configHEIF is the config of a format.
func configHEIF(r io.Reader) (image.Config, error) {
	file, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	h, err := readHEIF(file)
	if err != nil {
		return image.Config{}, err
	}
	c := image.Config{ColorModel: color.YCbCrModel, Width: h.width, Height: h.height}
	switch h.codec {
	case "hvc1", "hev1":
	case "av01":
		c.ColorModel = color.RGBAModel
	default:
		return c,
			unsupported(
				fmt.Sprintf("the image is a HEIF file with pictures of the sort %q; HEIC (H.265) and AVIF (AV1) "+
					"are supported", printable(h.codec)))
	}
	return c, nil
}

// printable returns the printable part of a name.
func printable(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
