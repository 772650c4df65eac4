package wal

import "testing"

func TestParseLSN(t *testing.T) {
	if v, err := ParseLSN("16/B374D848"); err != nil || v != 0x16B374D848 {
		t.Errorf("%x, %v", v, err)
	}
	for _, text := range []string{"", "1", "1/", "x/1", "100000000/0"} {
		if _, err := ParseLSN(text); err == nil {
			t.Errorf("%q was taken for a position", text)
		}
	}
}

// TestNames: of a segment its name, timeline and place, whoever keeps it; of nothing else any.
func TestNames(t *testing.T) {
	const sha = "-ae2f0a97b015592e93973f1f2802dc3668640482"
	for path, want := range map[string]string{
		"15-1/0000000200000001/000000020000000100000003" + sha + ".zst": "000000020000000100000003",
		"000000020000000100000003":                                      "000000020000000100000003",
		"00000002000000010000000A" + sha:                                "00000002000000010000000A",
		"000000020000000100000003.00000028.backup":                      "",
		"000000020000000100000003.partial" + sha + ".zst":               "",
		"00000002.history":                                              "",
		"15-1/0000000200000001":                                         "",
	} {
		if name, is := Segment(path); name != want || is != (want != "") {
			t.Errorf("%s: %q, %v", path, name, is)
		}
	}
	if name, is := History("15-1/00000002.history"); name != HistoryName(2) || !is {
		t.Errorf("%q, %v", name, is)
	}
	if tl, at, err := Begin("00000002000000010000000A", 16<<20); tl != 2 || at != 1<<32+10<<24 || err != nil || FormatLSN(at) != "1/A000000" {
		t.Errorf("%d, %x, %v", tl, at, err)
	}
	for _, bad := range []string{"", "00000002", "00000002000000010000000A" + sha, "0000000200000001000000xx"} {
		if _, _, err := Begin(bad, 16<<20); err == nil {
			t.Errorf("%q was taken for a segment", bad)
		}
	}
	if _, _, err := Begin("00000002000000010000000A", 0); err == nil {
		t.Error("segments of no size")
	}
}
