//go:build !linux || !(amd64 || arm64)

package diskcalls

// Thread is none here.
type Thread struct{}

// Start fails.
func Start(func(Call)) (*Thread, error) { return nil, ErrUnsupported }

// Do does nothing.
func (t *Thread) Do(func()) {}

// Close does nothing.
func (t *Thread) Close() error { return nil }
