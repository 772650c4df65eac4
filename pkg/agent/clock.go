package agent

import "time"

// clockSlack is how far the two clocks may drift apart within the age of a proof;
// adjusting the wall clock slowly moves it by 0.5 ms a second at most.
const clockSlack = time.Second

// stepped reports whether the wall clock and the monotonic one disagree on how long
// ago at was. Then somebody set the clock, or, which looks the same and is worse, the
// machine was suspended: the monotonic clock stood still while etcd's leases did not,
// and what looks like a proof of this second may be an hour old. A proof from before
// is void until etcd is read again.
func stepped(at, now time.Time) bool {
	return apart(now.Round(0).Sub(at.Round(0)), now.Sub(at))
}

func apart(wall, monotonic time.Duration) bool {
	return (wall - monotonic).Abs() > clockSlack
}
