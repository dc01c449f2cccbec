package photo

// orientation is how the stored picture is turned and mirrored: the EXIF values 1 to 8.
type orientation int

const upright orientation = 1

// turned reports whether the stored rows are the upright picture's columns.
func (o orientation) turned() bool { return o >= 5 }

// place says where the stored picture's pixels go in the upright one: the pixel (x, y) to the byte
// start + x·right + y·down.
type place struct{ start, right, down int }

// place returns the place of a stored picture of the given size, and the upright size.
func (o orientation) place(width, height int) (p place, w, h int) {
	w, h = width, height
	if o.turned() {
		w, h = h, w
	}
	const pixel = 3
	row := w * pixel
	lastX, lastY := (w-1)*pixel, (h-1)*row
	switch o {
	case 2: // mirrored
		p = place{lastX, -pixel, row}
	case 3: // upside down
		p = place{lastX + lastY, -pixel, -row}
	case 4: // upside down and mirrored
		p = place{lastY, pixel, -row}
	case 5: // rows are columns
		p = place{0, row, pixel}
	case 6: // to be turned clockwise
		p = place{lastX, row, -pixel}
	case 7: // turned and mirrored the other way
		p = place{lastX + lastY, -row, -pixel}
	case 8: // to be turned anticlockwise
		p = place{lastY, -row, pixel}
	default:
		p = place{0, pixel, row}
	}
	return p, w, h
}
