package agenttest_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
)

func TestHooksConform(t *testing.T) {
	h := agenttest.New("m").Hooks()
	agenttest.HooksConform(t, h, h.Add)
}
