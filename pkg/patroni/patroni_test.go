package patroni_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// Values as Patroni 3.0.2 and 4.0 wrote them.
const (
	member3 = `{"conn_url":"postgres://10.10.10.11:5432/postgres","api_url":"http://10.10.10.11:8008/patroni","state":"running","role":"master","version":"3.0.2","xlog_location":50337648,"timeline":1}`
	member4 = `{"conn_url":"postgres://10.10.10.12:5432/postgres","api_url":"http://10.10.10.12:8008/patroni","state":"streaming","role":"replica","version":"4.0.5","xlog_location":50337648,"replication_state":"streaming","timeline":2,"tags":{"nofailover":true},"new_in_5":1}`
)

func TestMembersOfEveryVersion(t *testing.T) {
	m3, err := patroni.ParseMember("a", []byte(member3))
	if err != nil || m3.Role != patroni.Primary || !m3.Running() || m3.Timeline != 1 {
		t.Errorf("3.x member: %+v, %v", m3, err)
	}
	m4, err := patroni.ParseMember("b", []byte(member4))
	if err != nil || m4.Role != patroni.Replica || !m4.Running() || m4.Tags["nofailover"] != true {
		t.Errorf("4.x member: %+v, %v", m4, err)
	}
	if _, err := patroni.ParseMember("c", []byte("{")); err == nil {
		t.Error("half a member was accepted")
	}
}

// Heartbeats move WAL positions only; they must wake nobody. A change of state must.
func TestProjectDropsHeartbeats(t *testing.T) {
	const key = "/pg/c/members/a"
	p := func(v string) string { return string(patroni.Project(key, []byte(v))) }
	moved := `{"conn_url":"postgres://10.10.10.11:5432/postgres","api_url":"http://10.10.10.11:8008/patroni","state":"running","role":"master","version":"3.0.2","xlog_location":60000000,"timeline":1}`
	stopping := `{"conn_url":"postgres://10.10.10.11:5432/postgres","api_url":"http://10.10.10.11:8008/patroni","state":"stopping","role":"master","version":"3.0.2","xlog_location":60000000,"timeline":1}`
	if p(member3) != p(moved) {
		t.Error("a moved WAL position changed the projection")
	}
	if p(moved) == p(stopping) {
		t.Error("a changed state did not change the projection")
	}
	if len(patroni.Project("/pg/c/status", []byte(`{"optime":1}`))) != 0 {
		t.Error("the status key is not projected away")
	}
	if string(patroni.Project("/pg/c/leader", []byte("a"))) != "a" {
		t.Error("the leader key was changed by the projection")
	}
}

func TestOnlyARunningPrimaryTakesWrites(t *testing.T) {
	for body, want := range map[string]bool{
		`{"state":"running","role":"master","database_system_identifier":"7"}`:  true,
		`{"state":"running","role":"primary","database_system_identifier":"7"}`: true,
		`{"state":"running","role":"replica"}`:                                  false,
		`{"state":"starting","role":"master"}`:                                  false,
	} {
		s, err := patroni.ParseStatus([]byte(body))
		if err != nil || s.TakesWrites() != want {
			t.Errorf("%s: takes writes %v, %v; want %v", body, s.TakesWrites(), err, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for s, old := range map[string]bool{"3.0.2": true, "3.0.4": false, "3.1": false, "4.0.5": false, "2.1.7": true, "4.1.0rc1": false} {
		if got := patroni.ParseVersion(s).Less(patroni.OldestSafe); got != old {
			t.Errorf("version %s older than %v: %v, want %v", s, patroni.OldestSafe, got, old)
		}
	}
}
