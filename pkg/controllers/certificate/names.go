package certificate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

const require = desired.TLSRequire

// period is how often a certificate is made anew. It is good for a year, so servers may
// be away for most of one before anybody notices.
const period = 90 * 24 * time.Hour

// Wanted is the name of the secret with the certificate that the cluster should have now.
func Wanted(in controllers.Input, t *topology.Topology) string {
	return keys.TLSSecret(Hash(in, t, Names(in, t)))
}

// Hash is the name of a certificate with names that is made in the present period.
func Hash(in controllers.Input, t *topology.Topology, names []string) string {
	n, _ := Turn(t, in.Now)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s", n, strings.Join(names, "\n")))
	return hex.EncodeToString(sum[:])[:12]
}

// Turn is the number of the period, and when it ends. Each cluster's periods begin at
// times of their own, so that a fleet does not renew everything on one day.
func Turn(t *topology.Topology, now time.Time) (n int64, ends time.Time) {
	sum := sha256.Sum256([]byte(t.Formed.UID))
	shift := int64(binary.BigEndian.Uint64(sum[:8]) % uint64(period/time.Second))
	n = (now.Unix() + shift) / int64(period/time.Second)
	return n, time.Unix((n+1)*int64(period/time.Second)-shift, 0)
}

// Renews is how long it is until the cluster's own certificate is made anew; 0: never.
func Renews(in controllers.Input, t *topology.Topology) time.Duration {
	if !own(t) {
		return 0
	}
	_, ends := Turn(t, in.Now)
	return ends.Sub(in.Now)
}

// Names are all by which a client may come, through HAProxy on any node too: sorted.
func Names(in controllers.Input, t *topology.Topology) []string {
	set := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, t.Docs.Name: true}
	for _, m := range t.Members {
		set[m.Name], set[m.Node], set[m.Address] = true, true, true
	}
	for _, n := range t.Docs.Nodes {
		set[n.Name], set[n.Address] = true, true
	}
	vip := desired.Load(in.Snapshot, in.Layout, in.Cluster, "vip").VIP
	set[vip.Host()] = true // one that is switched off may come back
	for _, n := range t.Docs.Postgres.TLSNames {
		set[n] = true
	}
	delete(set, "")
	return slices.Sorted(maps.Keys(set))
}
