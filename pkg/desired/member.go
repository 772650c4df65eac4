package desired

import (
	"regexp"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Member is one PostgreSQL instance of a cluster on a node: members/<member>.
type Member struct {
	Meta             `yaml:"-"`
	Node             string         `yaml:"node" format:"node" required:"true" own:"true" effect:"rebuild" example:"pg3" says:"The node it runs on; it never changes: add a member there and remove this one."`
	Offline          bool           `yaml:"offline" default:"false" effect:"reload" example:"true" says:"Serves the offline service (reports, copies) and never leads."`
	Delay            Duration       `yaml:"delay" default:"0s" min:"0s" max:"576h" effect:"reload" example:"1h" says:"It replays what the primary did only after this time, as a way back from a mistake. A delayed member never leads, is no synchronous standby, and serves no replica service."`
	FailoverPriority int            `yaml:"failover_priority" default:"1" min:"0" max:"1000" effect:"reload" example:"2" says:"Which of equally good replicas leads next, the highest first; 0 never leads. Telling values above 0 apart needs Patroni 3.2, older ones treat them alike."`
	Weight           int            `yaml:"weight" default:"100" min:"0" max:"256" effect:"reload" example:"50" says:"Its share of the connections to services that go to several members; 0 takes no new ones."`
	State            string         `yaml:"state" default:"present" enum:"present,absent" own:"true" effect:"move" example:"absent" says:"absent removes it: routes leave it out, then it is stopped and disabled; its data are kept. The leader is refused. See pgctrl remove."`
	Tags             map[string]any `yaml:"tags" effect:"reload" example:"clonefrom=true" says:"Further tags for Patroni, such as clonefrom or nosync, and tags of your own."`
}

// CanLead reports whether the member may become the primary.
func (m *Member) CanLead() bool { return !m.Offline && !m.Delayed() && m.FailoverPriority > 0 }

// Delayed reports whether the member replays late on purpose.
func (m *Member) Delayed() bool { return m.Delay > 0 }

// Absent reports whether the member is to be removed.
func (m *Member) Absent() bool { return m.State == absent }

const tagPattern = `^[A-Za-z_][A-Za-z0-9_-]{0,62}$`

var (
	tagName = regexp.MustCompile(tagPattern)
	ownTags = map[string]string{
		"nofailover":        "set the member's field failover_priority to 0 instead",
		"failover_priority": "set the member's field failover_priority instead",
	}
)

func checkTag(name string, v *value) (string, string, string) {
	if !tagName.MatchString(name) {
		return "", "expected a tag name: a letter, then letters, digits, _ and -; found " + quote(name), ""
	}
	if why, own := ownTags[name]; own {
		return "", "pgctrl sets this tag itself", why
	}
	return name, "", ""
}

var _ = register(Kind{
	Name: "members", Named: true,
	Meaning:   "One PostgreSQL instance of the cluster, on one node.",
	checkName: keys.CheckMember,
	store:     func(c *Cluster, name string, doc any) { c.Members[name] = doc.(*Member) },
}, Member{}, map[string]*entryRule{
	"tags": {check: checkTag, pattern: tagPattern, refused: sortedKeys(ownTags)},
})
