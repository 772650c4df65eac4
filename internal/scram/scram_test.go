package scram

import (
	"strings"
	"testing"
)

// TestVerifier: PostgreSQL's own verifiers are told to be of their passwords, and ours
// log in (the objects' tests).
func TestVerifier(t *testing.T) {
	for _, password := range []string{"x", "pa'ss\\word", "paßwörd", "\u00a0 space", strings.Repeat("long", 100)} {
		v, err := Verifier(password)
		if err != nil || !Is(v) || !Verifies(v, password) || Verifies(v, password+"x") {
			t.Errorf("%q: %s %v", password, v, err)
		}
		if again, _ := Verifier(password); again == v {
			t.Errorf("%q has the same salt twice", password)
		}
		if same, _ := Verifier(v); same != v || !Verifies(v, v) {
			t.Errorf("a verifier is not taken as it is")
		}
	}
	if Verifies("md5abc", "x") || Verifies("", "x") {
		t.Error("what is no SCRAM verifier is one of x")
	}
}

// TestVerifierFor: the same owner and password make the same file; another owner's
// verifier of the same password is another one.
func TestVerifierFor(t *testing.T) {
	for _, password := range []string{"plain", "paßwörd"} {
		a, err := VerifierFor("a/postgres", password)
		again, _ := VerifierFor("a/postgres", password)
		b, _ := VerifierFor("b/postgres", password)
		if err != nil || a != again || a == b || !Verifies(a, password) || !Verifies(b, password) {
			t.Errorf("%q: %s, %s, %s, %v", password, a, again, b, err)
		}
	}
}

func TestWithout(t *testing.T) {
	v, err := Verifier("x")
	if err != nil {
		t.Fatal(err)
	}
	if got := Without("alter role a password '" + v + "' failed, " + v); got != "alter role a password '(verifier)' failed, (verifier)" {
		t.Error(got)
	}
}
