package hooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
)

// Body is what a receiver gets (docs/HOOKS.md). A field never changes its meaning within a
// version; receivers ignore those that they do not know.
type Body struct {
	Schema int    `json:"schema"`
	Hook   string `json:"hook"`
	// Cluster is whose hook it is; Fleet of one of all clusters. The event has its own.
	Cluster string `json:"cluster"`
	// Attempt counts from 1.
	Attempt int `json:"attempt"`
	// Event is as it is stored.
	Event json.RawMessage `json:"event"`
}

// Encode is the body as it is sent.
func (b Body) Encode() ([]byte, error) {
	b.Schema = Schema
	out, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode event for hook %s: %w", b.Hook, err)
	}
	return out, nil
}

// The names of the headers.
const (
	HeaderEvent     = "Pgctrl-Event"
	HeaderEventID   = "Pgctrl-Event-Id"
	HeaderHook      = "Pgctrl-Hook"
	HeaderTimestamp = "Pgctrl-Timestamp"
	HeaderSignature = "Pgctrl-Signature"
	// HeaderCause is what a receiver gives pgctrl commands that it runs as PGCTRL_CAUSE, so that
	// what they change is known to follow from the event.
	HeaderCause = "Pgctrl-Cause"
)

// Headers are those of one attempt. Without a secret there is no signature.
func Headers(hook, version string, e events.Event, now time.Time, body, secret []byte) map[string]string {
	stamp := strconv.FormatInt(now.Unix(), 10)
	out := map[string]string{
		"Content-Type": "application/json", "User-Agent": "pgctrl/" + version,
		HeaderEvent: string(e.Kind), HeaderEventID: e.Cluster + "/" + e.ID, HeaderHook: hook, HeaderTimestamp: stamp,
		HeaderCause: cause(e),
	}
	if len(secret) > 0 {
		out[HeaderSignature] = Sign(secret, stamp, body)
	}
	return out
}

// Sign is the signature of a body: HMAC-SHA256 over "<timestamp>.<body>". The time stamp is part
// of it so that a receiver can refuse what somebody recorded and sends again later.
func Sign(secret []byte, stamp string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(stamp + "."))
	m.Write(body)
	return "v1=" + hex.EncodeToString(m.Sum(nil))
}

// cause is the event's name, behind which stands how many hooks lie between what follows from it
// and something that no hook did, where it is not the first.
func cause(e events.Event) string {
	name := e.Cluster + "/" + e.ID
	if e.Hops > 0 {
		name += "+" + strconv.Itoa(e.Hops+1)
	}
	return name
}
