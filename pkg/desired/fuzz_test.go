package desired

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

// FuzzDocument: any bytes give a document or problems, and whatever is set in any
// text that can be read means exactly what was asked for.
func FuzzDocument(f *testing.F) {
	if a, err := txtar.ParseFile("testdata/problems.txtar"); err == nil {
		for _, file := range a.Files {
			f.Add(file.Data)
		}
	}
	f.Add([]byte("port: 5440 # x\nparameters:\n    a: 1\n    # b\n    c: |\n      # d\nttl: 40s\n"))
	f.Add([]byte("? {a: b}\n: - - c\n"))
	f.Add([]byte("a: 'x\n  y'\nb: \"\\u00e9\\\n z\"\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, k := range Kinds() {
			set, problems := k.decode("key", data)
			for _, p := range problems {
				_ = p.String()
			}
			k.withDefaults("primary", set)
		}
		k := registry["postgres"]
		before, ps := k.tree("postgres", data)
		if len(ps) > 0 {
			return
		}
		for _, set := range []string{"port=5999", "parameters.work_mem=7MB"} {
			got, err := SetFields("postgres", data, []string{set})
			if err != nil {
				t.Fatalf("set %s in %q: %v", set, data, err)
			}
			after, ps := k.tree("postgres", got)
			path, value, _ := strings.Cut(set, "=")
			at, _ := k.path(path)
			v, _ := plain(value, 0, 0)
			if len(ps) > 0 || !after.equal(k.change(before, at, v)) {
				t.Fatalf("set %s in %q: %q", set, data, got)
			}
		}
	})
}

// TestHugeDocuments: what is absurd is refused in a bounded time: one that grew with the
// square of the size would take minutes.
func TestHugeDocuments(t *testing.T) {
	for _, unit := range []string{"a: 1\n", "a:\n", "a", "a\n", "{a: ", "[", "- ", "? ", "'", "\"", "# x\n", "&a ", "!t ", "a: {b: c}\n", "|\n x\n", "\\", "- a\n", "a: - b\n", "%", "\t", ": "} {
		for _, size := range []int{MaxDocument - 100, 2 << 20} {
			data := []byte(strings.Repeat(unit, size/len(unit)))
			start := time.Now()
			_, ps := registry["postgres"].decode("k", data)
			if d := time.Since(start); d > time.Minute {
				t.Errorf("%q: %s", unit, d)
			}
			if len(ps) == 0 && unit != "# x\n" && unit != "\t" {
				t.Errorf("%q: no problem", unit)
			}
			if size > MaxDocument {
				want(t, ps[0].Message, fmt.Sprintf("expected a document of at most 256 KiB, found %d KiB", (len(data)+1023)>>10))
			}
		}
	}
}

// tree draws any tree that a document could have.
func drawTree(t *rapid.T, depth int) *value {
	kinds := []shape{boolean, integer, float, text}
	if depth < 3 {
		kinds = append(kinds, list, mapping)
	}
	word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"off", "yes", "null", "~", "0o7", "1e3", "-", "- a", "a: b", "#", " a", "a ", "a #b", "%m [%p]", "*", "&a", "!x", "|", ">", "'", "\"", "{", "[", "a:", "...", "---", "=", "<<", "@", "`", "a, b", "é", "\u2028", "\ufeff", "\\n",
	})).Filter(func(s string) bool {
		return strings.IndexFunc(s, isControl) < 0 && !strings.ContainsAny(s, "\u0085\ufeff\ufffd")
	})
	switch s := rapid.SampledFrom(kinds).Draw(t, "shape"); s {
	case boolean:
		return scalarValue(rapid.Bool().Draw(t, "bool"))
	case integer:
		return scalarValue(rapid.Int64().Draw(t, "int"))
	case float:
		return scalarValue(rapid.Float64().Draw(t, "float"))
	case text:
		return scalarValue(word.Draw(t, "text"))
	case list:
		v := &value{shape: list}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			v.items = append(v.items, drawTree(t, depth+1))
		}
		return v
	}
	return drawMapping(t, word, depth)
}

func drawMapping(t *rapid.T, word *rapid.Generator[string], depth int) *value {
	v := &value{shape: mapping}
	for range rapid.IntRange(0, 3).Draw(t, "pairs") {
		key := word.Draw(t, "key")
		if _, dup := v.get(key); !dup && key != "" {
			v.pairs = append(v.pairs, pair{key: key, value: drawTree(t, depth+1)})
		}
	}
	return v
}

func TestRenderIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawMapping(t, rapid.StringMatching(`[a-z][a-z0-9_.]{0,8}|[A-Z ]{1,3}|"|'|: |#|- |[0-9]{1,3}`), 0)
		text := render(v)
		r := &reader{}
		got := r.read(text)
		if len(r.problems) > 0 || !got.equal(v) {
			t.Fatalf("%q: %v", text, r.problems)
		}
	})
}

