package cli_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What a look at a cluster costs in round trips. TCP's handshake takes one. Logging in takes one for each thing that SSH wants
// answered before the next: the algorithms, the key exchange, the service, the methods, the key on offer, the signature. Then
// the server names the session's channel, without which nothing can be said in it, and answers.
const (
	tripsToConnect = 1
	tripsToLogIn   = 6
	tripsToRead    = 2
	tripsToReread  = 1 // in a session that is open
)

func TestStatusTakesTwoRoundTripsOnceItIsLoggedIn(t *testing.T) {
	for _, size := range []farSize{{nodes: 3, osds: 6, guests: 9}, {nodes: 32, osds: 200, guests: 1000}} {
		t.Run(fmt.Sprintf("%d nodes", size.nodes), func(t *testing.T) {
			if raceDetector() {
				t.Skip("the race detector's own runtime crashes in large bubbles: make test runs it once more without it")
			}
			synctest.Test(t, func(t *testing.T) { countTripsOfStatus(t, newFaraway(t, size)) })
		})
	}
}

func countTripsOfStatus(t *testing.T, f *faraway) {
	t.Helper()
	const rtt = 5 * time.Millisecond
	status := []string{"status", f.path("site.hcl"), "--watch", "--every", "1s"}
	code, out, near := f.pxrun(0, 2*time.Second, status...)
	require.Zero(t, code, out)
	code, out, far := f.pxrun(rtt, 2*time.Second, status...)
	require.Zero(t, code, out)
	for _, h := range f.lab.Spec().Hosts {
		for step, want := range map[string][]time.Duration{
			"connect": {tripsToConnect * rtt}, "authenticate": {tripsToLogIn * rtt}, "exchange": {tripsToRead * rtt, tripsToReread * rtt},
		} {
			more := far.took(step, h.Name)
			for i, own := range near.took(step, h.Name) {
				more[i] -= own
			}
			require.Equal(t, want, more, "%s: %s", h.Name, step)
		}
	}

	_, _, near = f.pxrun(0, 0, status[:2]...)
	_, _, far = f.pxrun(rtt, 0, status[:2]...)
	require.Equal(t, (tripsToConnect+tripsToLogIn+tripsToRead)*rtt, far.took("all", "")[0]-near.took("all", "")[0], "from nothing to the report")
}
