package agent

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Room is what one of a member's folders has left on its file system.
type Room struct {
	// Folder is "data", "wal" or "repository", which may be on one file system.
	Folder string
	// Free of Size bytes, and Inodes of Most inodes; Most is 0 where there is no limit.
	Free, Size, Inodes, Most uint64
}

// RootMetric is by what an agent says how much room a new cluster's data would find; pgctrl
// restore reads it.
const RootMetric = "pgagent_data_root_free_bytes"

// rooms looks for room when somebody scrapes, and not otherwise. A file system that
// hangs (a network's) blocks whoever looks, so there is at most one who does; a scrape
// that finds somebody looking goes without.
type rooms struct {
	looking                sync.Mutex
	free, size, inode, all *prometheus.Desc
	root                   *prometheus.Desc
}

func newRooms() *rooms {
	labels := []string{"cluster", "member", "folder"}
	d := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, labels, nil) }
	return &rooms{
		root:  prometheus.NewDesc(RootMetric, "Room that is left where PostgreSQL's data directories are made, whether there is one already or not.", []string{"folder"}, nil),
		free:  d("pgagent_disk_free_bytes", "Room that is left on the file system of a folder: data, wal or repository."),
		size:  d("pgagent_disk_size_bytes", "What the file system of a folder has in all, without what is kept for root."),
		inode: d("pgagent_disk_free_inodes", "Inodes left on the file system of a folder."),
		all:   d("pgagent_disk_inodes", "Inodes that the file system of a folder has in all; absent where there is no limit."),
	}
}

// collect looks at this node's members.
func (r *rooms) collect(a *Agent, ch chan<- prometheus.Metric) {
	if a.o.Host.Rooms == nil || !r.looking.TryLock() {
		return
	}
	defer r.looking.Unlock()
	if a.o.Host.Roots != nil {
		for _, room := range a.o.Host.Roots() {
			ch <- prometheus.MustNewConstMetric(r.root, prometheus.GaugeValue, float64(room.Free), room.Folder)
		}
	}
	for _, c := range a.all() {
		u, member, ok := c.ownPostgres()
		if !ok {
			continue
		}
		for _, room := range a.o.Host.Rooms(c.name, u) {
			say := func(d *prometheus.Desc, v uint64) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), c.name, member, room.Folder)
			}
			say(r.free, room.Free)
			say(r.size, room.Size)
			if room.Most > 0 {
				say(r.inode, room.Inodes)
				say(r.all, room.Most)
			}
		}
	}
}

// ownPostgres is the unit of this node's member.
func (c *cluster) ownPostgres() (plan.Unit, string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, member := c.info.Own()
	con := c.concerns["postgres"]
	if con == nil || !member || con.removed != "" {
		return plan.Unit{}, "", false
	}
	for _, r := range con.plan.Resources {
		if u, ok := r.(plan.Unit); ok {
			return u, own.Name, true
		}
	}
	return plan.Unit{}, "", false
}
