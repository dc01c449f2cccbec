package photo

import "image"

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

// mirrors reports whether the upright picture's columns, and its rows, run against those that they are stored as.
func (o orientation) mirrors() (columns, rows bool) {
	return o == 2 || o == 3 || o == 6 || o == 7, o == 3 || o == 4 || o == 7 || o == 8
}

// moved returns where a rectangle of the stored picture, of the given size, lies on the upright one.
func (o orientation) moved(r image.Rectangle, width, height int) image.Rectangle {
	if o.turned() {
		r = image.Rect(r.Min.Y, r.Min.X, r.Max.Y, r.Max.X)
		width, height = height, width
	}
	columns, rows := o.mirrors()
	if columns {
		r.Min.X, r.Max.X = width-r.Max.X, width-r.Min.X
	}
	if rows {
		r.Min.Y, r.Max.Y = height-r.Max.Y, height-r.Min.Y
	}
	return r
}

// inverse is the orientation that turns the upright picture into the stored one.
func (o orientation) inverse() orientation {
	switch o {
	case 6:
		return 8
	case 8:
		return 6
	}
	return o
}
