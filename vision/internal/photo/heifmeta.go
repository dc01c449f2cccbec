package photo

import (
	"encoding/binary"
)

// metadataOfHEIF finds EXIF and XMP of a HEIF file. They count only if no property turns the picture: readers that
// follow the standard (ISO/IEC 23008-12 §6.5) use only the properties, and writers of properties may leave a copy of
// the metadata of the camera. If there is no property, the metadata are valid: encoders copy them from the original
// picture and do not turn the pixels.
func metadataOfHEIF(file []byte) (m metadata) {
	meta := find(boxes(file), "meta")
	if len(meta) < 4 {
		return m
	}
	all := boxes(meta[4:])
	const most = 8 // of either; a picture has one
	for _, item := range itemsOf(find(all, "iinf")) {
		switch {
		case item.kind == "Exif" && len(m.exif) < most:
			// The data begins with how far behind these four bytes the TIFF header is.
			if d := content(file, all, item.id); len(d) > 4 {
				if at := uint64(binary.BigEndian.Uint32(d)) + 4; at < uint64(len(d)) {
					m.exif = append(m.exif, d[at:])
				}
			}
		case item.kind == "mime" && len(m.xmp) < most:
			m.xmp = append(m.xmp, content(file, all, item.id))
		}
	}
	return m
}

// item is one of the parts of a HEIF file.
type item struct {
	id   uint32
	kind string
}

// itemsOf reads the list of items.
func itemsOf(iinf []byte) (items []item) {
	if len(iinf) < 6 {
		return nil
	}
	skip := 6
	if iinf[0] > 0 {
		skip = 8
	}
	for _, entry := range boxes(iinf[min(skip, len(iinf)):]) {
		d := entry.data
		switch {
		case entry.name != "infe" || len(d) < 12:
		case d[0] == 2:
			items = append(items, item{uint32(binary.BigEndian.Uint16(d[4:])), string(d[8:12])})
		case d[0] == 3 && len(d) >= 14:
			items = append(items, item{binary.BigEndian.Uint32(d[4:]), string(d[10:14])})
		}
	}
	return items
}

// itemType returns the type of an item: its codec, or how it is derived from others.
func itemType(iinf []byte, id uint32) string {
	for _, i := range itemsOf(iinf) {
		if i.id == id {
			return i.kind
		}
	}
	return ""
}

// numbers reads big-endian numbers of given sizes one after the other. After the end all are 0, and short is set.
type numbers struct {
	data  []byte
	short bool
}

func (n *numbers) next(size int) (v uint64) {
	if len(n.data) < size {
		n.data, n.short = nil, true
		return 0
	}
	for _, b := range n.data[:size] {
		v = v<<8 | uint64(b)
	}
	n.data = n.data[size:]
	return v
}

// content returns the data of an item that is stored in one piece, in the file or in the box "idat"; otherwise nil
// (ISO/IEC 14496-12 §8.11.3).
func content(file []byte, meta []box, id uint32) []byte {
	n := &numbers{data: find(meta, "iloc")}
	version := n.next(1)
	n.next(3) // flags
	sizes := n.next(2)
	offset, length, base, index := int(sizes>>12), int(sizes>>8&15), int(sizes>>4&15), int(sizes&15)
	idSize := 2
	if version == 2 {
		idSize = 4
	}
	count := n.next(idSize)
	if version > 2 {
		return nil
	}
	for ; count > 0 && !n.short; count-- {
		of, method := uint32(n.next(idSize)), uint64(0)
		if version > 0 {
			method = n.next(2) & 15
		} else {
			index = 0
		}
		n.next(2) // which file: this one
		start := n.next(base)
		extents := n.next(2)
		var size uint64
		for i := extents; i > 0 && !n.short; i-- {
			n.next(index)
			at, long := n.next(offset), n.next(length)
			if i == extents {
				start, size = start+at, long
			}
		}
		if of != id {
			continue
		}
		from := file
		if method == 1 {
			from = find(meta, "idat")
		}
		if n.short || extents != 1 || method > 1 || start > uint64(len(from)) || size > uint64(len(from))-start {
			return nil
		}
		return from[start : start+size]
	}
	return nil
}
