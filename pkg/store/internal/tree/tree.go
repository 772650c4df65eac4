// Package tree is a persistent ordered map from strings: every change returns a
// new map that shares all but a path of about twenty nodes with the old one. A
// mirror of fifty thousand keys can therefore hand out a snapshot after every
// event for the price of a pointer, and a reader may keep one for as long as it
// likes without holding up anybody.
//
// It is a treap (a search tree by key, a heap by the key's hash), which stays
// balanced without rules about balance.
package tree

import (
	"hash/maphash"
	"iter"
)

// seed is chosen per process, so that nobody who can choose keys can choose the shape.
var seed = maphash.MakeSeed()

// Tree is the map; its zero value is empty. Values are shared between versions
// and must not be changed.
type Tree[V any] struct {
	root *node[V]
	size int
}

type node[V any] struct {
	key         string
	value       V
	priority    uint64
	left, right *node[V]
}

func newNode[V any](key string, value V) *node[V] {
	return &node[V]{key: key, value: value, priority: maphash.String(seed, key)}
}

// Len is the number of keys.
func (t Tree[V]) Len() int { return t.size }

// Get returns the value of key.
func (t Tree[V]) Get(key string) (V, bool) {
	for n := t.root; n != nil; {
		switch {
		case key < n.key:
			n = n.left
		case key > n.key:
			n = n.right
		default:
			return n.value, true
		}
	}
	var zero V
	return zero, false
}

// Set returns a map in which key has the value.
func (t Tree[V]) Set(key string, value V) Tree[V] {
	root, added := set(t.root, newNode(key, value))
	if added {
		t.size++
	}
	t.root = root
	return t
}

// set inserts the fresh node x below n, copying the path to it.
func set[V any](n, x *node[V]) (*node[V], bool) {
	if n == nil {
		return x, true
	}
	c := *n
	var added bool
	switch {
	case x.key < n.key:
		c.left, added = set(n.left, x)
		// A child that outranks its parent moves above it. It was copied on the way
		// down, so it may be changed.
		if l := c.left; l.priority > c.priority {
			c.left, l.right = l.right, &c
			return l, added
		}
	case x.key > n.key:
		c.right, added = set(n.right, x)
		if r := c.right; r.priority > c.priority {
			c.right, r.left = r.left, &c
			return r, added
		}
	default:
		c.value = x.value
	}
	return &c, added
}

// Delete returns a map without key.
func (t Tree[V]) Delete(key string) Tree[V] {
	if _, ok := t.Get(key); !ok {
		return t
	}
	return Tree[V]{root: remove(t.root, key), size: t.size - 1}
}

func remove[V any](n *node[V], key string) *node[V] {
	if key == n.key {
		return join(n.left, n.right)
	}
	c := *n
	if key < n.key {
		c.left = remove(n.left, key)
	} else {
		c.right = remove(n.right, key)
	}
	return &c
}

// join makes one tree of two, all keys of l being less than all of r.
func join[V any](l, r *node[V]) *node[V] {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.priority > r.priority:
		c := *l
		c.right = join(l.right, r)
		return &c
	default:
		c := *r
		c.left = join(l, r.left)
		return &c
	}
}

// From walks the keys that are not less than key, in order.
func (t Tree[V]) From(key string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { walk(t.root, key, yield) }
}

func walk[V any](n *node[V], from string, yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	if n.key < from {
		return walk(n.right, from, yield)
	}
	return walk(n.left, from, yield) && yield(n.key, n.value) && walk(n.right, from, yield)
}

// Builder makes a tree from keys that arrive in ascending order, in linear time:
// a first list of fifty thousand keys need not copy fifty thousand paths.
type Builder[V any] struct {
	// spine is the right edge of the tree so far, the root first.
	spine []*node[V]
	size  int
}

// Add appends a key, which must be greater than all before it.
func (b *Builder[V]) Add(key string, value V) {
	x := newNode(key, value)
	i := len(b.spine)
	for i > 0 && b.spine[i-1].priority < x.priority {
		i--
	}
	if i < len(b.spine) {
		x.left = b.spine[i]
	}
	if i > 0 {
		b.spine[i-1].right = x
	}
	b.spine = append(b.spine[:i], x)
	b.size++
}

// Tree returns the result; the builder is not to be used afterwards.
func (b *Builder[V]) Tree() Tree[V] {
	if len(b.spine) == 0 {
		return Tree[V]{}
	}
	return Tree[V]{root: b.spine[0], size: b.size}
}
