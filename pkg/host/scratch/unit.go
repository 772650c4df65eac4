package scratch

import (
	"encoding/json"
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The share of the host that a scratch restore gets where others want it too: a backup's.
const (
	nice     = 10
	ioLowest = 7
	weight   = 10
)

func (d *Driver) unit(name, stage, cluster string, o Order) systemd.Transient {
	b, err := json.Marshal(job{Order: o, Cluster: cluster, Node: d.o.Node, Config: d.o.Config(cluster), Pgbackrest: d.o.Pgbackrest})
	if err != nil {
		panic(fmt.Sprintf("encode an order: %v", err)) // plain data
	}
	return systemd.Transient{
		Unit: name, Description: describes + o.Step, User: d.o.User, Args: []string{d.o.Program, "scratch", stage, "--order", string(b)},
		Nice: nice, IOPriority: ioLowest, Weight: weight,
		Watchdog: plan.BackupLost, StopWithin: plan.BackupStop,
	}
}

func (d *Driver) fetchUnit(cluster string, o Order) systemd.Transient {
	return d.unit(plan.ScratchFetchUnit(cluster), "fetch", cluster, o)
}

// alwaysHidden are folders that an offline recovery has no business with: how repositories are
// reached and what waits for them, and the sockets of the host's other programs. Sockets are
// files, so a unit without network could reach them.
var alwaysHidden = []string{"-/etc/pgbackrest", "-/etc/pgbackrest.conf", "-/var/spool/pgbackrest", "-/run/postgresql", "-/run/pgctrl", "-/run/dbus", "-/etc/patroni"}

func (d *Driver) recoverUnit(cluster string, o Order) (systemd.Transient, error) {
	t := d.unit(plan.ScratchUnit(cluster), "recover", cluster, o)
	if !o.Offline {
		return t, nil
	}
	hidden, err := d.o.Hidden(cluster)
	if err != nil {
		return t, fmt.Errorf("hide the repository from a recovery: %w", err)
	}
	t.Sandbox = &systemd.Sandbox{Writable: []string{o.Dir}, Hidden: append([]string(nil), alwaysHidden...)}
	for _, folder := range hidden {
		if within(o.Dir, folder) {
			return t, fmt.Errorf("hide %s from a recovery: the scratch folder %s is in it", folder, o.Dir)
		}
		t.Sandbox.Hidden = append(t.Sandbox.Hidden, "-"+folder)
	}
	return t, nil
}
