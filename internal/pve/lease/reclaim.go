package lease

import (
	"context"
	"errors"
	"slices"

	"github.com/pxrun/pxrun/engine"
)

// anybody stands for the run of whoever only looks. No run has this id.
const anybody = "nobody"

// looks bounds how many dead runs are found one behind the other on the same hosts.
const looks = 8

// Reclaim gives back the leases that dead runs hold on hosts. over tells whether a run is known to be over, and then keeps it from being
// taken up again until end is called. It returns whose leases were given back. A host that cannot be looked at is passed over, and so
// is a lease of somebody who may be alive. Where there is none, nothing is written.
func (l *Locker) Reclaim(ctx context.Context, hosts []string, connect engine.Connect, over func(engine.Owner) (end func(), ok bool)) ([]engine.Owner, error) {
	hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	looker := l.holding(anybody, []byte("{}"), connect)
	var dead []engine.Owner
	for range looks {
		errs := make([]error, len(hosts))
		each(len(hosts), func(i int) { _, errs[i] = looker.step(ctx, "look", hosts[i]) })
		found := len(dead)
		for _, err := range errs {
			other, ok := errors.AsType[*conflict](err)
			if !ok || slices.ContainsFunc(dead, func(o engine.Owner) bool { return o.Run == other.locked.Owner.Run }) {
				continue
			}
			end, ok := over(other.locked.Owner)
			if !ok {
				continue
			}
			was := l.holding(other.locked.Owner.Run, []byte("{}"), connect)
			err := was.giveBack(ctx, reached(hosts, errs))
			end()
			if err != nil {
				return dead, err
			}
			dead = append(dead, other.locked.Owner)
		}
		if len(dead) == found {
			return dead, nil
		}
	}
	return dead, nil
}

// reached are the hosts that answered.
func reached(hosts []string, errs []error) []string {
	var all []string
	for i, host := range hosts {
		if _, held := errors.AsType[*conflict](errs[i]); held || errs[i] == nil {
			all = append(all, host)
		}
	}
	return all
}
