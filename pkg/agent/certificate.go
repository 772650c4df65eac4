package agent

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ExpiresSoon is how long before its end a certificate is spoken of. Those that pgctrl
// makes are renewed long before that.
const ExpiresSoon = 30 * 24 * time.Hour

// shown is a certificate that clients are shown: until when it is good, and its file.
type shown struct {
	until time.Time
	file  string
}

// shownBy is what the concern's program shows to clients; zero: nothing. PgBouncer shows
// what PostgreSQL does, so one of them says it.
func (c *cluster) shownBy(con *concern) (s shown) {
	if con.name != "postgres" || c.a.o.Host.Expires == nil || con.removed != "" {
		return s
	}
	for _, r := range con.plan.Resources {
		if u, ok := r.(plan.Unit); ok {
			s.until, s.file = c.a.o.Host.Expires(u)
			return s
		}
	}
	return s
}

func (con *concern) reportCertificate(r *observed.Report, own plan.Member, now time.Time) {
	if con.shown.until.IsZero() {
		return
	}
	at := con.shown.until.UTC().Format(time.RFC3339)
	r.Facts[observed.FactCertificateExpires] = at
	words := "expires on "
	switch left := con.shown.until.Sub(now); {
	case left > ExpiresSoon:
		return
	case left <= 0:
		words = "expired on "
	}
	r.Conditions = append(r.Conditions, observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.CertificateExpires,
		Message: fmt.Sprintf("the certificate that %s shows to clients %s%s; a newer one in its place is taken up within %s", own.Name, words, at, DriftEvery),
		Next:    fmt.Sprintf("openssl x509 -noout -subject -dates -in %s (on %s)", con.shown.file, own.Node),
	})
}
