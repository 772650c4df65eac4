package address

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
)

var (
	hw1 = hardware{2, 0x70, 10, 77, 0, 1}
	ip4 = netip.MustParseAddr("10.77.0.9")
	ip6 = netip.MustParseAddr("fd77::9")
)

// The bytes are written out from RFC 826 and RFC 4861 by hand, checksums by another program, so that an encoder
// and a decoder that are wrong together are found.
func TestPacketsOnTheWire(t *testing.T) {
	a := announcements(ip4, hw1)
	for _, c := range []struct {
		what, want string
		got        []byte
	}{
		{"gratuitous request", "0001080006040001 02700a4d0001 0a4d0009 000000000000 0a4d0009", a[0].encode()},
		{"gratuitous reply", "0001080006040002 02700a4d0001 0a4d0009 ffffffffffff 0a4d0009", a[1].encode()},
		{"probe", "0001080006040001 02700a4d0001 00000000 000000000000 0a4d0009", probe(ip4, hw1).encode()},
		{"unsolicited advertisement", "60000000 0020 3a ff fd770000000000000000000000000009 ff020000000000000000000000000001" +
			"88 00 4ee0 20000000 fd770000000000000000000000000009 0201 02700a4d0001", unsolicited(ip6, hw1).encode()},
		{"solicitation", "60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000009" +
			"87 00 7d1e 00000000 fd770000000000000000000000000009", solicitation(ip6).encode()},
	} {
		want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(c.want), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.what, c.got, want)
		}
	}
	if got := ethernet(solicited(ip6)).String(); got != "33:33:ff:00:00:09" {
		t.Errorf("the group is sent to %s", got)
	}
}

func TestClaims(t *testing.T) {
	other := netip.MustParseAddr("10.77.0.8")
	for _, c := range []struct {
		what string
		a    arp
		want bool
	}{
		{"a reply", arp{op: arpReply, senderHW: hw1, senderIP: ip4}, true},
		{"an announcement", announcements(ip4, hw1)[0], true},
		{"a probe by somebody else", probe(ip4, hw1), false},
		{"a reply about another", arp{op: arpReply, senderHW: hw1, senderIP: other, targetIP: ip4}, false},
		{"a reply by nobody", arp{op: arpReply, senderIP: ip4}, false},
		{"a reply by everybody", arp{op: arpReply, senderHW: broadcast, senderIP: ip4}, false},
	} {
		if _, got := c.a.claims(ip4); got != c.want {
			t.Errorf("%s claims: %v", c.what, got)
		}
	}
	n := unsolicited(ip6, hw1)
	if hw, ok := n.claims(ip6); !ok || hw != hw1 {
		t.Errorf("an advertisement claims for %s: %v", hw, ok)
	}
	if _, ok := solicitation(ip6).claims(ip6); ok {
		t.Error("a solicitation claims")
	}
}

// What a router has passed on, or what is damaged, is not believed.
func TestAdvertisementsAreChecked(t *testing.T) {
	for what, damage := range map[string]func(b []byte) []byte{
		"hop limit":             func(b []byte) []byte { b[7] = 254; return b },
		"checksum":              func(b []byte) []byte { b[60] ^= 1; return b },
		"cut short":             func(b []byte) []byte { return b[:len(b)-1] },
		"option without an end": func(b []byte) []byte { b[65] = 0; return b },
	} {
		if _, err := decodeNeighbour(damage(unsolicited(ip6, hw1).encode())); err == nil {
			t.Errorf("%s: believed", what)
		}
	}
}

func FuzzDecodeARP(f *testing.F) {
	f.Add(announcements(ip4, hw1)[0].encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeARP(b)
		if err == nil && !bytes.Equal(a.encode(), b[:arpLen]) {
			t.Errorf("%x became %x", b, a.encode())
		}
	})
}

func FuzzDecodeNeighbour(f *testing.F) {
	f.Add(unsolicited(ip6, hw1).encode())
	f.Add(solicitation(ip6).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNeighbour(b)
		if err != nil {
			return
		}
		again, err := decodeNeighbour(n.encode())
		if err != nil || again != n {
			t.Errorf("%+v became %+v, %v", n, again, err)
		}
	})
}

func FuzzDecodeConnection(f *testing.F) {
	f.Add(make([]byte, diagHeaderLen+idLen))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeConnection(b) })
}

func FuzzAddressMessage(f *testing.F) {
	f.Add([]byte{2, 32, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 77, 0, 9})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = addressMessage(b) })
}
