package eventlog

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
)

// Over half of etcd's quota nothing is written, and when there is room again nothing was missed.
func TestEventsDoNotFillEtcd(t *testing.T) {
	const quota = 4 << 20
	f := newFleetIn(t, etcdtest.StartSmall(t, quota))
	stop := f.lead()
	f.begun()
	f.put(layout.ClusterDoc("c", "dns"), "enabled: true\n")
	f.until("c", 1)
	stop(true)
	f.etc.Fill(t, quota)
	f.lead()
	f.put(layout.ClusterDoc("c", "dns"), "enabled: false\n")
	time.Sleep(500 * time.Millisecond) // it takes a few milliseconds when there is room
	if got := f.events("c"); len(got) != 1 {
		t.Errorf("%d events when etcd is over half full", len(got))
	}
	f.makeRoom()
	if got := f.until("c", 2); got[1].Kind != "document.changed" {
		t.Errorf("%+v", got[1])
	}
}

func (f *fleet) makeRoom() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	resp, err := f.raw.Delete(ctx, "/fill/", clientv3.WithPrefix())
	if err == nil {
		_, err = f.raw.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = f.raw.Defragment(ctx, f.etc.Endpoints()[0])
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
