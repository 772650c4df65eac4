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
// ask at once may both have to work it out.
func (m *Memo[K, V]) Get(k K, answer func() V) V {
	v, ok := m.Peek(k)
	if !ok {
		v = answer()
		m.Put(k, v)
	}
	return v
}

// Peek returns the answer for k if it is remembered.
func (m *Memo[K, V]) Peek(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.young[k]
	if !ok {
		if v, ok = m.old[k]; ok {
			m.put(k, v) // asked for again, so it outlives its generation
		}
	}
	return v, ok
}

// Put remembers an answer, in the place of an earlier one.
func (m *Memo[K, V]) Put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(k, v)
}

func (m *Memo[K, V]) put(k K, v V) {
	if len(m.young) >= m.size {
		m.old, m.young = m.young, make(map[K]V, m.size)
	}
	m.young[k] = v
}
