package event

// The moments of a run that somebody can be told of, beside the statuses with which it ends.
const (
	MomentStarted   = "started"
	MomentPaused    = "paused"    // it waits for an approval
	MomentRecovered = "recovered" // it ended well, and the one before did not
	MomentLeftover  = "leftover"  // it ended and left temporary changes in place
)

// Moments are all that can be asked for.
func Moments() []string {
	return []string{
		MomentStarted, MomentPaused, string(OK), string(Changed), string(Failed), string(Refused), string(Unreachable), string(Cancelled),
		MomentRecovered, MomentLeftover,
	}
}
