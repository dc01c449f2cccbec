package keyvault

// ReadBlob reads a transfer blob.
func ReadBlob(text []byte) (exchangeKey string, wrapped []byte, err error) {
	b, err := readBlob(text)
	return b.exchangeKey, b.wrapped, err
}
