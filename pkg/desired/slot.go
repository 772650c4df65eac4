package desired

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
)

// Slot is a replication slot that is to survive a change of the leader.
type Slot struct {
	Name string
	// Type is physical or logical; Database and Plugin are a logical one's.
	Type, Database, Plugin string
	// Absent: it is to be dropped.
	Absent bool
}

// SlotList returns the permanent slots, sorted by name.
func (p *Postgres) SlotList() []Slot {
	var out []Slot
	for _, entry := range sortedKeys(p.Slots) {
		name, setting, _ := strings.Cut(entry, ".")
		if n := len(out); n == 0 || out[n-1].Name != name {
			out = append(out, Slot{Name: name})
		}
		s, v := &out[len(out)-1], scalarValue(p.Slots[entry]).source
		switch setting {
		case "type":
			s.Type = v
		case "database":
			s.Database = v
		case "plugin":
			s.Plugin = v
		case "state":
			s.Absent = v == absent
		}
	}
	return out
}

// slotField is where a problem with a slot as a whole is shown: its first entry.
func (p *Postgres) slotField(name string) string {
	for _, entry := range sortedKeys(p.Slots) {
		if strings.HasPrefix(entry, name+".") {
			return "slots." + entry
		}
	}
	return "slots"
}

// SlotOfMember is the slot that Patroni keeps for a member.
func SlotOfMember(member string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(member))
}

// The kinds of slots.
const (
	physicalSlot = "physical"
	logicalSlot  = "logical"
)

// slotSettings are what an entry can say, and how its value looks.
var slotSettings = map[string]struct {
	words   []string
	pattern *regexp.Regexp
	means   string
}{
	"type":     {words: []string{physicalSlot, logicalSlot}},
	"state":    {words: []string{"present", absent}},
	"database": {pattern: regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`), means: "a database's name"},
	"plugin":   {pattern: regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`), means: "an output plugin's name, such as pgoutput"},
}

// slotName is PostgreSQL's rule for names of slots.
const slotName = `[a-z0-9_]{1,63}`

var slotEntry = regexp.MustCompile(`^(` + slotName + `)\.([^.]+)$`)

// checkSlot checks an entry like "cdc.type: logical".
func checkSlot(entry string, v *value) (canonical, wrong, hint string) {
	m := slotEntry.FindStringSubmatch(entry)
	if m == nil {
		return "", "expected slot.setting, where the slot is lower-case letters, digits and _, found " + quote(entry), ""
	}
	rule, known := slotSettings[m[2]]
	switch {
	case !known:
		return "", fmt.Sprintf("expected a setting of a slot (%s), found %s", strings.Join(sortedKeys(slotSettings), ", "), quote(m[2])),
			near.Hint(m[2], sortedKeys(slotSettings))
	case rule.words != nil && !slices.Contains(rule.words, v.source):
		return "", fmt.Sprintf("expected %s, found %s", strings.Join(rule.words, " or "), v.found()), near.Hint(v.source, rule.words)
	case rule.pattern != nil && !rule.pattern.MatchString(v.source):
		return "", fmt.Sprintf("expected %s, found %s", rule.means, v.found()), ""
	}
	return entry, "", ""
}

// checkSlots checks each slot as a whole.
func checkSlots(d *resolved, p *Postgres) []Problem {
	var out []Problem
	say := func(s Slot, suggestion, format string, args ...any) {
		q := d.problem(p.slotField(s.Name), "slot %s: "+format, append([]any{s.Name}, args...)...)
		q.Suggestion = suggestion
		out = append(out, q)
	}
	for _, s := range p.SlotList() {
		switch {
		case s.Absent:
		case s.Type == "":
			say(s, "", "expected slots.%s.type: physical or logical", s.Name)
		case !p.UseSlots:
			say(s, "set use_slots to true", "expected use_slots: true, without which Patroni makes no slots")
		case s.Type == physicalSlot && s.Database+s.Plugin != "":
			say(s, "", "expected no database and no plugin, which only a logical slot has")
		case s.Type == logicalSlot && (s.Database == "" || s.Plugin == ""):
			say(s, "", "expected slots.%s.database and slots.%s.plugin, which a logical slot needs", s.Name, s.Name)
		case s.Type == logicalSlot && fmt.Sprint(p.Parameters["wal_level"]) != logicalSlot:
			say(s, "set parameters.wal_level to logical", "expected parameters.wal_level: logical, without which there are no logical slots")
		}
	}
	return out
}

// checkMemberSlots finds slots with the name of one that Patroni keeps for a member.
func checkMemberSlots(c *Cluster) []Problem {
	var out []Problem
	d := c.resolved["postgres"]
	for _, s := range c.Postgres.SlotList() {
		for _, m := range c.MemberList() {
			if d != nil && SlotOfMember(m.Name) == s.Name {
				out = append(out, d.problem(c.Postgres.slotField(s.Name), "slot %s: expected another name; Patroni keeps this one for member %s", s.Name, m.Name))
			}
		}
	}
	return out
}

var slotRule = &entryRule{check: checkSlot, pattern: "^" + slotName + `\.(` + strings.Join(sortedKeys(slotSettings), "|") + ")$"}
