package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// trap is a text that looks like the parts of a stored plan.
const trap = `x{"address":"10.0.0.1/24","resources":[{"patroni":"no"}] "primary":{"role": "postgresql":{"parameters":{"no":1}}`

func trapped() Plan {
	return Plan{
		Schema: Schema, Writer: trap, Store: "s", UID: "u", Inputs: Inputs{7},
		Cluster: Cluster{Name: "c", Member: trap, Members: []Member{{Name: trap, Node: "n"}}},
		Secrets: map[string]int64{"a": 1},
		Resources: Resources{
			Unit{Unit: "u", Program: "haproxy", Files: []File{{Path: "/f", Content: trap}}, Routes: map[string]Route{"primary": {Role: RoutePrimary, Pooled: true}, "replica": {Role: RouteReplica}}},
			Patroni{Patroni: "c", Config: map[string]any{"ttl": 30.0, "x": trap, "postgresql": map[string]any{
				"parameters": map[string]any{"work_mem": "16MB", "x.y": nil, "a\"b": trap, "max_connections": 100}, "use_slots": true,
			}}},
			Address{Address: "fd00::9/64", Interface: trap},
		},
	}
}

// TestShortIsWhatDecodeReads: whatever the texts in a plan are, its short form and what
// is read of the whole say the same.
func TestShortIsWhatDecodeReads(t *testing.T) {
	p := trapped()
	spaced, err := json.MarshalIndent(p, "", " ") // laid out by somebody else
	if err != nil {
		t.Fatal(err)
	}
	want := p
	want.Resources = nil
	for name, value := range map[string][]byte{"whole": Encode(p), "short": Shorten(Encode(p)), "by somebody else": spaced, "that, short": Shorten(spaced)} {
		s, err := ReadShort(value)
		if d := cmp.Diff(want, s.Plan); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
		if d := cmp.Diff([]string{"a\"b", "max_connections", "work_mem", "x.y"}, s.Parameters); d != "" {
			t.Errorf("%s: parameters: %s", name, d)
		}
		if d := cmp.Diff([]string{"primary", "replica"}, s.Backends); d != "" {
			t.Errorf("%s: backends: %s", name, d)
		}
		if d := cmp.Diff([]string{"primary"}, s.Pooled); d != "" {
			t.Errorf("%s: pooled: %s", name, d)
		}
		if d := cmp.Diff([]string{"fd00::9/64"}, s.Addresses); d != "" {
			t.Errorf("%s: addresses: %s", name, d)
		}
		if !s.SameBut(func(*Plan) {}, p) {
			t.Errorf("%s: it is not what it was made of", name)
		}
	}
	first := Patroni{Patroni: "c", Config: map[string]any{"postgresql": map[string]any{"listen": "*", "parameters": map[string]any{"a": 1}}}}
	if s, _ := ReadShort(Encode(Plan{Resources: Resources{first}})); !slices.Equal(s.Parameters, []string{"a"}) {
		t.Errorf("parameters behind another field: %v", s.Parameters)
	}
	if s, err := ReadShort(Encode(Plan{Resources: p.Resources[:1]})); err != nil || s.Parameters != nil {
		t.Errorf("a plan without dynamic configuration has %v, %v", s.Parameters, err)
	}
}

// TestShortOfWhatIsNoPlan: errors are Decode's, and a short form is never a plan.
func TestShortOfWhatIsNoPlan(t *testing.T) {
	newer := trapped()
	newer.Schema = Schema + 1
	for _, value := range [][]byte{Encode(newer), Shorten(Encode(newer)), []byte(fmt.Sprintf(`{"schema":%d,"writer":7,"resources":[]}`, Schema+1))} {
		if _, err := ReadShort(value); !errors.Is(err, ErrSchema) {
			t.Errorf("a newer schema: %v", err)
		}
	}
	short := Shorten(Encode(trapped()))
	if _, err := Decode(short); err == nil || !IsShort(short) {
		t.Error("a short form was read as a plan")
	}
	// Whoever writes a short form as a plan does not make anybody believe in it.
	if s, err := ReadShort(Shorten(short)); err == nil || s.Is(Encode(trapped())) || !s.Is(short) {
		t.Errorf("a short form that somebody wrote is a plan: %v", err)
	}
	for _, value := range []string{"", "{", "{}}", "\x00", "\x00,\"resources\":", `,"resources":`} {
		if s, err := ReadShort(Shorten([]byte(value))); err == nil || !s.Is([]byte(value)) {
			t.Errorf("%q: %v, %v", value, err, s)
		}
		if held := Shorten([]byte(value)); !Same(held, []byte(value)) || Same(held, []byte(value+" ")) {
			t.Errorf("%q: its short form is not its own", value)
		}
	}
	for n := range short {
		if s, _ := ReadShort(short[:n]); s.Is(Encode(trapped())) {
			t.Fatalf("%d bytes of a short form are all of it", n)
		}
	}
}

// TestShortIsAsExactAsTheWhole: any change of any byte is seen, and that two plans ask
// the same but for what is not to count is seen as by comparing all of them.
func TestShortIsAsExactAsTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := somePlan(t), somePlan(t)
		a, b := Encode(p), Encode(q)
		s, err := ReadShort(Shorten(a))
		if err != nil {
			t.Fatal(err)
		}
		if s.Is(b) != bytes.Equal(a, b) {
			t.Fatalf("the same by short form: %v\n%s\n%s", s.Is(b), a, b)
		}
		strip := func(p *Plan) { p.Inputs, p.Writer, p.Freeze = Inputs{}, "", nil }
		x, y := p, q
		strip(&x)
		strip(&y)
		if same := bytes.Equal(Encode(x), Encode(y)); s.SameBut(strip, q) != same {
			t.Fatalf("the same content: %v by the whole\n%s\n%s", same, a, b)
		}
		i, c := rapid.IntRange(0, len(a)-1).Draw(t, "byte"), rapid.Byte().Draw(t, "becomes")
		other := slices.Clone(a)
		other[i] = c
		if s.Is(other) != (a[i] == c) || Same(Shorten(a), other) != (a[i] == c) {
			t.Fatalf("byte %d became %q unseen", i, c)
		}
	})
}

// somePlan has few values for everything, so that two of them are often alike.
func somePlan(t *rapid.T) Plan {
	text := rapid.SampledFrom([]string{"", "a", trap})
	p := Plan{
		Schema: Schema, Writer: text.Draw(t, "writer"), UID: "u", Inputs: Inputs{rapid.Int64Range(0, 1).Draw(t, "inputs")},
		Cluster: Cluster{Name: "c", Member: text.Draw(t, "member")},
	}
	if rapid.Bool().Draw(t, "frozen") {
		p.Freeze = &Freeze{Owner: text.Draw(t, "owner")}
	}
	if rapid.Bool().Draw(t, "unit") {
		p.Resources = append(p.Resources, Unit{Unit: "u", Files: []File{{Content: text.Draw(t, "content")}}})
	}
	return p
}
