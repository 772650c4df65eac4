// Package reuse lets a controller's answer serve again for as long as nothing that it
// was made of has changed. The status of a cluster asks every concern what it would
// plan now, right after the concerns were asked the same by the engine; to read again
// what they read takes a tenth of the time of thinking about it again.
//
// A controller is a function of what it reads, so its answer holds while every read
// that it made gives the same keys at the same revisions. What depends on the time says
// by Result.After for how long it does not, and is not used again after that.
package reuse

import (
	"slices"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/internal/memo"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// recent is how many clusters' answers are kept: a few more than are worked on at once.
const recent = 16

// Answers returns controllers that answer as the given ones do.
func Answers(list ...controllers.Controller) []controllers.Controller {
	out := make([]controllers.Controller, len(list))
	for i, c := range list {
		out[i] = &controller{Controller: c, newest: memo.New[question, *answer](recent)}
	}
	return out
}

type controller struct {
	controllers.Controller
	newest *memo.Memo[question, *answer]
}

type question struct {
	cluster string
	layout  keys.Layout
}

// answer is the newest to one question. Who asks while it is being thought about waits
// for it rather than thinking the same.
type answer struct {
	mu    sync.Mutex
	given bool
	controllers.Result
	reads []read
	// made is when, and until when it holds; zero: for ever.
	made, until time.Time
}

// Plan implements controllers.Controller.
func (c *controller) Plan(in controllers.Input) (controllers.Result, error) {
	a := c.newest.Get(question{in.Cluster, in.Layout}, func() *answer { return &answer{} })
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given && a.good(in.Now) && a.holds(in.Snapshot) {
		res := a.Result
		if !a.until.IsZero() {
			res.After = a.until.Sub(in.Now)
		}
		return res, nil
	}
	a.given = false // also when the controller panics
	r := &recorder{s: in.Snapshot}
	in.Snapshot = r
	res, err := c.Controller.Plan(in)
	// Who appends to a list of an answer must not write into everybody's.
	res.Outputs, res.Conditions = slices.Clip(res.Outputs), slices.Clip(res.Conditions)
	if err == nil && !r.moving {
		a.given, a.Result, a.reads, a.made, a.until = true, res, r.reads, in.Now, time.Time{}
		if res.After > 0 {
			a.until = in.Now.Add(res.After)
		}
	}
	return res, err
}

// good reports whether the time has not made another answer of it. A clock that was set
// back gets a new one as well.
func (a *answer) good(now time.Time) bool {
	return a.until.IsZero() || !now.Before(a.made) && now.Before(a.until)
}
