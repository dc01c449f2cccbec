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

// Parse does all that Decode does before it decodes, and what it does to JPEG files whose decoding failed.
func Parse(file []byte) (repaired []byte, notes []string) {
	f := formatOf(file)
	if f == nil {
		_ = notAnImage(file)
		return nil, nil
	}
	_, _, _ = f.measure(file)
	if f.turn != nil {
		f.turn(file)
	}
	switch f.name {
	case "JPEG":
		_ = headerNote(file)
		return repairJPEG(file)
	case heifs.name:
		return unturned(file), nil
	}
	return nil, nil
}

// OnPaper is what becomes of a channel that is multiplied by its opacity already.
func OnPaper(v, a byte) byte { return onPaper(v, a) }
