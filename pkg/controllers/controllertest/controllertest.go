// Package controllertest runs controllers on clusters that are written down as
// text: a txtar file whose entries are etcd keys. It is for tests only.
package controllertest

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var update = flag.Bool("update", false, "write golden files instead of comparing")

// Now is the time in every test.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Load reads a cluster: each entry of the file is a key, revisions count from 1 in
// the order of the file. A last newline is no part of a value.
func Load(t testing.TB, file string) *kv.Map {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := kv.NewMap()
	for _, f := range a.Files {
		Put(m, f.Name, strings.TrimSuffix(string(f.Data), "\n"))
	}
	return m
}

// Put writes a key at the next revision.
func Put(m *kv.Map, key, value string) {
	m.At++
	e := kv.KV{Key: key, Value: []byte(value), ModRevision: m.At, CreateRevision: m.At}
	if old, ok := m.Keys[key]; ok {
		e.CreateRevision = old.CreateRevision
	}
	m.Keys[key] = e
}

// Delete removes a key.
func Delete(m *kv.Map, key string) {
	m.At++
	delete(m.Keys, key)
}

// Run plans one cluster. The snapshot holds nothing that the controller has not
// declared, and reading anything else fails the test; so does a controller that
// answers differently when it is shown plans in their short form, as in a server.
func Run(t testing.TB, c controllers.Controller, m *kv.Map, cluster string) controllers.Result {
	t.Helper()
	whole := &declared{t: t, Map: m, access: slices.Concat(c.Inputs(), c.Outputs()), cluster: cluster}
	in := controllers.Input{Cluster: cluster, Layout: keys.Default, Now: Now, Snapshot: whole}
	r, err := c.Plan(in)
	if err != nil {
		t.Fatalf("plan %s: %v", cluster, err)
	}
	in.Snapshot = shortened{whole}
	if short, err := c.Plan(in); err != nil || string(text(short)) != string(text(r)) {
		t.Errorf("plan %s from short forms: %v\n%s", cluster, err, cmp.Diff(string(text(r)), string(text(short))))
	}
	for _, o := range r.Outputs {
		ref, err := keys.Default.Parse(o.Key)
		if err != nil || !allowed(c.Outputs(), ref, cluster) {
			t.Errorf("output %s was not declared (%v)", o.Key, err)
		}
	}
	return r
}

// Apply writes a result as the engine would, and reports whether anything changed.
func Apply(m *kv.Map, r controllers.Result) bool {
	changed := false
	for _, o := range r.Outputs {
		old, exists := m.Keys[o.Key]
		if o.Mode == controllers.Delete {
			if exists {
				Delete(m, o.Key)
			}
			changed = changed || exists
			continue
		}
		value := string(o.Value)
		if o.Mode == controllers.Mint {
			value = "secret of " + o.Key
		}
		if o.Mode == controllers.Keep || exists && (o.Mode != controllers.Write || string(old.Value) == value) {
			continue
		}
		Put(m, o.Key, value)
		changed = true
	}
	return changed
}

// Settle plans and applies until nothing changes.
func Settle(t testing.TB, c controllers.Controller, m *kv.Map, cluster string) controllers.Result {
	t.Helper()
	for range 20 {
		r := Run(t, c, m, cluster)
		if !Apply(m, r) {
			return r
		}
	}
	t.Fatal("the controller never settles")
	return controllers.Result{}
}

// Golden compares got with a file; `go test -update` writes it.
func Golden(t testing.TB, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// Deterministic plans many times over maps filled in different orders; every
// answer must be the same bytes.
func Deterministic(t testing.TB, c controllers.Controller, m *kv.Map, cluster string) {
	t.Helper()
	first := text(Run(t, c, m, cluster))
	for range 20 {
		all := make([]kv.KV, 0, len(m.Keys))
		for _, e := range m.Keys {
			all = append(all, e)
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if again := text(Run(t, c, kv.NewMap(all...), cluster)); !bytes.Equal(first, again) {
			t.Fatalf("two answers to one question:\n%s", cmp.Diff(string(first), string(again)))
		}
	}
}

func text(r controllers.Result) []byte {
	var b bytes.Buffer
	for _, o := range r.Outputs {
		fmt.Fprintf(&b, "%s %d %s\n", o.Key, o.Mode, o.Value)
	}
	for _, c := range r.Conditions {
		fmt.Fprintf(&b, "%s %s %s\n", c, c.Key, c.Next)
	}
	return b.Bytes()
}

// declared is a snapshot of what a controller has declared.
type declared struct {
	*kv.Map
	t       testing.TB
	access  []controllers.Access
	cluster string
}

func allowed(access []controllers.Access, ref keys.Ref, cluster string) bool {
	part := ref.Concern
	switch ref.Family {
	case keys.Desired, keys.Defaults, keys.PatroniKey, keys.Secrets:
		part, _ = ref.Document()
	}
	for _, a := range access {
		if a.Family == ref.Family && (a.Part == "" || a.Part == part) &&
			(a.Fleet || ref.Cluster == "" || ref.Cluster == cluster) {
			return true
		}
	}
	return false
}

// shortened shows plans in their short form to who is content with that.
type shortened struct{ *declared }

func (s shortened) GetShort(key string) (kv.KV, bool) {
	e, ok := s.Get(key)
	return short(e), ok
}

func (s shortened) RangeShort(prefix string) []kv.KV {
	out := s.Range(prefix)
	for i := range out {
		out[i] = short(out[i])
	}
	return out
}

func short(e kv.KV) kv.KV {
	if strings.HasPrefix(e.Key, keys.Default.Prefix(keys.Plan)) {
		e.Value = plan.Shorten(e.Value)
	}
	return e
}

func (d *declared) Get(key string) (kv.KV, bool) {
	ref, err := keys.Default.Parse(key)
	if err != nil || !allowed(d.access, ref, d.cluster) {
		d.t.Errorf("read of %s, which is not declared (%v)", key, err)
	}
	return d.Map.Get(key)
}

func (d *declared) Range(prefix string) []kv.KV {
	// Of a range of which nothing is declared the engine refuses the reading itself.
	if ref, err := keys.Default.Parse(prefix + "x"); err == nil &&
		!slices.ContainsFunc(d.access, func(a controllers.Access) bool { return a.Family == ref.Family }) {
		d.t.Errorf("range over %s, of which nothing is declared", prefix)
	}
	var out []kv.KV
	for _, e := range d.Map.Range(prefix) {
		if ref, err := keys.Default.Parse(e.Key); err == nil && allowed(d.access, ref, d.cluster) {
			out = append(out, e)
		}
	}
	return out
}
