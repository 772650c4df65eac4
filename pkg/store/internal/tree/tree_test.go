package tree

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTreeIsAMap: whatever is done, every version of the tree is what a copied map
// would be, also after later versions were made of it.
func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now Tree[int]
		model := map[string]int{}
		var versions []Tree[int]
		var models []map[string]int
		for i, op := range rapid.SliceOfN(rapid.Custom(genOp), 1, 60).Draw(t, "ops") {
			if op.delete {
				now = now.Delete(op.key)
				delete(model, op.key)
			} else {
				now = now.Set(op.key, i)
				model[op.key] = i
			}
			versions, models = append(versions, now), append(models, maps.Clone(model))
		}
		for i := range versions {
			check(t, versions[i], models[i])
		}
	})
}

func TestBuilder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := map[string]int{}
		for _, k := range rapid.SliceOf(rapid.StringMatching(`[a-d]{0,3}`)).Draw(t, "keys") {
			model[k] = len(model)
		}
		var b Builder[int]
		for _, k := range slices.Sorted(maps.Keys(model)) {
			b.Add(k, model[k])
		}
		check(t, b.Tree(), model)
		if err := b.Tree().root.wellFormed(); err != nil {
			t.Fatal(err)
		}
	})
}

type op struct {
	delete bool
	key    string
}

func genOp(t *rapid.T) op {
	return op{rapid.Bool().Draw(t, "delete"), rapid.StringMatching(`[a-c]{0,2}`).Draw(t, "key")}
}

func check(t *rapid.T, tree Tree[int], model map[string]int) {
	if tree.Len() != len(model) {
		t.Fatalf("tree has %d keys, expected %d", tree.Len(), len(model))
	}
	for _, from := range []string{"", "a", "b", "bb", "zz"} {
		var got []string
		for k, v := range tree.From(from) {
			if v != model[k] {
				t.Fatalf("%q is %d, expected %d", k, v, model[k])
			}
			got = append(got, k)
		}
		want := slices.DeleteFunc(slices.Sorted(maps.Keys(model)), func(k string) bool { return k < from })
		if !slices.Equal(got, want) {
			t.Fatalf("from %q: %q, expected %q", from, got, want)
		}
	}
	for k, v := range model {
		if got, ok := tree.Get(k); !ok || got != v {
			t.Fatalf("get %q: %d, %v", k, got, ok)
		}
	}
	if _, ok := tree.Get("absent"); ok {
		t.Fatal("an absent key is there")
	}
	if err := tree.root.wellFormed(); err != nil {
		t.Fatal(err)
	}
}

// wellFormed checks the heap, on which the depth depends.
func (n *node[V]) wellFormed() error {
	if n == nil {
		return nil
	}
	for _, c := range []*node[V]{n.left, n.right} {
		if c == nil {
			continue
		}
		if c.priority > n.priority {
			return fmt.Errorf("%q outranks its parent %q", c.key, n.key)
		}
		if err := c.wellFormed(); err != nil {
			return err
		}
	}
	return nil
}

func build(n int) (Tree[int], []string) {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("/pgctrl/desired/clusters/pg-%05d/members/pg-%05d-1", i/10, i)
	}
	var b Builder[int]
	for i, k := range keys {
		b.Add(k, i)
	}
	return b.Tree(), keys
}

func BenchmarkSet50000(b *testing.B) {
	t, keys := build(50_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		t = t.Set(keys[i*7919%len(keys)], i)
	}
}

func BenchmarkGet50000(b *testing.B) {
	t, keys := build(50_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := t.Get(keys[i*7919%len(keys)]); !ok {
			b.Fatal("lost")
		}
	}
}

func BenchmarkBuild50000(b *testing.B) {
	_, keys := build(50_000)
	for b.Loop() {
		var t Builder[int]
		for i, k := range keys {
			t.Add(k, i)
		}
	}
}
