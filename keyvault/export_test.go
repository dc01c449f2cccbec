package keyvault

import "context"

// ReadBlob reads a transfer blob.
func ReadBlob(text []byte) (exchangeKey string, wrapped []byte, err error) {
	b, err := readBlob(text)
	return b.exchangeKey, b.wrapped, err
}

// Attend does the work that is due now, as Run does, whoever has the claim of it: a process that was paused may.
func (s *Service) Attend(ctx context.Context) error {
	_, err := s.attend(ctx)
	return err
}
