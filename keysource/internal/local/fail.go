package local

import "fmt"

// failure is an error of one of keysource's classes with a sentence for the operator. Programs use the class.
type failure struct {
	text  string
	class error
	cause error // may be nil
}

// Fail makes an error with the text of format and args that wraps class and, if there is one, cause.
func Fail(class, cause error, format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...), class: class, cause: cause}
}

// Error returns the sentence.
func (f *failure) Error() string { return f.text }

// Unwrap returns the class and the cause.
func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.class}
	}
	return []error{f.class, f.cause}
}
