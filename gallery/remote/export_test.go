package remote

// ReencodeAsk reads a request and writes it again.
func ReencodeAsk(b []byte) ([]byte, error) {
	a, err := decodeAsk(b)
	if err != nil {
		return nil, err
	}
	return a.encode(), nil
}

// ReencodeAnswer reads an answer and writes it again.
func ReencodeAnswer(b []byte) ([]byte, error) {
	a, err := decodeAnswer(b)
	if err != nil {
		return nil, err
	}
	return a.encode(), nil
}

// Body returns the body of a request, and its bytes.
func Body(b []byte) (body interface {
	Read([]byte) (int, error)
	Close() error
}) {
	return newSecretBody(b)
}
