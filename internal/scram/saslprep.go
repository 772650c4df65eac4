package scram

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// Tables of RFC 3454, as SASLprep (RFC 4013) names them.
var (
	// spaces are table C.1.2; they become the one in ASCII.
	spaces = table(0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200B, 0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000)
	// nothing is table B.1: what has no width of its own goes.
	nothing = table(0xAD, 0xAD, 0x34F, 0x34F, 0x1806, 0x1806, 0x180B, 0x180D, 0x200B, 0x200D, 0x2060, 0x2060, 0xFE00, 0xFE0F, 0xFEFF, 0xFEFF)
	// prohibited are tables C.2 to C.9 but C.5, which no UTF-8 has, and the last two of
	// each plane (C.4).
	prohibited = table(0x0, 0x1F, 0x7F, 0x9F, 0x340, 0x341, 0x6DD, 0x6DD, 0x70F, 0x70F, 0x180E, 0x180E, 0x200C, 0x200F, 0x2028, 0x202E,
		0x2060, 0x2063, 0x206A, 0x206F, 0x2FF0, 0x2FFB, 0xE000, 0xF8FF, 0xFDD0, 0xFDEF, 0xFEFF, 0xFEFF, 0xFFF9, 0xFFFD,
		0x1D173, 0x1D17A, 0xE0001, 0xE0001, 0xE0020, 0xE007F, 0xF0000, 0xFFFFD, 0x100000, 0x10FFFD)
)

func table(bounds ...rune) *unicode.RangeTable {
	t := &unicode.RangeTable{}
	for i := 0; i < len(bounds); i += 2 {
		t.R32 = append(t.R32, unicode.Range32{Lo: uint32(bounds[i]), Hi: uint32(bounds[i+1]), Stride: 1})
	}
	return t
}

// saslprep is SASLprep as PostgreSQL, libpq and PgBouncer do it (pg_saslprep); false: they
// take the password byte by byte.
func saslprep(password string) (string, bool) {
	if !utf8.ValidString(password) {
		return "", false
	}
	mapped := strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(spaces, r):
			return ' '
		case unicode.Is(nothing, r):
			return -1
		}
		return r
	}, password)
	refused := func(r rune) bool { return unicode.In(r, prohibited, unassigned) || r&0xFFFE == 0xFFFE }
	if mapped == "" || strings.ContainsFunc(mapped, refused) || !oneWay(mapped) {
		return "", false
	}
	return norm.NFKC.String(mapped), true
}

// oneWay is the rule about directions: what has letters from right to left begins and ends
// with one and has no others.
func oneWay(s string) bool {
	var right, left bool
	ends := func(r rune) bool { return direction(r) == bidi.R || direction(r) == bidi.AL }
	for _, r := range s {
		right = right || ends(r)
		left = left || direction(r) == bidi.L
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return !right || !left && ends(first) && ends(last)
}

func direction(r rune) bidi.Class {
	p, _ := bidi.LookupRune(r)
	return p.Class()
}