// TestParseIsReadBack: whatever document is accepted, written down by its effective
// fields it is the same document.
func TestParseIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(Kinds()).Draw(t, "kind")
		root := &value{shape: mapping}
		for _, f := range k.Fields {
			if x, ok := drawField(t, f); ok {
				root = k.change(root, strings.Split(f.Path, "."), x)
			}
		}
		set, ps := k.decode("a", render(root))
		if len(ps) > 0 {
			t.Fatalf("%s: %v", render(root), ps)
		}
		var b strings.Builder
		last := ""
		for _, path := range set.paths() {
			if set[path].entry != "" {
				continue
			}
			name, group := path, ""
			if i := strings.LastIndexByte(path, '.'); i >= 0 {
				name, group = "  "+path[i+1:], path[:i]+":\n"
			}
			if group != last {
				b.WriteString(group) // those of one are together
			}
			last = group
			fmt.Fprintf(&b, "%s: %s\n", name, spell(set[path].value))
		}
		again, ps := k.decode("a", []byte(b.String()))
		if len(ps) > 0 {
			t.Fatalf("%s: %v", b.String(), ps)
		}
		for path, s := range set {
			if s.entry == "" && !reflect.DeepEqual(again[path].value, s.value) {
				t.Fatalf("%s: %v is read back as %v", path, s.value, again[path].value)
			}
		}
	})
}

func drawField(t *rapid.T, f Field) (*value, bool) {
	if !rapid.Bool().Draw(t, f.Path) || f.Type == Map {
		return nil, false
	}
	low, high := int64(0), int64(1<<40)
	if f.min != nil {
		low = *f.min
	}
	if f.max != nil {
		high = *f.max
	}
	switch {
	case f.Type == Integer:
		return scalarValue(rapid.Int64Range(low, high).Draw(t, "int")), true
	case f.Type == Boolean:
		return scalarValue(rapid.Bool().Draw(t, "bool")), true
	case f.Type == Span:
		ms := rapid.Int64Range(low/1e6, min(high, 1<<50)/1e6).Draw(t, "ms")
		return scalarValue(Duration(ms * 1e6)), true
	case f.Type == ByteSize:
		return scalarValue(Size(rapid.Int64Range(low, high).Draw(t, "bytes"))), true
	case f.Type == List && f.Format == "url":
		return &value{shape: list, items: []*value{scalarValue("http://10.0.0.1:3100")}}, true
	case f.Type == List && f.Format != "":
		return &value{shape: list, items: []*value{scalarValue("all")}}, true
	case f.Type == List && len(f.Enum) == 0:
		return &value{shape: list, items: []*value{scalarValue("some-name")}}, true
	case f.Type == List:
		return &value{shape: list, items: []*value{scalarValue(f.Enum[0])}}, true
	case len(f.Enum) > 0:
		return scalarValue(rapid.SampledFrom(f.Enum).Draw(t, "enum")), true
	case f.Format == "ip":
		return scalarValue(rapid.SampledFrom([]string{"10.0.0.1", "::1", "2001:db8::5"}).Draw(t, "ip")), true
	case f.Format == "cidr":
		return scalarValue(rapid.SampledFrom([]string{"10.0.0.9/24", "2001:db8::9/64"}).Draw(t, "cidr")), true
	case f.Format == "path":
		return scalarValue("/data/pg"), true
	case f.Format == "webhook":
		return scalarValue(rapid.SampledFrom([]string{"http://localhost:9/x", "https://hooks.example.org?team=db"}).Draw(t, "webhook")), true
	case f.Format == "endpoint":
		return scalarValue(rapid.SampledFrom([]string{"minio", "s3.example.org:9000"}).Draw(t, "endpoint")), true
	case f.Format == "bucket":
		return scalarValue("pg-backups"), true
	case f.Format == "cluster":
		return scalarValue("pg-test"), true
	case f.Format == "label":
		return scalarValue(rapid.SampledFrom([]string{"20261126-010000F", "20261126-010000F_20261127-010000I"}).Draw(t, "label")), true
	case f.Format == "target":
		return scalarValue(rapid.SampledFrom([]string{"2026-11-26 12:30:00+00", "0/3000028", "before-migration"}).Draw(t, "target")), true
	case f.Format == "region":
		return scalarValue("eu-central-1"), true
	case f.Format == "domain":
		return scalarValue(rapid.SampledFrom([]string{"db", "db.example.org"}).Draw(t, "domain")), true
	case f.Format == "time":
		return scalarValue(rapid.SampledFrom([]string{"2026-01-31T18:30:00Z", "2026-01-31t18:30:00.5+02:00"}).Draw(t, "time")), true
	}
	return scalarValue(rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9.-]{0,8}`).Draw(t, "text")), true
}
