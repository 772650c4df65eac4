package agent

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// VIPStatus is the cluster's virtual address as this agent sees it.
type VIPStatus struct {
	Address string `json:"address"`
	// Here: it is on this host.
	Here bool `json:"here"`
	// Because says why it is here or not, in a few words.
	Because string `json:"because"`
	// Record is who may have it, as etcd last said; nil: nobody yet.
	Record *observed.VIP `json:"record,omitempty"`
	// RefreshAge, LeaseAge and PatroniAge are the ages of the last refresh, of the last
	// reading of the leader key's lease, and of the last yes of the local Patroni.
	RefreshAge float64 `json:"refresh_age_seconds"`
	LeaseAge   float64 `json:"lease_age_seconds"`
	LeaseLeft  float64 `json:"lease_left_seconds"`
	PatroniAge float64 `json:"patroni_age_seconds"`
	// Why is what is wrong with it.
	Why []observed.Condition `json:"why,omitempty"`
}

func (v *vip) statusLocked(s state, now time.Time) *VIPStatus {
	if v.want == nil {
		return nil
	}
	var r observed.Report
	r.Facts = map[string]string{}
	v.reportLocked(&r)
	return &VIPStatus{
		Address: v.want.Network, Here: v.known.OnHost, Because: v.because, Record: s.vip,
		RefreshAge: age(v.touched, now), LeaseAge: age(v.known.Lease.AskedAt, now), LeaseLeft: v.known.Lease.Left.Seconds(),
		PatroniAge: age(v.known.Patroni.YesAt, now), Why: r.Conditions,
	}
}
