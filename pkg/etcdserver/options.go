package etcdserver

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Options say how the member runs. The zero value of a field means its default.
type Options struct {
	// Name is the member's name; the host's name by default.
	Name string
	// DataDir holds the member's log and database; made with mode 0700, because
	// the secrets of every cluster are in there.
	DataDir string
	// Advertise is the address by which other hosts reach this one.
	Advertise string
	// Listen is the address to listen on for clients; by default Advertise and
	// 127.0.0.1.
	Listen string
	// ClientPort and PeerPort are 2379 and 2380 by default.
	ClientPort, PeerPort int
	// Quota is the largest the database may become, in bytes.
	Quota int64
	// Compaction is how much of the past is kept.
	Compaction time.Duration
	// SnapshotEvery is how often a snapshot is put into SnapshotFolder(DataDir), and
	// SnapshotKeep how many are kept.
	SnapshotEvery time.Duration
	SnapshotKeep  int
	// StoreKey is the record in which it says that snapshots fail; empty: nowhere.
	StoreKey string
	// Log receives etcd's own log lines.
	Log *zap.Logger
	// Ready is called once the member answers, with its client URLs.
	Ready func(clients []string)
}

// The defaults.
const (
	DefaultDataDir    = "/var/lib/pgctrl/etcd"
	DefaultClientPort = 2379
	DefaultPeerPort   = 2380
	// DefaultQuota is etcd's own default, written out because a full store stops
	// every write and people ask for the number.
	DefaultQuota int64 = 2 << 30
	// DefaultCompaction is how long a watcher may be away and still resume where
	// it was; after that it lists everything again, which costs a second and loses
	// nothing. etcd itself never compacts by default, and a store that is never
	// compacted fills up: Patroni alone writes about 35,000 revisions a day for
	// a cluster of three.
	DefaultCompaction = 5 * time.Hour
)

func (o Options) withDefaults() (Options, error) {
	if o.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("name the etcd member: %w", err)
		}
		o.Name = host
	}
	if o.DataDir == "" {
		o.DataDir = DefaultDataDir
	}
	if o.Advertise == "" {
		o.Advertise = "127.0.0.1"
	}
	if o.ClientPort == 0 {
		o.ClientPort = DefaultClientPort
	}
	if o.PeerPort == 0 {
		o.PeerPort = DefaultPeerPort
	}
	if o.Quota == 0 {
		o.Quota = DefaultQuota
	}
	if o.Compaction == 0 {
		o.Compaction = DefaultCompaction
	}
	if o.SnapshotEvery == 0 {
		o.SnapshotEvery = DefaultSnapshotEvery
	}
	if o.SnapshotKeep == 0 {
		o.SnapshotKeep = DefaultSnapshotKeep
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o, nil
}

// config is etcd's configuration for o, whose defaults are filled in.
func (o Options) config() *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = o.Name, o.DataDir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(o.Log)

	peer := httpURL(o.Advertise, o.PeerPort)
	c.ListenPeerUrls = []url.URL{peer}
	c.AdvertisePeerUrls = []url.URL{peer}
	c.AdvertiseClientUrls = []url.URL{httpURL(o.Advertise, o.ClientPort)}
	c.ListenClientUrls = nil
	for _, host := range o.listenHosts() {
		c.ListenClientUrls = append(c.ListenClientUrls, httpURL(host, o.ClientPort))
	}
	// Only read when the member is new: a member that has data knows its fellows.
	c.InitialCluster = o.Name + "=" + peer.String()
	c.InitialClusterToken = "pgctrl"

	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = o.Compaction.String()
	c.QuotaBackendBytes = o.Quota
	// Patroni speaks etcd's API through the HTTP gateway (measured: without it
	// Patroni 3.0.2 never starts), on the same port as gRPC.
	c.EnableGRPCGateway = true
	c.Metrics = "basic"
	return c
}

func (o Options) listenHosts() []string {
	if o.Listen != "" {
		return strings.Split(o.Listen, ",")
	}
	if ip := net.ParseIP(o.Advertise); ip != nil && ip.IsLoopback() {
		return []string{o.Advertise}
	}
	return []string{"127.0.0.1", o.Advertise}
}

func httpURL(host string, port int) url.URL {
	return url.URL{Scheme: "http", Host: net.JoinHostPort(host, fmt.Sprint(port))}
}
