package pgbackrest

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSet(t *testing.T) {
	// pgBackRest 2.45, of a full backup and with a tablespace put in.
	const out = `[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000004","min":"000000010000000000000001"}],"backup":[{"archive":{"start":"000000010000000000000003","stop":"000000010000000000000004"},"database":{"id":1,"repo-key":1},"error":false,"info":{"delta":30242481,"repository":{"delta":3443862,"size":3443862},"size":30242481},"label":"20261126-232220F","link":null,"tablespace":TS,"timestamp":{"start":1795735340,"stop":1795735342},"type":"full"}],"db":[{"id":1,"repo-key":1,"system-id":7712624543368480372,"version":"15"}],"name":"c","status":{"code":0,"message":"ok"}}]`
	s, err := ParseSet([]byte(strings.Replace(out, "TS", "null", 1)), "c", "20261126-232220F")
	if err != nil || s.Size != 30242481 || s.FirstWAL != "000000010000000000000003" || s.Archive != "15-1" || s.Tablespaces != nil {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ParseSet([]byte(strings.Replace(out, "TS", `[{"destination":"/t","name":"fast","oid":1}]`, 1)), "c", "20261126-232220F")
	if err != nil || !slices.Equal(s.Tablespaces, []string{"fast"}) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"[]", "x", strings.Replace(out, "TS", "null", 1)} {
		if _, err := ParseSet([]byte(bad), "c", "20261126-000000F"); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
