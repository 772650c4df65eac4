package kv

// Shortened is a Snapshot that holds some long values in a short form. Get and Range
// give them whole all the same, at the price of asking etcd; who needs no more of
// them than the short form says reads that instead.
type Shortened interface {
	Snapshot
	// GetShort and RangeShort are Get and Range with values in the form in which they
	// are held: short or whole.
	GetShort(key string) (KV, bool)
	RangeShort(prefix string) []KV
}

// GetShort reads a key of which the short form is enough.
func GetShort(s Snapshot, key string) (KV, bool) {
	if h, ok := s.(Shortened); ok {
		return h.GetShort(key)
	}
	return s.Get(key)
}

// RangeShort reads keys of which the short form is enough.
func RangeShort(s Snapshot, prefix string) []KV {
	if h, ok := s.(Shortened); ok {
		return h.RangeShort(prefix)
	}
	return s.Range(prefix)
}
