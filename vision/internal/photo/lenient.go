package photo

import "fmt"

// mayLack is the fraction of a picture that may be missing, one in so many parts. A file without its last bytes is read
// as browsers show it, but half a picture is not: not to find a face that would have been in the rest is a wrong
// answer.
const mayLack = 8

// lacking judges a picture of which some rows or other parts are missing.
func lacking(name string, missing, all int) (note string, err error) {
	switch {
	case missing <= 0:
		return "", nil
	case missing*mayLack > all:
		return "", cutOff()
	}
	return fmt.Sprintf("%s file that ends early: %d of %d parts are missing", name, missing, all), nil
}

// cutOff refuses a file of which too much is missing.
func cutOff() error {
	return unsupported(fmt.Sprintf(
		"the image is incomplete: more than 1/%d of its pixels are missing from the file; send the whole file",
		mayLack))
}

// unsupported is an error about content of a known kind that is not read or is missing, in words for the sender.
func unsupported(message string) error { return &Error{Kind: Broken, Message: message} }
