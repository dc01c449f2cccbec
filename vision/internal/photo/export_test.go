package photo

// Size returns the size that a file's header says, or zeros.
func Size(file []byte) (w, h int) {
	f := formatOf(file)
	if f == nil {
		return 0, 0
	}
	w, h, err := f.measure(file)
	if err != nil {
		return 0, 0
	}
	return w, h
}

// Orientation returns the EXIF value of how a file is to be turned.
func Orientation(file []byte) int {
	if f := formatOf(file); f != nil && f.turn != nil {
		return int(f.turn(file))
	}
	return int(upright)
}
