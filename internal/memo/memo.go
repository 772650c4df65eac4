// Package memo remembers the newest answers of a pure function. Nobody can tell that
// it is there but by the time an answer takes.
package memo

import "sync"

// Memo holds between size and twice as many answers, those that were asked for last.
// Answers are shared by all who get them, so they must not be changed.
type Memo[K comparable, V any] struct {
	mu         sync.Mutex
	size       int
	young, old map[K]V
}

// New returns an empty memo.
func New[K comparable, V any](size int) *Memo[K, V] {
	return &Memo[K, V]{size: size, young: map[K]V{}}
}

// Get returns the answer for k, which is asked for when it is not remembered. Two who
// ask at once may both work it out, and get the same one.
func (m *Memo[K, V]) Get(k K, answer func() V) V {
	m.mu.Lock()
	v, ok := m.find(k)
	m.mu.Unlock()
	if ok {
		return v
	}
	v = answer()
	m.mu.Lock()
	defer m.mu.Unlock()
	if first, ok := m.find(k); ok {
		return first
	}
	m.put(k, v)
	return v
}

func (m *Memo[K, V]) find(k K) (V, bool) {
	v, ok := m.young[k]
	if !ok {
		if v, ok = m.old[k]; ok {
			m.put(k, v) // asked for again, so it outlives its generation
		}
	}
	return v, ok
}

func (m *Memo[K, V]) put(k K, v V) {
	if len(m.young) >= m.size {
		m.old, m.young = m.young, make(map[K]V, m.size)
	}
	m.young[k] = v
}
