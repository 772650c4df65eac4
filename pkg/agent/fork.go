package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// ledOn is the timeline on which this node's PostgreSQL last took writes.
//
// A primary that dies before its replicas heard of its timeline is followed by one that
// takes the same number for its own, even from the same position on. Neither pg_rewind
// nor Patroni sees that: they compare numbers, and the WAL receiver writes the new WAL
// over the old one before anybody has looked. But who led on a timeline knows that its
// WAL is its own. When another member is the confirmed primary of a timeline of that
// number, the two are forks, for as long as the data directory is the same.
type ledOn struct {
	System   string `json:"system"`
	Timeline int64  `json:"timeline"`
	// Data tells the data directory from one that was copied anew or rewound.
	Data int64 `json:"data"`
	// Forked: another member led on a timeline of that number.
	Forked bool `json:"forked,omitempty"`
}

// next is how it goes on with what PostgreSQL showed and who is confirmed; nil: nobody.
func (l ledOn) next(own, system string, local PostgresState, confirmed *observed.Primary) ledOn {
	if !local.Reachable || system == "" || local.System != system {
		return l
	}
	if local.System != l.System || local.Data != l.Data {
		l = ledOn{} // its WAL came with the data
	}
	switch {
	case !local.InRecovery && local.Timeline > 0 && (confirmed == nil || confirmed.Member == own):
		return ledOn{System: local.System, Timeline: local.Timeline, Data: local.Data}
	case l.Timeline > 0 && confirmed != nil && confirmed.Member != own && confirmed.Timeline == l.Timeline:
		l.Forked = true
	case local.Streaming && confirmed != nil && confirmed.Member != own && 0 < confirmed.Timeline && confirmed.Timeline < l.Timeline:
		return ledOn{} // nobody streams behind a timeline of his own: it was rewound
	}
	return l
}

// noteLed takes in what a look at PostgreSQL says of it. It runs on confirmLoop, so the
// disk is another's work.
func (c *cluster) noteLed(s state, local PostgresState) {
	if s.back {
		return
	}
	var confirmed *observed.Primary
	if s.view.Confirmed() {
		confirmed = s.view.Primary
	}
	c.mu.Lock()
	before := c.led
	c.led = before.next(c.info.Member, s.initialize, local, confirmed)
	now := c.led
	c.mu.Unlock()
	if now == before {
		return
	}
	if now.Forked && !before.Forked {
		c.log.Error("this member led on a timeline whose number another one took too; it can't follow with these data",
			zap.Int64("timeline", now.Timeline), zap.String("primary", confirmed.Member))
	}
	poke(c.wakeLed)
	poke(c.wakeWork)
}

// forkedLocked is the timeline of which this node's member has WAL that its leader never
// had; 0: none.
func (c *cluster) forkedLocked() int64 {
	if c.led.Forked {
		return c.led.Timeline
	}
	return 0
}

// keepLed puts it on disk: the agent may be another one when PostgreSQL is back.
func (c *cluster) keepLed(ctx context.Context) {
	var kept ledOn
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wakeLed:
		}
		c.mu.Lock()
		now := c.led
		c.mu.Unlock()
		if now == kept {
			continue
		}
		if err := c.a.keeper.saveLed(c.name, now); err != nil {
			c.log.Error("the timeline that was led is not kept", zap.Error(err))
			continue
		}
		kept = now
	}
}

func (k keeper) ledPath(cluster string) string { return filepath.Join(k.dir, "led", cluster+".json") }

func (k keeper) saveLed(cluster string, l ledOn) error {
	return k.put(k.ledPath(cluster), l)
}

// loadLed reads it; nothing is known when there is none.
func (k keeper) loadLed(cluster string) (l ledOn, err error) {
	path := k.ledPath(cluster)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ledOn{}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return ledOn{}, fmt.Errorf("read %s: %w", path, err)
	}
	return l, nil
}

func (k keeper) forgetLed(cluster string) error {
	if err := os.Remove(k.ledPath(cluster)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the timeline that was led: %w", err)
	}
	return nil
}
