package agenttest_test

import (
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
)

func TestScratchFakeConforms(t *testing.T) {
	s := agenttest.New("m").Scratch()
	agenttest.ScratchConformance(t, agenttest.ScratchHost{
		Scratch: s, Dir: "/x", Finish: s.Finish, Boot: s.Boot, Put: s.Put,
		There: func(dir string) bool { return slices.Contains(s.Dirs(), dir) },
	})
}
