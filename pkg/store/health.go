package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNoSpace means that etcd refuses writes because its database reached the quota.
// Reading, deleting and lease renewals go on.
var ErrNoSpace = errors.New("etcd is full: it refuses every write but deletions until `pgctrl etcd compact` made room")

// errNoUpkeep is the answer over the in-memory model.
var errNoUpkeep = errors.New("this store has no upkeep")

// refined names the errors of etcd that callers decide by.
func refined(err error) error {
	if errors.Is(err, rpctypes.ErrNoSpace) || rpctypes.Error(err) == rpctypes.ErrNoSpace {
		return fmt.Errorf("%w (%w)", ErrNoSpace, err)
	}
	return err
}

// Health is how etcd itself is.
type Health struct {
	// Members is how many there are.
	Members int
	// Size is that of the largest member's database in bytes, InUse what of it holds
	// data (the rest is free for new data), Quota the size at which writes end; 0 when
	// etcd does not tell (before 3.6).
	Size, InUse, Quota int64
	// NoSpace: some member reached its quota, so no member takes writes.
	NoSpace bool
	// Corrupt: members disagree about the data.
	Corrupt bool
	// Silent are endpoints that did not answer.
	Silent []string
}

// Health asks every endpoint how it is. It fails only when none answers.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	if c.upkeep == nil {
		return h, errNoUpkeep
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	members, err := c.cluster.MemberList(ctx)
	if err != nil {
		return h, fmt.Errorf("list etcd members: %w", err)
	}
	h.Members = len(members.Members)
	var errs []error
	for _, e := range c.endpoints {
		st, err := c.upkeep.Status(ctx, e)
		if err != nil {
			h.Silent, errs = append(h.Silent, e), append(errs, err)
			continue
		}
		if st.DbSize > h.Size {
			h.Size, h.InUse = st.DbSize, st.DbSizeInUse
		}
		h.Quota = max(h.Quota, st.DbSizeQuota)
	}
	if len(errs) == len(c.endpoints) {
		return h, fmt.Errorf("ask etcd for its status: %w", errors.Join(errs...))
	}
	alarms, err := c.upkeep.AlarmList(ctx)
	if err != nil {
		return h, fmt.Errorf("list etcd's alarms: %w", err)
	}
	is := func(t etcdserverpb.AlarmType) bool {
		return slices.ContainsFunc(alarms.Alarms, func(a *etcdserverpb.AlarmMember) bool { return a.Alarm == t })
	}
	h.NoSpace, h.Corrupt = is(etcdserverpb.AlarmType_NOSPACE), is(etcdserverpb.AlarmType_CORRUPT)
	return h, nil
}

// Snapshot streams everything that etcd holds, and its SHA-256 after it.
func (c *Client) Snapshot(ctx context.Context) (io.ReadCloser, error) {
	if c.upkeep == nil {
		return nil, errNoUpkeep
	}
	return c.upkeep.Snapshot(ctx)
}

// Compact forgets the past up to now, gives the room back to the file system, one
// member after the other, and ends the alarm that a full database raised. Watchers
// that were away read everything again; nothing else changes.
func (c *Client) Compact(ctx context.Context, step func(what string)) error {
	if c.upkeep == nil {
		return errNoUpkeep
	}
	rev, err := c.revision(ctx, "/")
	if err != nil {
		return err
	}
	step(fmt.Sprintf("compact to revision %d", rev))
	_, err = c.kv.Compact(ctx, rev, clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compact: %w", err)
	}
	endpoints, err := c.Endpoints(ctx)
	if err != nil {
		return err
	}
	if len(endpoints) == 0 {
		endpoints = c.endpoints
	}
	// A member does not answer while it defragments, so never two at once.
	for _, e := range endpoints {
		step("defragment " + e)
		if _, err := c.upkeep.Defragment(ctx, e); err != nil {
			return fmt.Errorf("defragment %s: %w", e, err)
		}
	}
	alarms, err := c.upkeep.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("list etcd's alarms: %w", err)
	}
	for _, a := range alarms.Alarms {
		if a.Alarm != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		step(fmt.Sprintf("end the alarm of member %x", a.MemberID))
		if _, err := c.upkeep.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
			return fmt.Errorf("end alarm: %w", err)
		}
	}
	return nil
}
