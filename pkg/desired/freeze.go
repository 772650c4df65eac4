package desired

import (
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Freeze leaves concerns of a cluster alone for a while: freeze.
type Freeze struct {
	Meta     `yaml:"-"`
	Concerns []string `yaml:"concerns" enum:"all,postgres,databases,pgbouncer,haproxy,vip,backup,dns,log,monitor" effect:"none" example:"[haproxy]" says:"What is left alone: nothing of it is applied or repaired, and it goes on to follow the leader; all, or an empty list, is everything."`
	Until    string   `yaml:"until" pattern:"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$" format:"time" note:"no freeze" effect:"none" example:"2026-01-31T18:30:00Z" says:"When it ends by itself, as a time of RFC 3339, by the clock of each node."`
	Owner    string   `yaml:"owner" note:"nobody" effect:"none" example:"bob@infra1" says:"Who asked for it."`
	Reason   string   `yaml:"reason" note:"none" effect:"none" example:"maintenance" says:"Why."`
}

// AllConcerns in a freeze's list is every concern.
const AllConcerns = "all"

// FreezeConcerns are the concerns that a freeze can name, without AllConcerns.
func FreezeConcerns() []string {
	k := registry["freeze"]
	f, _, _ := k.field("concerns")
	return slices.DeleteFunc(slices.Clone(f.Enum), func(s string) bool { return s == AllConcerns })
}

// Covers reports whether the freeze is about a concern, whether or not it has ended.
func (f *Freeze) Covers(concern string) bool {
	return f.Until != "" && (len(f.Concerns) == 0 || slices.Contains(f.Concerns, AllConcerns) || slices.Contains(f.Concerns, concern))
}

// End is when the freeze ends; zero when there is none.
func (f *Freeze) End() time.Time {
	t, err := time.Parse(time.RFC3339, f.Until)
	if err != nil {
		return time.Time{} // checkFreeze says so
	}
	return t.UTC()
}

// maxFreezeText keeps people's words from filling every plan of the cluster.
const maxFreezeText = 500

func checkFreeze(d *resolved) []Problem {
	f := d.doc.(*Freeze)
	var out []Problem
	if f.Until != "" && f.End().IsZero() {
		out = append(out, d.problem("until", "expected a time such as \"2026-01-31T18:30:00Z\", found %q", f.Until))
	}
	if f.Until == "" && f.ModRevision > 0 {
		out = append(out, d.problem("until", "expected a time, because a freeze ends by itself, found nothing"))
	}
	for field, text := range map[string]string{"owner": f.Owner, "reason": f.Reason} {
		if len(text) > maxFreezeText {
			out = append(out, d.problem(field, "expected at most %d bytes, found %d", maxFreezeText, len(text)))
		}
	}
	return out
}

var _ = register(Kind{
	Name:    "freeze",
	Meaning: "Concerns that are left alone for a while (pgctrl freeze writes it).",
	check:   checkFreeze,
	store:   func(c *Cluster, _ string, doc any) { c.Freeze = *doc.(*Freeze) },
}, Freeze{}, nil)

// ReadFreeze reads a freeze document's own fields.
func ReadFreeze(text []byte) (Freeze, error) {
	k := registry["freeze"]
	d := k.resolve(k.Name, k.Name, []layer{{kv: kv.KV{Key: k.Name, Value: text, ModRevision: 1}}})
	f := *d.doc.(*Freeze)
	if len(d.problems) > 0 {
		return Freeze{}, Problems(d.problems)
	}
	return f, nil
}
