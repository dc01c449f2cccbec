package photo

import "fmt"

// mayLack is the share of a picture that may be missing: what a browser shows of a file whose last bytes were lost is
// read, and half a picture is not, for a face that would have been in the rest is a wrong answer. One in so many parts.
const mayLack = 8

// lacking judges a picture of which some of the rows, or other parts, are missing.
func lacking(name string, missing, all int) (note string, err error) {
	switch {
	case missing <= 0:
		return "", nil
	case missing*mayLack > all:
		return "", cutOff()
	}
	return fmt.Sprintf("%s file that ends early: %d of %d parts are missing", name, missing, all), nil
}

// cutOff refuses a file that lacks too much.
func cutOff() error {
	return unsupported(fmt.Sprintf(
		"the image is incomplete: more than 1/%d of its pixels are missing from the file; send the whole file",
		mayLack))
}

// unsupported is an error about content that is known and is not read, or not in the file, in words for the sender.
func unsupported(message string) error { return &Error{Kind: Broken, Message: message} }
