package plan_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func example() plan.Plan {
	return plan.Plan{
		Schema: plan.Schema, Writer: "1", Store: "s1", UID: "u1", Inputs: plan.Inputs{Revision: 412},
		Cluster: plan.Cluster{Name: "pg-test", Member: "a", Members: []plan.Member{{Name: "a", Node: "pg1", Address: "10.0.0.1", Port: 5432, RESTPort: 8008}}},
		Resources: plan.Resources{
			plan.Unit{Unit: "haproxy@pg-test.service", Program: "haproxy",
				Files:  []plan.File{{Path: "/etc/haproxy/pg-test.cfg", Mode: "0640", Content: "x"}},
				Routes: routes},
			plan.Patroni{Patroni: "pg-test", Config: map[string]any{"ttl": float64(30)}},
		},
	}
}

func TestEncodeDecode(t *testing.T) {
	p := example()
	got, err := plan.Decode(plan.Encode(p))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, got); d != "" {
		t.Errorf("decoded plan differs (-want +got):\n%s", d)
	}
}

func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, value := range map[string]string{
		"a newer schema":      fmt.Sprintf(`{"schema": %d, "resources": [{"unit": {"new": "shape"}}]}`, plan.Schema+1),
		"an unknown resource": `{"schema": 1, "resources": [{"hologram": "x"}]}`,
	} {
		if _, err := plan.Decode([]byte(value)); !errors.Is(err, plan.ErrSchema) {
			t.Errorf("%s: error %v, want ErrSchema", name, err)
		}
	}
	if _, err := plan.Decode([]byte(`{"schema": 1, "resources"`)); err == nil || errors.Is(err, plan.ErrSchema) {
		t.Errorf("half a plan: error %v, want a parse error", err)
	}
}

func TestHashFollowsContentAndSecrets(t *testing.T) {
	p := example()
	h := plan.Hash(p.Resources, p.Secrets)
	if h != plan.Hash(example().Resources, nil) {
		t.Error("equal resources have different hashes")
	}
	if h == plan.Hash(p.Resources, map[string]int64{"postgres": 7}) {
		t.Error("a rotated secret did not change the hash")
	}
}

// TestR7ForeignPlanChangesNothing: a plan of another store or of an earlier
// cluster of the same name is neither applied nor a reason to remove anything.
func TestR7ForeignPlanChangesNothing(t *testing.T) {
	for _, v := range []plan.View{{Store: "other"}, {Store: "s1", UID: "other"}} {
		apply, drop, why := plan.Resolve(example(), v, t0)
		if len(apply)+len(drop) != 0 || len(why) != 1 || why[0].Reason != observed.StoreChanged {
			t.Errorf("view %+v: apply %v, drop %v, why %v", v, apply, drop, why)
		}
	}
}

func TestDynamicConfigIsTheConfirmedLeadersWork(t *testing.T) {
	applies := func(s *story) bool {
		apply, _, _ := plan.Resolve(example(), s.view, s.now)
		for _, r := range apply {
			if _, ok := r.(plan.Patroni); ok {
				return true
			}
		}
		return false
	}
	paused := begin().leads("a").confirms("a", true)
	paused.view.Paused = true
	for name, tc := range map[string]struct {
		s    *story
		want bool
	}{
		"confirmed leader":  {begin().leads("a").confirms("a", true), true},
		"unconfirmed":       {begin().leads("a"), false},
		"another leads":     {begin().leads("b").confirms("b", true), false},
		"nobody leads":      {begin(), false},
		"Patroni is paused": {paused, false},
		"stale view":        {begin().leads("a").confirms("a", true).blindFor(time.Minute), false},
	} {
		if got := applies(tc.s); got != tc.want {
			t.Errorf("%s: applies %v, want %v", name, got, tc.want)
		}
	}
}

func TestExpandQuotesForTheFile(t *testing.T) {
	v := plan.Values{PrimaryName: "a", PrimaryAddress: "10.0.0.1", Secret: func(n string) ([]byte, bool) {
		return []byte(`it's: "\` + n), n != "gone"
	}}
	for in, want := range map[string]string{
		"password: {{secret x as yaml}}":       `password: 'it''s: "\x'`,
		"*:*:*:*:{{secret x as pgpass}}":       `*:*:*:*:it's\: "\\x`,
		`"app" {{secret x as userlist}}`:       `"app" "it's: ""\x"`,
		"{{primary.name}} {{primary.address}}": "a 10.0.0.1",
	} {
		got, err := plan.Expand(in, v)
		if err != nil || got != want {
			t.Errorf("Expand(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"{{secret gone as yaml}}": "does not exist",
		"{{secret x as toml}}":    "is not one of",
		"{{ primary.name }}":      "is not one of",
		"{{secret x as ini}}":     "can't be written as ini",
	} {
		if _, err := plan.Expand(in, v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Expand(%q): error %v, want one with %q", in, err, want)
		}
	}
}
