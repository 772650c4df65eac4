package cli

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

func TestAmount(t *testing.T) {
	for _, tc := range []struct {
		p            observed.Progress
		amount, bars string
	}{
		{observed.Progress{Unit: "B", Done: 0, Total: 3 << 30}, "0% (0 B of 3.0 GB)", "[                        ]"},
		{observed.Progress{Unit: "B", Done: 3 << 29, Total: 3 << 30}, "50% (1.5 GB of 3.0 GB)", "[===========>            ]"},
		{observed.Progress{Unit: "B", Done: 1 << 62, Total: 1 << 62}, "100% (4194304 TB of 4194304 TB)", "[========================]"},
		{observed.Progress{Unit: "B", Done: 9, Total: 0}, "0% (9 B of 0 B)", "[                        ]"},
		{observed.Progress{Unit: "%", Done: 7, Total: 100}, "7%", "[>                       ]"},
		{observed.Progress{Unit: "%", Done: 120, Total: 100}, "100%", "[========================]"},
		{observed.Progress{Unit: "%", Done: -1, Total: 100}, "0%", "[                        ]"},
	} {
		if got := amount(&tc.p); got != tc.amount {
			t.Errorf("amount(%+v) = %q, want %q", tc.p, got, tc.amount)
		}
		if got := bar(&tc.p); got != tc.bars {
			t.Errorf("bar(%+v) = %q, want %q", tc.p, got, tc.bars)
		}
	}
}
